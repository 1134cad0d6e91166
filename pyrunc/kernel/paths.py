"""Opening paths that somebody else controls: openat2(2), resolved inside a root."""

from __future__ import annotations

import os
from stat import S_ISREG
from struct import pack

from pyrunc.kernel.constants import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
from pyrunc.kernel.native import syscall
from pyrunc.kernel.structs import OPEN_HOW_SIZE

#: sizeof(struct open_how), openat2(2): flags, mode, resolve, each 64 bits.

#: How often a path is opened again before what disturbs it is taken for an attack; init does it as often.
_TRIES = 1000


def open_how(flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) -> bytes:
    """The struct open_how of openat2(2)."""
    return pack("<QQQ", flags | os.O_CLOEXEC, mode, resolve)


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as if the directory descriptor `root` were `/`: symbolic links and `..` stay inside.

    Magic links of procfs are refused (ELOOP). The descriptor is close-on-exec. Raises OSError.
    """
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    how = open_how(flags, mode)
    for _ in range(_TRIES):
        try:
            return syscall("openat2", root, raw, how, OPEN_HOW_SIZE)
        except BlockingIOError:  # EAGAIN: something on the host was renamed or mounted while ".." was passed
            continue
    return syscall("openat2", root, raw, how, OPEN_HOW_SIZE)


def open_regular(root: int, path: str | bytes) -> int:
    """`path` inside `root` opened for reading, or -1 if it is not a regular file. Raises OSError.

    Opening a device or a FIFO can have effects, so a descriptor without access comes first.
    """
    handle = open_in_root(root, path, os.O_PATH)
    try:
        if not S_ISREG(os.fstat(handle).st_mode):
            return -1
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(handle)
