"""Putting a process of a test into a container's cgroup from outside; the runtime's init enters by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrunc.linux.cgroups import files

if TYPE_CHECKING:
    from pyrunc.linux.cgroups.manager import Manager


def enter(manager: Manager, pid: int) -> None:
    """Move process `pid` into the cgroup in every hierarchy."""
    for path in set(manager.paths().values()):
        files.write(path, "cgroup.procs", str(pid))
