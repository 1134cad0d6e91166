"""One hook in the runtime's own namespaces: started, waited for, its output kept (config.md "POSIX-platform Hooks")."""

from __future__ import annotations

import os
import time
from _signal import strsignal  # type: ignore[import-not-found]  # `signal` costs 5 ms

from pyrunc.errors import kernel_word
from pyrunc.kernel.constants import CLOSE_RANGE_CLOEXEC, SIGKILL
from pyrunc.kernel.native import syscall
from pyrunc.linux.environment import environment
from pyrunc.plan.talk import OUTPUT_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Hook

#: How much of a hook's stdout and of its stderr is kept for the error text: the end, in bytes. One more is read,
#: to see whether there was more.
KEPT: Final = OUTPUT_SIZE - 1

# Python ignores these two from its start on; a hook starts with the default.
_SIGPIPE: Final = 13
_SIGXFSZ: Final = 25


def run(hook: Hook, stdin: int, bundle: str, files: tuple[str, str]) -> str:
    """Run one hook; the text of its failure, or ""."""
    reads: list[int] = []
    writes: list[int] = []
    try:
        for file in files:
            step = f"open {file}"
            read, write = (-1, open_output(file)) if file else os.pipe()
            reads.append(read)
            writes.append(write)
        step = f"exec {hook['path']}"
        pid = _spawn(hook, stdin, writes[0], writes[1], bundle)
        while writes:
            os.close(writes.pop())
        return _await(pid, hook.get("timeout"), reads, files)
    except OSError as error:
        return f"{step}: {kernel_word(error.errno or 0)}"
    finally:
        for fd in (*writes, *reads):
            if fd >= 0:
                os.close(fd)


def open_output(path: str) -> int:
    """A file of the host's that takes what hooks write, made where it is missing. Raises OSError.

    Of a FIFO too: ENXIO where nobody reads it, for to wait for a reader could be for ever, and `delete` with it.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    opened = os.open(path, flags, 0o600)
    os.set_blocking(opened, True)  # hooks are not used to anything else
    return opened


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


def _await(pid: int, timeout: int | None, reads: Sequence[int], files: tuple[str, str]) -> str:
    """Wait for the hook and keep what it writes; the text of its failure, or "".

    Ends with the hook, not with the last holder of its pipes: a process that it leaves running must not hold
    up the container.
    """
    import select

    kept = {fd: b"" for fd in reads if fd >= 0}
    poll = select.poll()
    pidfd = -1
    status = None
    try:
        pidfd = os.pidfd_open(pid)
        for fd in (pidfd, *kept):
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
    out, err = (f"in {file}" if file else shown(kept[fd]) for file, fd in zip(files, reads, strict=True))
    return f"{exit_text(status)}, stdout: {out}, stderr: {err}"


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


def shown(output: bytes) -> str:
    """What of the output is told."""
    text = output[-KEPT:].decode("utf-8", "backslashreplace").strip()
    return "…" + text if len(output) > KEPT else text


def exit_text(status: int) -> str:
    """The words for a status of wait(2)."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"signal: {(strsignal(number) or str(number)).lower()}"
    return f"exit status {os.WEXITSTATUS(status)}"
