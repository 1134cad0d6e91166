"""Hooks (config.md "POSIX-platform Hooks"; runtime.md "Lifecycle").

prestart, createRuntime, poststart and poststop run in the runtime's own namespaces: `run_hooks` starts them.
createContainer and startContainer run in the container's: `plan_hooks` emits them into init's program, and
`explain_hook_failure` completes the text from what they wrote.

Every hook reads the container's state as JSON on its stdin. That is a sealed memfd (`state_file`): it can be
read by many in turn, a hook that does not read it blocks nobody, and one that writes to it changes nothing.
"""

from __future__ import annotations

import os
from errno import EINVAL, ESRCH
from struct import pack

from pyrunc.config import POSTSTOP, START_CONTAINER
from pyrunc.config.annotations import hook_files
from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import (
    CLONE_PIDFD,
    CLOSE_RANGE_CLOEXEC,
    F_ADD_SEALS,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    POLLIN,
    SIGCHLD,
    SIGKILL,
)
from pyrunc.linux.environment import environment
from pyrunc.plan.program import EQ, TALK
from pyrunc.plan.talk import OUTPUT_SIZE, SAY_OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Config, Hook, Process
    from pyrunc.plan.program import Program, Register

#: Both kept for the error text.
KEEP: Final = ("", "")

#: linux/pidfd.h, since Linux 6.9.
PIDFD_SIGNAL_PROCESS_GROUP: Final = 4


# -- in the runtime's namespaces ---------------------------------------------------------------------------


