"""Writing `linux.resources` to the files of one cgroup v2.

`apply` writes all of it (device rules are a program: `devices/program_v2.py`). The other functions write what
belongs to one controller: each takes the cgroup's directory and an object of `linux.resources`, and raises
KernelError or PyruncError naming file and value. `unholdable` tells what cgroup v2 has no file for.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.files import put, read, refused, write
from pyrunc.linux.cgroups.resources import needed, pids_limit, swappiness
from pyrunc.linux.cgroups.v2 import controllers
from pyrunc.linux.cgroups.v2.conversion import cpu_weight, maximum, swap_max

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.cgroups.resources import Resources


def apply(home: str, resources: Resources) -> None:
    """Write every limit of `resources` to the cgroup `home`, which its parents have given their controllers.

    Zero, empty and null are not asked for; "unlimited" of a controller that is missing is true already.
    `unified` comes last, as it is to have the last word. Raises PyruncError for a value that cgroup v2 or this
    cgroup cannot hold, KernelError for one that the kernel refuses.
    """
    refuse_unholdable(resources)
    need = needed(resources)
    controllers.demand(home, need)
    values: Resources = resources.get("cpu") or {}
    if "cpu" in need or (values and _has(home, "cpu.max")):
        cpu(home, values)
    if "cpuset" in need:
        cpuset(home, values)
    values = resources.get("memory") or {}
    if "memory" in need or (values and _has(home, "memory.max")):
        memory(home, values)
    tasks = pids_limit(resources)
    if tasks is not None and (tasks >= 0 or _has(home, "pids.max")):
        pids(home, tasks)
    values = resources.get("blockIO") or {}
    if "io" in need or (values and _has(home, "io.max")):
        from pyrunc.linux.cgroups.v2 import io

        io.limit(home, values)
    if pages := resources.get("hugepageLimits"):
        from pyrunc.linux.cgroups import hugetlb

        hugetlb.limit(home, pages, 2)
    if devices := resources.get("rdma"):
        from pyrunc.linux.cgroups import rdma

        rdma.limit(home, devices)
    if files := resources.get("unified"):
        unified(home, files)


def _has(home: str, name: str) -> bool:
    return os.access(f"{home}/{name}", os.F_OK)


def refuse_unholdable(resources: Resources) -> None:
    """Raise PyruncError if cgroup v2 has no file for a value that is asked for."""
    if values := unholdable(resources):
        raise PyruncError(
            f"cgroup v2 cannot hold {', '.join(values)}",
            remedy="remove it from the configuration; only cgroup v1 has it",
            code="unsupported",
        )


def unholdable(resources: Resources) -> list[str]:
    """JSON paths of values that are asked for and that cgroup v2 cannot hold."""
    memory: Resources = resources.get("memory") or {}
    cpu_values: Resources = resources.get("cpu") or {}
    found = [f"memory.{key}" for key in ("kernel", "kernelTCP") if (memory.get(key) or 0) > 0]
    if swappiness(memory) is not None:
        found.append("memory.swappiness")
    if memory.get("disableOOMKiller"):
        found.append("memory.disableOOMKiller")
    if memory.get("useHierarchy") is False:
        found.append("memory.useHierarchy=false")  # accounting is always hierarchical
    found += [f"cpu.{key}" for key in ("realtimePeriod", "realtimeRuntime") if cpu_values.get(key)]
    block: Resources = resources.get("blockIO") or {}
    if block.get("leafWeight"):
        found.append("blockIO.leafWeight")
    for index, entry in enumerate(block.get("weightDevice") or ()):
        if entry.get("leafWeight"):
            found.append(f"blockIO.weightDevice[{index}].leafWeight")
    network: Resources = resources.get("network") or {}
    found += [f"network.{key}" for key in ("classID", "priorities") if network.get(key)]
    return [f"linux.resources.{name}" for name in found]


def cpu(home: str, values: Resources) -> None:
    """Weight, idle, bandwidth and burst."""
    shares, idle = values.get("shares") or 0, values.get("idle")
    # The kernel refuses a weight while idle is 1, so idle is cleared first and set last.
    if idle == 0 and _has(home, "cpu.idle"):
        write(home, "cpu.idle", "0", "cpu.idle")
    if shares:
        write(home, "cpu.weight", str(cpu_weight(shares)), "cpu.shares")
    if idle:
        write(home, "cpu.idle", str(idle), "cpu.idle")
    _bandwidth(home, values.get("period") or 0, values.get("quota") or 0, values.get("burst"))


def _bandwidth(home: str, period: int, quota: int, burst: int | None) -> None:
    burst_later = False
    # A burst of 0 takes an earlier one away; kernels before 5.14 have none.
    if burst or (burst == 0 and _has(home, "cpu.max.burst")):
        try:
            put(home, "cpu.max.burst", str(burst))
        except OSError as error:
            # Above the present quota; it may fit the new one.
            burst_later = error.errno == EINVAL and quota > 0
            if not burst_later:
                raise refused(home, "cpu.max.burst", str(burst), error, "cpu.burst") from error
    if period or quota:
        present = read(home, "cpu.max").split() if not (period and quota) else ["max", "100000"]
        quota_text = maximum(quota if quota > 0 else -1) if quota else present[0]
        of = "cpu.quota" if quota else "cpu.period"
        write(home, "cpu.max", f"{quota_text} {period or present[1]}", of)
    if burst_later:
        write(home, "cpu.max.burst", str(burst), "cpu.burst")


def cpuset(home: str, values: Resources) -> None:
    """CPUs and memory nodes."""
    for key, name in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if value := values.get(key):
            write(home, name, value, f"cpu.{key}")
            # The kernel takes what the parent lacks, and gives whatever the parent has instead.
            effective = read(home, f"{name}.effective")
            if not numbers(effective) <= numbers(read(home, name)):
                raise PyruncError(
                    f"linux.resources.cpu.{key}: {value} became {effective} in {home}",
                    remedy=f"that is what {name} of its parents allows",
                    code="unsupported",
                )


def numbers(text: str) -> set[int]:
    """The members of a list such as "0-3,8" (cpuset(7), "List format")."""
    found: set[int] = set()
    for word in text.split(","):
        first, _, last = word.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def memory(home: str, values: Resources) -> None:
    """Limits of memory and swap, and protection. Swap first, so that it is there when memory runs short."""
    limit, swap = values.get("limit") or 0, values.get("swap") or 0
    if values.get("checkBeforeUpdate"):
        _check_usage(home, limit, swap)
    swap_limit = swap_max(limit, swap)
    if swap_limit is not None:
        _swap(home, swap_limit)
    if limit:
        write(home, "memory.max", maximum(limit), "memory.limit")
    if reservation := values.get("reservation"):
        write(home, "memory.low", maximum(reservation), "memory.reservation")


def _swap(home: str, limit: int) -> None:
    name, text = "memory.swap.max", maximum(limit)
    try:
        put(home, name, text)
    except OSError as error:
        # Without swap accounting there is nothing to limit, and "no limit" is true already; where the host
        # has no swap, "none" is true as well.
        if error.errno == ENOENT and limit in (-1, 0):
            return
        remedy = (
            "boot with swapaccount=1, or leave linux.resources.memory.swap out"
            if error.errno == ENOENT
            else ""
        )
        raise refused(home, name, text, error, "memory.swap", remedy) from error


def _check_usage(home: str, limit: int, swap: int) -> None:
    """Refuse limits below what is used now, as the kernel does in cgroup v1 (memory.checkBeforeUpdate)."""
    usage = int(read(home, "memory.current")) if limit > 0 or swap > 0 else 0
    swapped = int(read(home, "memory.swap.current")) if swap > 0 and _has(home, "memory.swap.current") else 0
    for key, value, used in (("limit", limit, usage), ("swap", swap, usage + swapped)):
        if 0 < value < used:
            raise PyruncError(
                f"linux.resources.memory.{key}: {value} is below the current usage of {used} in {home}",
                remedy="raise the limit, or drop memory.checkBeforeUpdate to let the kernel reclaim or kill",
                code="in-use",
            )


def pids(home: str, limit: int) -> None:
    """How many tasks; negative for as many as the parent allows."""
    write(home, "pids.max", maximum(limit), "pids.limit")


def unified(home: str, values: Resources) -> None:
    """Files verbatim, line by line, since the kernel takes one setting with each write."""
    for name, text in values.items():
        for line in str(text).split("\n"):
            if line:
                write(home, name, line, f"unified[{name!r}]")
