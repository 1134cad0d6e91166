"""Scheduler and I/O priority of a process of the container, set from outside (config.md "Linux process")."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.config.spec import Process


def apply_priorities(process: Process, pid: int, cgroups: Mapping[str, str]) -> None:
    """Carry out `process.scheduler` and `process.ioPriority` for `pid`, the leader of its process group.

    `cgroups`: its cgroups, as `Manager.paths` tells. Raises KernelError.
    """
    scheduler, priority = process.get("scheduler"), process.get("ioPriority")
    if scheduler:
        from pyrunc.linux import scheduler as room

        room.apply(scheduler, pid, cgroups)
    if priority:
        from pyrunc.linux import io_priority

        io_priority.apply(priority, pid)
