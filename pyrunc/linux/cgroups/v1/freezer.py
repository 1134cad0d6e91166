"""Freezing a cgroup in the v1 freezer hierarchy (admin-guide/cgroup-v1/freezer-subsystem.rst)."""

from __future__ import annotations

import time
from errno import ENODEV, ENOENT

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.files import put, read, write

#: How often the state is asked for; every 25th time after a short wait, every 50th after a thaw.
TRIES = 1000


def freeze(home: str) -> None:
    """Stop every process in `home` and below. Raises PyruncError if they do not stop; they run then.

    A process that forks as fast as it can may keep the cgroup at FREEZING for ever; letting it go on for
    a moment and freezing again gets it.
    """
    for attempt in range(1, TRIES + 1):
        write(home, "freezer.state", "FROZEN")
        if attempt % 25 == 0:
            time.sleep(0.00001)
        if state(home) == "FROZEN":
            return
        if attempt % 50 == 0:
            write(home, "freezer.state", "THAWED")
            time.sleep(0.01)
    write(home, "freezer.state", "THAWED")
    raise PyruncError(f"freeze cgroup {home}: its processes do not stop", remedy="try again")


def thaw(home: str) -> None:
    """Let the processes go on."""
    write(home, "freezer.state", "THAWED")


def thaw_all(home: str) -> None:
    """Let every process in `home` and below go on, also where the container itself has frozen a cgroup inside.

    A process that is frozen in cgroup v1 does not even follow SIGKILL, unlike in v2.
    """
    for above, name in tree.below(home):
        try:
            put(name, "freezer.state", "THAWED", above)
        except OSError as error:
            if error.errno not in (ENOENT, ENODEV):  # removed meanwhile
                raise KernelError.of(f"thaw the cgroups in {home}", error) from error


def state(home: str) -> str:
    """THAWED, FREEZING or FROZEN; a frozen parent counts."""
    return read(home, "freezer.state")
