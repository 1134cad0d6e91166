"""I/O priority of the container process (config.md "Linux process: ioPriority"; ioprio_set(2)).

The runtime sets it from outside, for the reason that `pyrunc.linux.scheduler` gives: the class RT takes
CAP_SYS_ADMIN or CAP_SYS_NICE on the host (ioprio_check_cap() in block/ioprio.c). Classes and levels are checked by the
schema.
"""

from __future__ import annotations

from errno import EPERM

from pyrunc.errors import KernelError
from pyrunc.kernel.native import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import IOPriority

#: The spec's classes, by their value in linux/ioprio.h.
CLASSES: Final = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: linux/ioprio.h
IOPRIO_CLASS_SHIFT: Final = 13
IOPRIO_WHO_PGRP: Final = 2


def apply(wanted: IOPriority, group: int) -> None:
    """Set class and level for the whole process group (config.md), of which init is the leader. Raises KernelError."""
    level = wanted["priority"]
    value = CLASSES[wanted["class"]] << IOPRIO_CLASS_SHIFT | level
    try:
        syscall("ioprio_set", IOPRIO_WHO_PGRP, group, value)
    except OSError as error:
        step = f"set the I/O priority to {wanted['class']}, level {level}"
        remedy = "it takes CAP_SYS_ADMIN or CAP_SYS_NICE on the host" if error.errno == EPERM else ""
        raise KernelError.of(step, error, remedy=remedy) from None
