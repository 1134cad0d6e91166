"""Reading the small files of the host's /proc."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: PROC_USER_INIT_INO of include/linux/proc_ns.h: the inode of the initial user namespace in nsfs.
INITIAL_USER_NAMESPACE: Final = 0xEFFF_FFFD


def read(path: str) -> str:
    """The text of the file `path`, at most 64 KiB. Raises OSError. A third of the time that open() takes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fsdecode(os.read(descriptor, 1 << 16))
    finally:
        os.close(descriptor)


def pids_of(pid: int) -> list[int]:
    """The pids of a process, in this /proc's PID namespace first, in its own last (proc(5), NSpid); [] if it ended."""
    try:
        text = read(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return []
    for line in text.splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    return []


def own_pid(pid: int) -> int:
    """The pid that a process has in its own PID namespace; `pid` if it has ended, which nobody will ask any more."""
    return (pids_of(pid) or [pid])[-1]


def children() -> list[int]:
    """The pids of this process's children, zombies too (proc_tid_children(5)). Raises OSError."""
    return [int(word) for word in read(f"/proc/self/task/{os.getpid()}/children").split()]


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace other than the initial one (user_namespaces(7))."""
    return os.stat("/proc/self/ns/user").st_ino != INITIAL_USER_NAMESPACE