def state_file(state: bytes) -> int:
    """A sealed memfd that holds `state`, at its beginning. The caller closes it."""
    from fcntl import fcntl

    fd = os.memfd_create("pyrunc-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while state:
            state = state[os.write(fd, state) :]
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def run_hooks(
    kind: str, hooks: Sequence[Hook], state: bytes, bundle: str = ".", files: tuple[str, str] = KEEP
) -> None:
    """Run the hooks one after the other in the directory `bundle`, each with `state` (JSON) on its stdin.

    `files`: where stdout and stderr are appended to ("": kept for the error). Raises PyruncError at the first that
    fails.
    """
    for failure in _run_all(kind, hooks, state, bundle, files, to_the_end=False):
        raise PyruncError(failure, code="hook-failed")


def run_poststop(
    hooks: Sequence[Hook], state: bytes, bundle: str = ".", files: tuple[str, str] = KEEP
) -> list[str]:
    """Run all poststop hooks. Failures are returned as warnings (runtime.md "Lifecycle", step 13)."""
    return _run_all(POSTSTOP, hooks, state, bundle, files, to_the_end=True)


def _run_all(
    kind: str,
    hooks: Sequence[Hook],
    state: bytes,
    bundle: str,
    files: tuple[str, str],
    *,
    to_the_end: bool,
) -> list[str]:
    failures: list[str] = []
    if not hooks:
        return failures
    from pyrunc.linux.hook_process import run

    stdin = state_file(state)
    try:
        for index, hook in enumerate(hooks):
            os.lseek(stdin, 0, os.SEEK_SET)
            failure = run(hook, stdin, bundle, files)
            if failure:
                failures.append(f"error running {kind} hook #{index}: {failure}")
                if not to_the_end:
                    break
    finally:
        os.close(stdin)
    return failures


# -- in the container's namespaces -------------------------------------------------------------------------


def slots(config: Config, program: Program) -> tuple[int, int]:
    """The numbers that the files for stdout and stderr have in init, where annotations ask for them; else -1."""
    out, err = hook_files(config.get("annotations"), "")
    return program.inherit("hook-stdout") if out else -1, program.inherit("hook-stderr") if err else -1


def open_outputs(files: tuple[str, str]) -> dict[str, int]:
    """The descriptors of the files for stdout and stderr, by `slots`. Raises KernelError."""
    from pyrunc.linux.hook_process import open_output

    opened: dict[str, int] = {}
    for slot, file in zip(("hook-stdout", "hook-stderr"), files, strict=True):
        if file:
            try:
                opened[slot] = open_output(file)
            except OSError as error:
                for descriptor in opened.values():
                    os.close(descriptor)
                raise KernelError.of(f"open {file} for the output of hooks", error) from None
    return opened


def plan_hooks(
    program: Program,
    kind: str,
    hooks: Sequence[Hook],
    *,
    state_fd: int | Register,
    output_fd: int | Register,
    files: tuple[int, int] = (-1, -1),
    process: Process,
) -> None:
    """Emit the hooks: for each a child that execs it, and the wait for it.

    `state_fd` holds the state, `output_fd` is a memfd for what the hook writes, unless `files` has a descriptor for
    its stdout or stderr; all are numbers in init, above 2. A failure ends init, after SAY_OUTPUT; its text is
    completed by `explain_hook_failure`. A startContainer hook without an environment of its own gets that of
    `process`, as with runc; any other an empty one.
    """
    inherited = (process.get("env") or ()) if kind == START_CONTAINER else ()
    kept = program.buffer(OUTPUT_SIZE)
    for index, hook in enumerate(hooks):
        _plan_hook(program, f"error running {kind} hook #{index}", f"hooks.{kind}[{index}]", hook,
                   state_fd, output_fd, files, inherited, kept)  # fmt: skip


def _plan_hook(
    program: Program,
    text: str,
    of: str,
    hook: Hook,
    state_fd: int | Register,
    output_fd: int | Register,
    given: tuple[int, int],
    inherited: Sequence[str],
    kept: int,
) -> None:
    path = hook["path"]
    pid, value = program.register(), program.register()
    child, ended, good = program.label(), program.label(), program.label()
    # One offset per memfd, shared by all who hold it: each hook reads from the beginning and writes to an empty file.
    program.call("lseek", state_fd, 0, 0, step=f"{text}: rewind the state", of=of)
    program.call("ftruncate", output_fd, 0, step=f"{text}: empty the output", of=of)
    program.call("lseek", output_fd, 0, 0, step=f"{text}: rewind the output", of=of)
    pollfd = program.buffer(8)  # struct pollfd: fd, events, revents; clone(2) puts the pidfd in its place
    program.store(pollfd + 4, POLLIN, 2)
    program.call(
        "clone", CLONE_PIDFD | SIGCHLD, 0, pollfd, 0, 0, step=f"{text}: start {path}", of=of, into=pid
    )
    program.branch(pid, EQ, 0, child)
    timeout = hook.get("timeout")
    if timeout is not None:
        # ppoll(2) as a raw call leaves the rest of the time in the timespec, so a retry does not start anew.
        limit = program.data(pack("<qq", timeout, 0))
        program.call("ppoll", pollfd, 1, limit, 0, 8, step=f"{text}: wait for {path}", of=of, into=value)
        program.branch(value, EQ, 1, ended)
        _plan_timeout(program, text, of, timeout, pid, pollfd, value)
    program.place(ended)
    status = program.buffer(8)
    program.call("wait4", pid, status, 0, 0, step=f"{text}: wait for {path}", of=of)
    program.load(value, pollfd, 4)
    program.call("close", value, step=f"{text}: close its pidfd", of=of)
    program.load(value, status, 4)
    program.branch(value, EQ, 0, good, "it succeeded")
    _plan_output(program, text, of, value, output_fd, kept)
    program.fail(0, text, of)
    program.place(child)
    out, err = (output_fd if fd < 0 else fd for fd in given)
    _plan_child(program, text, of, hook, (state_fd, out, err), inherited)
    program.place(good)
    program.release(pid, value)


def _plan_output(
    program: Program, text: str, of: str, status: Register, output_fd: int | Register, kept: int
) -> None:
    """Emit telling the runtime the status and the end of the output: SAY_OUTPUT, in one message of two parts."""
    message = program.data(pack("<IIq", SAY_OUTPUT, 0, 0))
    program.store(message + 8, status, 8)
    parts = program.data(pack("<QQQQ", message, 16, kept, 0))
    step = f"{text}: read its output"
    program.call("lseek", output_fd, 0, os.SEEK_SET, step=step, of=of)
    # EINVAL: it is shorter than that.
    program.call("lseek", output_fd, -OUTPUT_SIZE, os.SEEK_END, step=step, of=of, tolerate=(EINVAL,))
    length = program.register()
    program.call("read", output_fd, kept, OUTPUT_SIZE, step=step, of=of, into=length)
    program.store(parts + 24, length, 8)
    # As in native/init.c: writev(2) is allowed by any seccomp filter.
    program.call("writev", TALK, parts, 2, step=f"{text}: tell its output", of=of)
    program.release(length)


def _plan_timeout(
    program: Program, text: str, of: str, timeout: int, pid: Register, pollfd: int, value: Register
) -> None:
    step = f"{text}: kill it"
    program.load(value, pollfd, 4)
    # The whole process group since Linux 6.9, before that the hook alone, as with runc. Where the container
    # has a PID namespace the rest ends with init.
    program.call(
        "pidfd_send_signal",
        value,
        SIGKILL,
        0,
        PIDFD_SIGNAL_PROCESS_GROUP,
        step=step,
        of=of,
        tolerate=(EINVAL,),
    )
    program.call("pidfd_send_signal", value, SIGKILL, 0, 0, step=step, of=of, tolerate=(ESRCH,))
    program.call("wait4", pid, 0, 0, 0, step=f"{text}: wait for its end", of=of)
    program.fail(0, f"{text}: hook ran past specified timeout of {timeout:.1f}s", of)


def _plan_child(
    program: Program,
    text: str,
    of: str,
    hook: Hook,
    stdio: tuple[int | Register, int | Register, int | Register],
    inherited: Sequence[str],
) -> None:
    """What the child does. Its failures are reported on TALK before the parent's, and end the child alone."""
    path = hook["path"]
    program.call("setpgid", 0, 0, step=f"{text}: make a process group", of=of)
    for fd, source in enumerate(stdio):
        program.call("dup3", source, fd, 0, step=f"{text}: set up its file descriptor {fd}", of=of)
    # Init's own descriptors, the conversation among them, are none of the hook's.
    program.call(
        "close_range", 3, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC, step=f"{text}: close the rest on exec", of=of
    )
    args = program.strings(hook.get("args") or [path])
    env = program.strings(environment(hook.get("env") or inherited))
    program.call("execve", path, args, env, step=f"{text}: exec {path}", of=of)


def explain_hook_failure(step: str, output: tuple[int, bytes] | None) -> str:
    """The whole text for a failed step of `plan_hooks`, given what SAY_OUTPUT told: wait status and output.

    Without it (the hook could not be started, or ran too long) the step has a complete text and needs no more.
    """
    if output is None:
        return step
    from pyrunc.linux.hook_process import exit_text, shown

    status, written = output
    return f"{step}: {exit_text(status)}, output: {shown(written)}"
