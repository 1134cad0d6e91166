"""What a descriptor lies in: the magic number of its file system (statfs(2), linux/magic.h)."""

from __future__ import annotations

from pyrunc.kernel.structs import STATFS_AT_TYPE, STATFS_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.plan.program import Program, Register


def plan_magic(
    program: Program, descriptor: Register, into: Register, step: str, of: str, status: int = 0
) -> None:
    """Emit loading the magic number of the file system of `descriptor` into the register `into`.

    `status`: the address of a struct statfs to use, for who asks often.
    """
    status = status or program.buffer(STATFS_SIZE)
    program.call("fstatfs", descriptor, status, step=step, of=of)
    program.load(into, status + STATFS_AT_TYPE, 8)
