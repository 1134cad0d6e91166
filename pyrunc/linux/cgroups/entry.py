"""Why a cgroup takes no process, whether clone3(2) puts it there or it enters by its own write."""

from __future__ import annotations

from errno import EACCES, EBUSY, EOPNOTSUPP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: errno → remedy (cgroup-v2.rst "Delegation Containment", "No Internal Process Constraint", "Threads").
REMEDIES: Final = {
    EACCES: "run pyrunc inside the cgroups that are delegated to you (systemd-run --user --scope)",
    EBUSY: "cgroups below it have controllers, so it cannot hold processes: use another linux.cgroupsPath",
    EOPNOTSUPP: "its cgroup.type does not let it hold processes: use another linux.cgroupsPath",
}


def explain(number: int) -> str:
    """What to do about errno `number`, "" for one that has nothing to do with cgroups."""
    return REMEDIES.get(number, "")
