"""A filter for a process of pyrunc's own that makes a few system calls only (seccomp(2))."""

from __future__ import annotations

import sys

from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.linux.seccomp.compile import ARCHITECTURES
from pyrunc.linux.seccomp.prefix import ARCH, JEQ, LD, NUMBER, RET, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

_ALLOW: Final = 0x7FFF_0000
_KILL_PROCESS: Final = 0x8000_0000


def narrow(names: Sequence[str]) -> bytes:
    """The BPF program that allows the calls `names`, and kills the process for any other; b"" on an unknown machine.

    The machine is the interpreter's, which pyrunc-init was built with: uname(2) tells a 64-bit process of 32 bits
    where its caller wanted it so (personality(2)).
    """
    machine = getattr(sys.implementation, "_multiarch", "").partition("-")[0]
    family = ARCHITECTURES.get(machine)
    if family is None:
        return b""
    count = len(names)
    program = [
        op(LD, ARCH),
        op(JEQ, next(iter(family.values())), 1, 0),
        op(RET, _KILL_PROCESS),
        op(LD, NUMBER),
    ]
    program += [op(JEQ, SYSCALLS[name], count - index, 0) for index, name in enumerate(names)]
    program += [op(RET, _KILL_PROCESS), op(RET, _ALLOW)]
    return b"".join(program)
