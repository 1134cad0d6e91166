"""Hooks (config.md "POSIX-platform Hooks"; runtime.md "Lifecycle").

prestart, createRuntime, poststart and poststop run in the runtime's own namespaces: `run_hooks` starts them.
createContainer and startContainer run in the container's: `plan_hooks` emits them into init's program, and
`explain_hook_failure` completes the text from what they wrote.

Every hook reads the container's state as JSON on its stdin. That is a sealed memfd (`state_file`): it can be
read by many in turn, a hook that does not read it blocks nobody, and one that writes to it changes nothing.
"""

from __future__ import annotations

import os
import time
from _signal import strsignal  # type: ignore[import-not-found]  # `signal` costs 5 ms
from errno import EINVAL, ESRCH
from struct import pack

from pyrunc.errors import PyruncError, kernel_word
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
from pyrunc.kernel.native import syscall
from pyrunc.linux.environment import environment
from pyrunc.plan.program import EQ, TALK
from pyrunc.plan.talk import OUTPUT_SIZE, SAY_OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Hook, Process
    from pyrunc.plan.program import Program, Register

#: How much of a hook's stdout and of its stderr is kept for the error text: the end, in bytes. One more is read,
#: to see whether there was more.
KEPT: Final = OUTPUT_SIZE - 1

#: linux/pidfd.h, since Linux 6.9.
PIDFD_SIGNAL_PROCESS_GROUP: Final = 4

# Python ignores these two from its start on; a hook starts with the default.
_SIGPIPE: Final = 13
_SIGXFSZ: Final = 25


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


def run_hooks(kind: str, hooks: Sequence[Hook], state: bytes, bundle: str = ".") -> None:
    """Run the hooks one after the other in the directory `bundle`, each with `state` (JSON) on its stdin.

    Raises PyruncError at the first that fails.
    """
    for failure in _run_all(kind, hooks, state, bundle, to_the_end=False):
        raise PyruncError(failure, code="hook-failed")


def run_poststop(hooks: Sequence[Hook], state: bytes, bundle: str = ".") -> list[str]:
    """Run all poststop hooks. Failures are returned as warnings (runtime.md "Lifecycle", step 13)."""
    return _run_all("poststop", hooks, state, bundle, to_the_end=True)


def _run_all(kind: str, hooks: Sequence[Hook], state: bytes, bundle: str, *, to_the_end: bool) -> list[str]:
    failures: list[str] = []
    if not hooks:
        return failures
    stdin = state_file(state)
    try:
        for index, hook in enumerate(hooks):
            os.lseek(stdin, 0, os.SEEK_SET)
            failure = _run(hook, stdin, bundle)
            if failure:
                failures.append(f"error running {kind} hook #{index}: {failure}")
                if not to_the_end:
                    break
    finally:
        os.close(stdin)
    return failures


def _run(hook: Hook, stdin: int, bundle: str) -> str:
    """Run one hook; the text of its failure, or ""."""
    path = hook["path"]
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        pid = _spawn(hook, stdin, out_write, err_write, bundle)
    except OSError as error:
        os.close(out_read)
        os.close(err_read)
        return f"exec {path}: {kernel_word(error.errno or 0)}"
    finally:
        os.close(out_write)
        os.close(err_write)
    try:
        return _await(pid, hook.get("timeout"), out_read, err_read)
    finally:
        os.close(out_read)
        os.close(err_read)


