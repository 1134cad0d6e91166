"""What init says and hears: the conversation with the runtime, as it is emitted into the program.

    runtime (pyrunc create)                                pyrunc-init
      clone3 + execveat  ───────────────────────────────▶  enters its cgroup; then, only where namespaces are
                         ◀──────────── SAY_PID  pid ─────  joined: setns, clone3 CLONE_PARENT, exit
      write id maps (only with a user namespace)
      "go"               ───────────────────────────────▶  root, mounts, devices
                         ◀──────── SAY_CONSOLE  fd ──────  the pty's master (only with process.terminal)
                         ◀──────── SAY_REACHED  HOOKS ───
      rlimits, oom score, prestart and createRuntime hooks
      "go"               ───────────────────────────────▶  createContainer hooks, pivot_root, masks, sysctl,
                         ◀──────── SAY_REACHED  HOME ────  (only where HOME is not in process.env)
      "/root"            ───────────────────────────────▶  credentials, look-up of the program
                         ◀──────── SAY_REACHED  READY ───
      record saved
      "go"               ───────────────────────────────▶  accept on start.sock in the state directory
    runtime (pyrunc start)
      connect, "go"      ───────────────────────────────▶  startContainer hooks, seccomp, execve
                         ◀──────── end of file: it runs

At any step SAY_FAILED with the step's number, errno and detail may come instead; then init has ended.
End of file on init's side means that the runtime died: init ends. `pyrunc run` is both runtimes at once and
says its last "go" on the first socket, without start.sock.
"""

from __future__ import annotations

from struct import pack

from pyrunc.plan.program import NE, TALK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Program

#: native/init.h, enum said.
SAY_FAILED, SAY_PID, SAY_REACHED, SAY_CONSOLE = 1, 2, 3, 4

#: The places of SAY_REACHED.
HOOKS, HOME, READY = 1, 2, 3

GO: Final = b"go"


def say(program: Program, place: int, step: str) -> None:
    """Emit telling the runtime that `place` is reached."""
    message = program.data(pack("<IIq", SAY_REACHED, 0, place))
    program.call("sendto", TALK, message, 16, 0, 0, 0, step=step)


def hear(program: Program, step: str, buffer: int = 0, size: int = 8) -> None:
    """Emit waiting for the runtime's reply, and ending where the runtime has gone.

    The reply goes into the `size` bytes at `buffer`, the last of which stays NUL.
    """
    length = program.register()
    heard = program.label()
    program.call("recvfrom", TALK, buffer or program.buffer(size), size - 1, 0, 0, 0, step=step, into=length)
    program.branch(length, NE, 0, heard)
    program.call("exit_group", 1, step="end, because the runtime has gone")
    program.place(heard)
    program.release(length)
