"""Mounts that a crashed runtime has left in a container's state directory, where they keep that from being removed."""

from __future__ import annotations

import os

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import MNT_DETACH, UMOUNT_NOFOLLOW
from pyrunc.kernel.mountinfo import mounts
from pyrunc.kernel.native import syscall


def mounted_below(path: str) -> list[str]:
    """The mount points in the directory `path`, in the order in which they were mounted."""
    real = os.path.realpath(path)
    return [mount.point for mount in mounts() if mount.point.startswith(f"{real}/")]


def unmount_below(path: str) -> None:
    """Detach what is mounted in the directory `path`, the last mount first. Raises KernelError.

    Only root and pyrunc write there, so no name on the way is a stranger's; still none is followed out of it.
    """
    for point in reversed(mounted_below(path)):
        try:
            syscall("umount2", os.fsencode(point), MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            raise KernelError.of(f"unmount {point}", error) from None
