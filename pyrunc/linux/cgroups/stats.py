"""What a container has used, after its cgroups: the `data` of an event "stats".

Names, units and which zeros are left out are runc's (its types/events.go); containerd's go-runc and whoever else reads
runc's events decode just that. Times are in nanoseconds, sizes in bytes, pressure as the kernel tells it
(accounting/psi.rst: percentages, and microseconds in total).

Both versions have a table READERS, controller → function that puts the numbers of a cgroup directory into the document.
"""

from __future__ import annotations

import os
from errno import EISDIR, ENODEV, ENOENT, EOPNOTSUPP

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import hugetlb
from pyrunc.linux.cgroups.files import get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from pyrunc.linux.cgroups.manager import Manager

    Data = dict[str, Any]

#: What stands for no limit: the largest number of 64 bits, as Go's math.MaxUint64.
UNLIMITED: Final = (1 << 64) - 1
#: Numbers of a cpuset, all of them of cgroup v1. They stand in the document without one, too.
CPUSET_FLAGS: Final = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)
#: A file that is not there, or not any more; a cgroup of the container's that it has named like one; a file whose
#: subject is turned off (psi=0).
_ABSENT: Final = (ENOENT, ENODEV, EISDIR, EOPNOTSUPP)


def read(manager: Manager) -> Data:
    """The document for the cgroups of `manager`.

    What no controller counts is zero or left out. What no v1 hierarchy counts is taken from the unified one of a
    hybrid host. Raises PyruncError where the cgroups are gone, KernelError where one cannot be read.
    """
    paths = manager.paths()
    data = empty()
    unified = paths.get("", "")
    if unified:
        from pyrunc.linux.cgroups.v2 import stats as v2

        for controller, reader in v2.READERS.items():
            if controller not in paths:
                reader(unified, data)
    if len(paths) > bool(unified):
        from pyrunc.linux.cgroups.v1 import stats as v1

        for controller, home in paths.items():
            if controller in v1.READERS:
                v1.READERS[controller](home, data)
    if unified:
        v2.read_pressure(unified, data)  # to what the readers have put there
    # Asked afterwards: what is there now was there while it was read.
    homes = paths.values()
    if not any(os.path.isdir(home) for home in homes):
        raise PyruncError(
            f"the container's cgroup {next(iter(homes))} is gone",
            remedy="the container has ended or left it",
            code="no-cgroup",
        )
    return data


def empty() -> Data:
    """The document of a container that nothing is known of."""
    return {
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": dict.fromkeys(CPUSET_FLAGS, 0),
        "memory": {name: entry() for name in ("usage", "swap", "kernel", "kernelTCP")},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        # Of interfaces that the runtime itself made, which neither runc nor pyrunc does.
        "network_interfaces": None,
    }


def entry(limit: int = 0, usage: int = 0, peak: int = 0, failures: int = 0) -> Data:
    """One kind of memory: its limit, usage, highest usage, and how often the limit was hit."""
    return {"limit": limit, **counted({"usage": usage, "max": peak}), "failcnt": failures}


def counted(values: Mapping[str, Any]) -> Data:
    """`values` without those that are zero or empty, as Go's omitempty."""
    return {name: value for name, value in values.items() if value}


def text(home: str, name: str) -> str:
    """The text of the file `name`, "" where the cgroup has none. Raises KernelError."""
    try:
        return get(home, name)
    except OSError as error:
        if error.errno in _ABSENT:
            return ""
        raise KernelError.of(f"read {name} in {home}", error) from error


def number(home: str, name: str) -> int:
    """The number in the file `name`: `UNLIMITED` for "max", 0 where the cgroup has no such file."""
    found = text(home, name)
    return UNLIMITED if found == "max" else int(found or 0)


def numbers(home: str, name: str) -> dict[str, int]:
    """The numbers in the file `name` of lines "key number"; others, as patched kernels have them, do not count."""
    found = {}
    for line in text(home, name).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def pids_limit(home: str) -> int:
    """The limit in pids.max, 0 for none. The same in both versions."""
    limit = number(home, "pids.max")
    return 0 if limit == UNLIMITED else limit


def page_sizes(home: str) -> list[str]:
    """The sizes of huge pages that the cgroup `home` counts."""
    try:
        return hugetlb.sizes(home)
    except FileNotFoundError:
        return []  # removed meanwhile