def _spawn(hook: Hook, stdin: int, out: int, err: int, bundle: str) -> int:
    """Start the hook; its pid. Raises OSError."""
    # What the caller left open, a preserved descriptor of the container perhaps, is none of the hook's.
    syscall("close_range", 3, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(bundle)  # posix_spawn(3) cannot
        except OSError:
            pass  # poststop, after the bundle was removed
        return os.posix_spawn(
            hook["path"],
            hook.get("args") or [hook["path"]],
            _as_mapping(hook.get("env") or ()),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
            setpgroup=0,  # a group of its own, so that a timeout ends its children too
            setsigmask=(),
            setsigdef=(_SIGPIPE, _SIGXFSZ),
        )
    finally:
        os.fchdir(here)
        os.close(here)


def _as_mapping(entries: Sequence[str]) -> dict[bytes, bytes]:
    pairs = {}
    for entry in environment(entries):
        name, _, value = os.fsencode(entry).partition(b"=")
        pairs[name] = value
    return pairs


def _await(pid: int, timeout: int | None, out_read: int, err_read: int) -> str:
    """Wait for the hook and keep what it writes; the text of its failure, or "".

    Ends with the hook, not with the last holder of its pipes: a process that it leaves running must not hold
    up the container.
    """
    import select

    kept = {out_read: b"", err_read: b""}
    poll = select.poll()
    pidfd = -1
    status = None
    try:
        pidfd = os.pidfd_open(pid)
        for fd in (pidfd, out_read, err_read):
            poll.register(fd, select.POLLIN)
        for fd in kept:
            os.set_blocking(fd, False)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # poll(2) takes milliseconds in an int; a longer wait is made of several.
            left = None if deadline is None else min(max(0, deadline - time.monotonic()) * 1000, 1e9)
            ready = [fd for fd, _ in poll.poll(left)]
            for fd in ready:
                if fd in kept and not _read(fd, kept):
                    poll.unregister(fd)
            if pidfd in ready:
                status = os.waitpid(pid, 0)[1]
                break
            if deadline is not None and time.monotonic() >= deadline:
                break
    finally:
        if status is None:
            _kill(pid)
        if pidfd >= 0:
            os.close(pidfd)
    for fd in kept:
        while _read(fd, kept):
            pass
    if status is None:
        return f"hook ran past specified timeout of {timeout:.1f}s"
    if status == 0:
        return ""
    return f"{exit_text(status)}, stdout: {_shown(kept[out_read])}, stderr: {_shown(kept[err_read])}"


def _read(fd: int, kept: dict[int, bytes]) -> bool:
    """Take what there is; False at the end of file or when nothing is there."""
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return False
    kept[fd] = (kept[fd] + data)[-KEPT - 1 :]
    return bool(data)


def _kill(pid: int) -> None:
    # Not yet waited for, so the pid is still the hook's. Its group first, then the hook itself, which may
    # have moved into another group.
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, SIGKILL)
        except ProcessLookupError:
            pass  # ended by itself meanwhile
    os.waitpid(pid, 0)


def _shown(output: bytes) -> str:
    text = output[-KEPT:].decode("utf-8", "backslashreplace").strip()
    return "…" + text if len(output) > KEPT else text


def exit_text(status: int) -> str:
    """The words for a status of wait(2)."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"signal: {(strsignal(number) or str(number)).lower()}"
    return f"exit status {os.WEXITSTATUS(status)}"


# -- in the container's namespaces -------------------------------------------------------------------------


def plan_hooks(
    program: Program,
    kind: str,
    hooks: Sequence[Hook],
    *,
    state_fd: int | Register,
    output_fd: int | Register,
    process: Process,
) -> None:
    """Emit the hooks: for each a child that execs it, and the wait for it.

    `state_fd` holds the state, `output_fd` is a memfd for what the hook writes; both are numbers in init, above
    2. A failure ends init, after SAY_OUTPUT; its text is completed by `explain_hook_failure`. A startContainer
    hook without an environment of its own gets that of `process`, as with runc; any other an empty one.
    """
    inherited = (process.get("env") or ()) if kind == "startContainer" else ()
    kept = program.buffer(OUTPUT_SIZE)
    for index, hook in enumerate(hooks):
        _plan_hook(program, f"error running {kind} hook #{index}", f"hooks.{kind}[{index}]", hook,
                   state_fd, output_fd, inherited, kept)  # fmt: skip


def _plan_hook(
    program: Program,
    text: str,
    of: str,
    hook: Hook,
    state_fd: int | Register,
    output_fd: int | Register,
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
    _plan_child(program, text, of, hook, state_fd, output_fd, inherited)
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
    state_fd: int | Register,
    output_fd: int | Register,
    inherited: Sequence[str],
) -> None:
    """What the child does. Its failures are reported on TALK before the parent's, and end the child alone."""
    path = hook["path"]
    program.call("setpgid", 0, 0, step=f"{text}: make a process group", of=of)
    for fd, source in ((0, state_fd), (1, output_fd), (2, output_fd)):
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
    status, written = output
    return f"{step}: {exit_text(status)}, output: {_shown(written)}"
