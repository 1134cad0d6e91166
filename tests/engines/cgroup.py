"""Limits of a container as the host sees them, by the pid of its first process."""

from __future__ import annotations

import os
from pathlib import Path

#: Whether this host has only cgroup v2.
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def limit(pid: int, controller: str, v1: str, v2: str) -> list[str]:
    """The words in the file of a limit: `v1` in the hierarchy of that controller, or `v2`."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    (path,) = [path for _, names, path in lines if ("" if V2 else controller) in names.split(",")]
    top = Path("/sys/fs/cgroup") if V2 else Path("/sys/fs/cgroup", controller)
    return (top / path.lstrip("/") / (v2 if V2 else v1)).read_text().split()


def memory(pid: int) -> int:
    """The memory limit, in bytes."""
    (value,) = limit(pid, "memory", "memory.limit_in_bytes", "memory.max")
    return int(value)


def cpu_quota(pid: int) -> int:
    """The processor time in microseconds that a period allows."""
    return int(limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")[0])


def tasks(pid: int) -> int:
    """How many processes and threads there may be."""
    (value,) = limit(pid, "pids", "pids.max", "pids.max")
    return int(value)
