"""One raw system call at a time: `syscall(2)` behind an OSError that names the call."""

from __future__ import annotations

import errno
import os

from pyrunc.kernel._border import ffi, lib
from pyrunc.kernel.numbers import SYSCALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Word = Union[int, bytes, bytearray, None]

_MASK = (1 << 64) - 1


def syscall(name: str, *args: Word) -> int:
    """Make the system call `name` and return its result.

    Integers are passed as they are, `bytes` and `bytearray` as the address of their first byte (bytes have a
    NUL behind them; give a bytearray where the kernel writes), None as NULL. Retried on EINTR. Raises
    OSError(errno, text, name).
    """
    words = [0, 0, 0, 0, 0, 0]
    keep = []
    for place, argument in enumerate(args):
        if argument is None:
            continue
        if isinstance(argument, int):
            words[place] = argument & _MASK
        else:
            pointer = ffi.from_buffer(argument)
            keep.append(pointer)
            words[place] = int(ffi.cast("uintptr_t", pointer))
    while True:
        result: int = lib.border_syscall(SYSCALLS[name], *words)
        if result >= 0:
            return result
        if result != -errno.EINTR:
            raise OSError(-result, os.strerror(-result), name)


def address(buffer: bytes | bytearray) -> int:
    """Where `buffer` lies, for structures that point to others. Valid while the caller keeps the buffer."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))
