"""The settings of the host's cgroup v2 hierarchy, which criu loses.

They belong to the one hierarchy, not to a mount: whoever mounts it without them, as criu does for itself, takes them
from everybody (cgroup-v2.rst "Mounting"). Without nsdelegate a container's root could raise its own limits. Of two
checkpoints at the same moment the second may take for the host's settings what the first one's criu has left.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import (
    AT_FDCWD,
    FSCONFIG_CMD_RECONFIGURE,
    FSCONFIG_SET_FLAG,
    FSPICK_CLOEXEC,
)
from pyrunc.kernel.mountinfo import mounts
from pyrunc.kernel.native import syscall
from pyrunc.linux.cgroups.layout import unified_flags


def put_back(flags: tuple[str, ...]) -> None:
    """Give the hierarchy `flags` (from `unified_flags`), unless it still has them. Raises KernelError."""
    if set(flags) <= set(unified_flags()):
        return
    point = mounts("cgroup2")[0].point
    try:
        # Not mount(2), whose MS_REMOUNT would change the flags of that one mount, too.
        context = syscall("fspick", AT_FDCWD, os.fsencode(point), FSPICK_CLOEXEC)
        try:
            for flag in flags:
                syscall("fsconfig", context, FSCONFIG_SET_FLAG, os.fsencode(flag), None, 0)
            syscall("fsconfig", context, FSCONFIG_CMD_RECONFIGURE, None, None, 0)
        finally:
            os.close(context)
    except OSError as error:
        raise KernelError.of(
            f"give {point} back {','.join(flags)}, which criu has taken from it",
            error,
            remedy=f"mount -o remount,{','.join(flags)} {point}",
        ) from error
