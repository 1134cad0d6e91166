"""A private mount namespace for the session.

crun 1.8 refuses a host with cgroup v1 controllers and cgroup2 beside them (/sys/fs/cgroup/unified). The
session unmounts cgroup2 for itself only, and for all contenders alike.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

_MARK = "BENCH_OUTER_MOUNT_NAMESPACE"


def _current() -> str:
    return os.readlink("/proc/self/ns/mnt")


def is_own() -> bool:
    """Whether this process is in the namespace made by `enter`."""
    return os.environ.get(_MARK, _current()) != _current()


def enter(command: list[str], cwd: Path) -> int:
    """Run `command` in a new mount namespace from which nothing spreads; returns its status."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    return subprocess.run(
        [*unshare, *command], check=False, cwd=cwd, env={**os.environ, _MARK: _current()}
    ).returncode


def hide_unified_hierarchy() -> None:
    """Unmount cgroup2 where cgroup v1 controllers are mounted too."""
    assert is_own(), "must not touch the host's mounts"
    with open("/proc/self/mountinfo") as file:
        entries = [line.split() for line in file]
    kinds = {entry[4]: entry[entry.index("-") + 1] for entry in entries}
    if "cgroup" not in kinds.values():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for point, kind in kinds.items():
        if kind == "cgroup2" and libc.umount2(point.encode(), 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), point)
