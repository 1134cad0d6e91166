"""Freezing a cgroup in the v1 freezer hierarchy (admin-guide/cgroup-v1/freezer-subsystem.rst)."""

from __future__ import annotations

import time
from errno import ENODEV, ENOENT

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.files import put, read, write

#: How long processes may take to stop, in seconds. A cgroup without processor time left gets some each second at
#: the latest (the longest cpu.cfs_period_us).
PATIENCE = 10.0
#: Seconds between two questions for the state: at first, and at most; it doubles.
SHORTEST, LONGEST = 0.00001, 0.005
#: After how many questions a cgroup is thawed for a moment.
TRIES = 50


def freeze(home: str, patience: float = PATIENCE) -> None:
    """Stop every process in `home` and below. Raises PyruncError if they do not within `patience` s; they run then.

    The kernel tells nobody of the state, so it is asked for. A process that forks as fast as it can may keep the
    cgroup at FREEZING for ever; letting it go on for a moment and freezing again gets it.
    """
    tree.refuse_own(home)
    until = time.monotonic() + patience
    try:
        while not _freezes(home):
            if time.monotonic() > until:
                raise PyruncError(
                    f"freeze cgroup {home}: its processes do not stop",
                    remedy="try again",
                    code="cannot-freeze",
                )
            thaw(home)
            time.sleep(2 * LONGEST)
    except BaseException:
        thaw(home)
        raise


def _freezes(home: str) -> bool:
    wait = SHORTEST
    for _ in range(TRIES):
        # Each write reaches the processes that were forked since the last one.
        write(home, "freezer.state", "FROZEN")
        if state(home) == "FROZEN":
            return True
        time.sleep(wait)
        wait = min(2 * wait, LONGEST)
    return False


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
