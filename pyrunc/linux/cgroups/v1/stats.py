"""What cgroup v1 counts (admin-guide/cgroup-v1/: cpuacct.rst, cpusets.rst, memory.rst, pids.rst, hugetlb.rst)."""

from __future__ import annotations

from pyrunc.linux.cgroups.stats import (
    CPUSET_FLAGS,
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

#: Nanoseconds of a clock tick in cpuacct.stat: USER_HZ is 100 on x86-64 and aarch64.
_TICK: Final = 10_000_000

#: Entry of the document → what the names of its files begin with.
_MEMORY: Final = {
    "usage": "memory",
    "swap": "memory.memsw",
    "kernel": "memory.kmem",
    "kernelTCP": "memory.kmem.tcp",
}

#: What I/O schedulers, and where none counts the block layer's throttling, tell. The first with anything to say counts.
_BLKIO: Final = (
    ("blkio.bfq.", "_recursive"),
    ("blkio.", "_recursive"),
    ("blkio.throttle.", "_recursive"),
    ("blkio.throttle.", ""),
)
#: List of the document → the middle of its file's name. The last six are told by CFQ, or with CONFIG_BFQ_CGROUP_DEBUG.
_BLKIO_LISTS: Final = {
    "ioServiceBytesRecursive": "io_service_bytes",
    "ioServicedRecursive": "io_serviced",
    "ioQueueRecursive": "io_queued",
    "ioServiceTimeRecursive": "io_service_time",
    "ioWaitTimeRecursive": "io_wait_time",
    "ioMergedRecursive": "io_merged",
    "ioTimeRecursive": "time",
    "sectorsRecursive": "sectors",
}


def _cpu(home: str, data: Data) -> None:
    found = numbers(home, "cpu.stat")
    data["cpu"]["throttling"] = counted(
        {
            "periods": found.get("nr_periods"),
            "throttledPeriods": found.get("nr_throttled"),
            "throttledTime": found.get("throttled_time"),
        }
    )


def _cpuacct(home: str, data: Data) -> None:
    ticks = numbers(home, "cpuacct.stat")
    # A head "cpu user system", then a line for each processor.
    rows = [line.split() for line in text(home, "cpuacct.usage_all").splitlines()[1:]]
    processors = {
        "total": number(home, "cpuacct.usage"),
        "percpu": [int(word) for word in text(home, "cpuacct.usage_percpu").split()],
        "percpu_kernel": [int(row[2]) for row in rows],
        "percpu_user": [int(row[1]) for row in rows],
    }
    kernel, user = ticks.get("system", 0) * _TICK, ticks.get("user", 0) * _TICK
    data["cpu"]["usage"] = {**counted(processors), "kernel": kernel, "user": user}


def _cpuset(home: str, data: Data) -> None:
    lists = {name: members(text(home, f"cpuset.{name}")) for name in ("cpus", "mems")}
    flags = {name: number(home, f"cpuset.{name}") for name in CPUSET_FLAGS}
    data["cpuset"] = {**counted(lists), **flags}


def members(ranges: str) -> list[int]:
    """The numbers in a list such as "0-2,7" (cpuset(7), "List format")."""
    found: list[int] = []
    for part in ranges.split(",") if ranges else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _memory(home: str, data: Data) -> None:
    raw = numbers(home, "memory.stat")
    entries = {
        name: entry(
            number(home, f"{files}.limit_in_bytes"),
            number(home, f"{files}.usage_in_bytes"),
            number(home, f"{files}.max_usage_in_bytes"),
            number(home, f"{files}.failcnt"),
        )
        for name, files in _MEMORY.items()
    }
    data["memory"] = {**counted({"cache": raw.get("cache"), "raw": raw}), **entries}


def _pids(home: str, data: Data) -> None:
    data["pids"] = counted({"current": number(home, "pids.current"), "limit": pids_limit(home)})


def _blkio(home: str, data: Data) -> None:
    for begin, end in _BLKIO:
        first, second, *rest = [(name, f"{begin}{middle}{end}") for name, middle in _BLKIO_LISTS.items()]
        found = {name: operations(text(home, file)) for name, file in (first, second)}
        if any(found.values()):
            found |= {name: operations(text(home, file)) for name, file in rest}
            data["blkio"] = counted(found)
            return


def operations(lines: str) -> list[dict[str, Any]]:
    """What lines "MAJOR:MINOR [OPERATION] NUMBER" tell; the sum over all devices ("Total NUMBER") is left out."""
    found = []
    for line in lines.splitlines():
        device, *operation, value = line.split()
        major, colon, minor = device.partition(":")
        if colon:
            values = {
                "major": int(major),
                "minor": int(minor),
                "op": "".join(operation),
                "value": int(value),
            }
            found.append(counted(values))
    return found


def _hugetlb(home: str, data: Data) -> None:
    for size in page_sizes(home):
        # The limits are those of reservations where the kernel (since 5.7) counts them.
        files = f"hugetlb.{size}.rsvd"
        if not text(home, f"{files}.usage_in_bytes"):
            files = f"hugetlb.{size}"
        usage = {
            "usage": number(home, f"{files}.usage_in_bytes"),
            "max": number(home, f"{files}.max_usage_in_bytes"),
        }
        data["hugetlb"][size] = {**counted(usage), "failcnt": number(home, f"{files}.failcnt")}


READERS: Final = {
    "cpu": _cpu,
    "cpuacct": _cpuacct,
    "cpuset": _cpuset,
    "memory": _memory,
    "pids": _pids,
    "blkio": _blkio,
    "hugetlb": _hugetlb,
}
