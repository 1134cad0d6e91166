"""What init says and hears: the conversation with the runtime, as it is emitted into the program.

    runtime (pyrunc create)                                pyrunc-init
      clone3 + execveat  ───────────────────────────────▶  waits (only where systemd makes the cgroup)
      "go"               ───────────────────────────────▶  enters its cgroup; then, only where namespaces are
                         ◀──────────── SAY_PID  pid ─────  joined: setns, clone3 CLONE_PARENT, exit
      "go"               ───────────────────────────────▶  (what was cloned waits, so that this is heard first)
      write id maps (only with a user namespace)
      "go"               ───────────────────────────────▶  root, mounts
                         ◀───────── SAY_COPY  2 fds ─────  for each tmpcopyup: the directory, the tmpfs
                         ◀──────── SAY_IDMAP  fd ───────  for each id-mapped mount, still detached
      "go"               ───────────────────────────────▶  the other mounts, devices
                         ◀──────── SAY_CONSOLE  fd ──────  the pty's master (only with process.terminal)
                         ◀──────── SAY_REACHED  HOOKS ───
      rlimits, oom score, network devices, prestart and createRuntime hooks
      "go"               ───────────────────────────────▶  createContainer hooks, pivot_root, masks, sysctl,
                         ◀──────── SAY_REACHED  PID ─────  (only with LISTEN_FDS, without a PID namespace of its own)
      "4711"             ───────────────────────────────▶
                         ◀──────── SAY_REACHED  HOME ────  (only where HOME is not in process.env)
      "/root"            ───────────────────────────────▶
                         ◀── SAY_REACHED  PRIORITIES ────  (only with process.scheduler or process.ioPriority)
      scheduler, I/O priority
      "go"               ───────────────────────────────▶  credentials, look-up of the program
                         ◀─────── SAY_LISTENER  fd ──────  (only with seccomp notify, without no_new_privs)
      sent on to the agent; "go"  ──────────────────────▶
                         ◀──────── SAY_REACHED  READY ───
      record saved
      "go"               ───────────────────────────────▶  accept on start.sock in the state directory
    runtime (pyrunc start)
      connect, "go"      ───────────────────────────────▶  seccomp (with no_new_privs)
                         ◀─────── SAY_LISTENER  fd ──────  (only with seccomp notify)
      "go"               ───────────────────────────────▶  startContainer hooks
                         ◀──────────── SAY_PID  pid ─────  (only with --init and LISTEN_FDS: from init's child)
      "4711"             ───────────────────────────────▶  execve
                         ◀──────── end of file: it runs  (with --init: or it was killed, as the name of init tells)

A process that mounts in a container that runs (`pyrunc mounts`, linux/mounts/running.py) speaks in the same way:

    runtime                                                pyrunc-init
                         ◀──────── SAY_MOUNT  fd ────────  each mount, still detached
      maps ids, saves the record
      "go"               ───────────────────────────────▶  enters the container's mount namespace, attaches them
                         ◀───────── SAY_COPY  2 fds ─────  for each tmpcopyup, answered with "go"
                         ◀──────── SAY_REACHED  READY ───  and ends

and in `mounts remove`:

      saves the record
      "go"               ───────────────────────────────▶  looks at all that is to go
                         ◀──────── SAY_REACHED  i ───────  number i is unmounted

One that becomes criu (`pyrunc checkpoint`, `pyrunc restore`, linux/criu/start.py) says once:

                         ◀──────── SAY_CRIU  fd ─────────  the socket on which criu is going to be spoken to
                         ◀──────── end of file: criu runs

At any step SAY_FAILED with the step's number, errno and detail may come instead; then init has ended. Where a
hook that init ran has failed, SAY_OUTPUT with its wait status and the end of its output comes before.
End of file on init's side means that the runtime died: init ends. `pyrunc run` is both runtimes at once and
says its last "go" on the first socket, without start.sock.
"""

from __future__ import annotations

from struct import pack

from pyrunc.kernel.constants import MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET
from pyrunc.plan.program import NE, TALK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Program, Register

#: native/init.h, enum said.
SAY_FAILED, SAY_PID, SAY_REACHED, SAY_CONSOLE = 1, 2, 3, 4
SAY_COPY, SAY_OUTPUT, SAY_LISTENER, SAY_IDMAP = 5, 6, 7, 8
SAY_MOUNT, SAY_CRIU = 9, 10

#: Bytes of a hook's output in SAY_OUTPUT, at most.
OUTPUT_SIZE: Final = 4097

#: The places of SAY_REACHED.
HOOKS, HOME, READY, PRIORITIES, PID = 1, 2, 3, 4, 5

GO: Final = b"go"

#: The name (comm) of init. One that stays with the container has the other until it has seen its child execute a
#: program: it has no part in the conversation by then, which nobody in the container may keep open.
NAME: Final = "pyrunc-init"
NAME_BEFORE: Final = "pyrunc-starting"


def say(program: Program, place: int, step: str) -> None:
    """Emit telling the runtime that `place` is reached."""
    message = program.data(pack("<IIq", SAY_REACHED, 0, place))
    # write(2) and read(2): what a seccomp filter that is loaded by then certainly allows.
    program.call("write", TALK, message, 16, step=step)


def give(program: Program, descriptor: Register, said: int, value: int, *, step: str, of: str) -> None:
    """Emit handing a descriptor to the runtime, with `said` and `value`."""
    send(program, descriptor, said, value, step=step, of=of)
    program.given.append((said, value))


def send(program: Program, descriptor: Register, said: int, value: int, *, step: str, of: str) -> None:
    """Emit sending `said` and `value` with a descriptor beside it on the socket TALK (unix(7), SCM_RIGHTS)."""
    message = program.data(pack("<IIq", said, len(program), value))
    part = program.data(pack("<QQ", message, 16))
    # struct cmsghdr: cmsg_len, cmsg_level, cmsg_type, then the descriptor, padded to 8.
    control = program.data(pack("<QiiiI", 20, SOL_SOCKET, SCM_RIGHTS, -1, 0))
    program.store(control + 16, descriptor, 4)
    # struct msghdr: name, its length, parts, their number, control, its length, flags.
    header = program.data(pack("<QIIQQQQiI", 0, 0, 0, part, 1, control, 24, 0, 0))
    program.call("sendmsg", TALK, header, MSG_NOSIGNAL, step=step, of=of)


def hear(program: Program, step: str, buffer: int = 0, size: int = 8, call: str = "read") -> None:
    """Emit waiting for the runtime's reply, and ending where the runtime has gone.

    The reply goes into the `size` bytes at `buffer`, the last of which stays NUL. `call`: read or recvfrom.
    """
    length = program.register()
    heard = program.label()
    program.call(call, TALK, buffer or program.buffer(size), size - 1, step=step, into=length)
    program.branch(length, NE, 0, heard)
    program.call("exit_group", 1, step="end, because the runtime has gone")
    program.place(heard)
    program.release(length)
