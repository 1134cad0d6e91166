"""What cgroup v2 counts (cgroup-v2.rst), in the terms of cgroup v1 as far as it has them."""

from __future__ import annotations

from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.stats import (
    UNLIMITED,
    counted,
    entry,
    number,
    numbers,
    page_sizes,
    pids_limit,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.linux.cgroups.stats import Data

#: Part of the document → file with its pressure.
_PRESSURE: Final = {"cpu": "cpu.pressure", "memory": "memory.pressure", "blkio": "io.pressure"}
#: Key of io.stat → list of the document, operation.
_IO: Final = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def _cpu(home: str, data: Data) -> None:
    found = numbers(home, "cpu.stat")  # there without the controller, too, then without the throttling

    def nanoseconds(key: str) -> int:
        return found.get(key, 0) * 1000

    data["cpu"] = {
        "usage": {
            **counted({"total": nanoseconds("usage_usec")}),
            "kernel": nanoseconds("system_usec"),
            "user": nanoseconds("user_usec"),
        },
        "throttling": counted(
            {
                "periods": found.get("nr_periods"),
                "throttledPeriods": found.get("nr_throttled"),
                "throttledTime": nanoseconds("throttled_usec"),
            }
        ),
    }


def _memory(home: str, data: Data) -> None:
    raw = numbers(home, "memory.stat")
    if not raw:
        return  # no controller
    usage, limit = number(home, "memory.current"), number(home, "memory.max")
    swap_limit = number(home, "memory.swap.max")
    data["memory"] |= {
        **counted({"cache": raw.get("file"), "raw": raw}),
        # Of Linux 5.19.
        "usage": entry(
            limit, usage, number(home, "memory.peak"), numbers(home, "memory.events").get("max", 0)
        ),
        # Memory and swap together, as in cgroup v1. The highest sum is unknown: both peaks need not be of one moment.
        "swap": entry(
            UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit,
            usage + number(home, "memory.swap.current"),
            failures=numbers(home, "memory.swap.events").get("max", 0),
        ),
    }


def _pids(home: str, data: Data) -> None:
    current = number(home, "pids.current")
    if not current:
        # Without the controller processes are counted, not threads.
        current = len(tree.pids(home))
    data["pids"] = counted({"current": current, "limit": pids_limit(home)})


def _io(home: str, data: Data) -> None:
    lists: dict[str, list[dict[str, Any]]] = {}
    for line in text(home, "io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        for word in words:
            key, _, value = word.partition("=")
            if key in _IO:
                name, operation = _IO[key]
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}
                lists.setdefault(name, []).append(counted(entry))
    data["blkio"] = lists


def _hugetlb(home: str, data: Data) -> None:
    for size in page_sizes(home):
        # The limits are those of reservations where the kernel (since 5.7) counts them.
        reserved = text(home, f"hugetlb.{size}.rsvd.current")
        usage = int(reserved) if reserved else number(home, f"hugetlb.{size}.current")
        failures = numbers(home, f"hugetlb.{size}.events").get("max", 0)
        data["hugetlb"][size] = {**counted({"usage": usage}), "failcnt": failures}


def read_pressure(home: str, data: Data) -> None:
    """Put the pressure stall information of the cgroup `home` to the parts of the document that it is about."""
    for part, name in _PRESSURE.items():
        if found := text(home, name):
            data[part]["psi"] = pressure(found)


def pressure(lines: str) -> Data:
    """The numbers of lines "some avg10=0.12 avg60=0.05 avg300=0.01 total=1234", and the same for "full"."""
    nothing = {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0}
    found: Data = {"some": nothing, "full": nothing}  # of processors "full" came with Linux 5.13
    for line in lines.splitlines():
        kind, *words = line.split()
        pairs = [word.partition("=") for word in words]
        found[kind] = {key: int(value) if key == "total" else float(value) for key, _, value in pairs}
    return found


READERS: Final = {"cpu": _cpu, "memory": _memory, "pids": _pids, "io": _io, "hugetlb": _hugetlb}
