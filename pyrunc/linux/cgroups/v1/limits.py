"""Writing `linux.resources` to the files of cgroup v1, in an order the kernel accepts.

`apply` writes all of it but the device rules (`devices/allowlist_v1.py`). The other functions write what belongs to
one controller: each takes the directory of the cgroup in that controller's hierarchy and an object of
`linux.resources`, and raises KernelError or PyruncError naming property, file and value.

What the kernel does not hold is an error here, `memory.kernel` and `kernelTCP` included: config-linux.md does not
recommend them to who writes a configuration, but does not allow the runtime to run without a limit that was asked for.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENODEV, ENOENT

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.files import get, put, read, refused, write
from pyrunc.linux.cgroups.resources import pids_limit, swappiness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.linux.cgroups.resources import Resources


def apply(homes: Mapping[str, str], resources: Resources) -> None:
    """Write each limit to the cgroup of its controller, `homes`: controller → directory.

    Zero, empty and null are not asked for. The caller has seen to it that `homes` has every controller that a limit
    needs (`resources.needed`); "unlimited" of one that is missing is true already.
    """
    values: Resources = resources.get("cpu") or {}
    if values and (home := homes.get("cpu")):
        cpu(home, values)
    if values and (home := homes.get("cpuset")):
        cpuset(home, values)
    if (values := resources.get("memory") or {}) and (home := homes.get("memory")):
        memory(home, values)
    tasks = pids_limit(resources)
    if tasks is not None and (home := homes.get("pids")):
        pids(home, tasks)
    if (values := resources.get("blockIO") or {}) and (home := homes.get("blkio")):
        from pyrunc.linux.cgroups.v1 import blkio

        blkio.limit(home, values)
    if values := resources.get("network") or {}:
        network(homes, values)
    if (pages := resources.get("hugepageLimits")) and (home := homes.get("hugetlb")):
        from pyrunc.linux.cgroups import hugetlb

        hugetlb.limit(home, pages, 1)
    if (devices := resources.get("rdma")) and (home := homes.get("rdma")):
        from pyrunc.linux.cgroups import rdma

        rdma.limit(home, devices)


def cpu(home: str, values: Resources) -> None:
    """Shares, idle, bandwidth and real-time bandwidth."""
    shares, idle = values.get("shares"), values.get("idle")
    # The kernel refuses shares while idle is 1, so idle is cleared first and set last.
    if idle == 0 and os.access(f"{home}/cpu.idle", os.F_OK):
        write(home, "cpu.idle", "0", "cpu.idle")
    if shares:
        write(home, "cpu.shares", str(shares), "cpu.shares")
        kept = int(read(home, "cpu.shares"))
        if kept != shares:
            raise PyruncError(
                f"linux.resources.cpu.shares: the kernel made {kept} of {shares}",
                remedy=f"the {'least' if kept > shares else 'most'} it takes is {kept}",
                code="unsupported",
            )
    if idle:
        write(home, "cpu.idle", str(idle), "cpu.idle")
    _bandwidth(home, values)
    _real_time(home, values)


def _bandwidth(home: str, values: Resources) -> None:
    """Burst and period before the quota; those that only fit the new quota again after it."""
    quota = values.get("quota") or 0
    later = []
    for key, name in (("burst", "cpu.cfs_burst_us"), ("period", "cpu.cfs_period_us")):
        value = values.get(key)
        # A burst of 0 takes an earlier one away; kernels before 5.14 have none.
        if not value and not (key == "burst" and value == 0 and os.access(f"{home}/{name}", os.F_OK)):
            continue
        try:
            put(home, name, str(value))
        except OSError as error:
            if error.errno != EINVAL or not quota:
                raise refused(home, name, str(value), error, f"cpu.{key}") from error
            later.append((name, str(value), f"cpu.{key}"))
    if quota:
        try:
            put(home, "cpu.cfs_quota_us", text := str(max(quota, -1)))
        except OSError as error:
            remedy = ""
            if error.errno == EINVAL:
                remedy = (
                    "use at least 1000; and no cgroup may have more of the time than its parent: see cpu.cfs_quota_us "
                    f"of {os.path.dirname(home)} and of the cgroups inside"
                )
            raise refused(home, "cpu.cfs_quota_us", text, error, "cpu.quota", remedy) from error
    for name, text, key in reversed(later):
        write(home, name, text, key)


def _real_time(home: str, values: Resources) -> None:
    """Period and runtime of real-time tasks; a period that is shorter than the present runtime after the new one."""
    period, runtime = values.get("realtimePeriod"), values.get("realtimeRuntime")
    later = False
    if period:
        try:
            put(home, "cpu.rt_period_us", str(period))
        except OSError as error:
            later = error.errno == EINVAL and bool(runtime)
            if not later:
                raise _real_time_refused(home, "rt_period_us", period, error, "realtimePeriod") from error
    if runtime:
        try:
            put(home, "cpu.rt_runtime_us", str(max(runtime, -1)))
        except OSError as error:
            raise _real_time_refused(home, "rt_runtime_us", runtime, error, "realtimeRuntime") from error
    if later:
        write(home, "cpu.rt_period_us", str(period), "cpu.realtimePeriod")


def _real_time_refused(home: str, name: str, value: int, error: OSError, key: str) -> KernelError:
    parent, remedy = os.path.dirname(home), ""
    if error.errno == EINVAL and os.access(f"{parent}/cpu.rt_runtime_us", os.F_OK):
        # What children get of real time is taken from their parent, and a cgroup that was just made has none.
        remedy = f"its parent {parent} has {read(parent, 'cpu.rt_runtime_us')} of {read(parent, 'cpu.rt_period_us')} µs"
    detail = (
        "this kernel has no real-time scheduling by cgroup (CONFIG_RT_GROUP_SCHED)"
        if error.errno == ENOENT
        else ""
    )
    return refused(home, f"cpu.{name}", str(value), error, f"cpu.{key}", remedy, detail)


def fill_cpuset(home: str, top: str) -> tuple[str, str]:
    """The CPUs and memory nodes of `home`, taken from its nearest parent that has some where it has none.

    A cgroup without both takes no process (ENOSPC), and v1 makes every new one so (cpuset(7)).
    """
    cpus, mems = read(home, "cpuset.cpus"), read(home, "cpuset.mems")
    if (cpus and mems) or len(home) <= len(top):
        return cpus, mems
    above = fill_cpuset(os.path.dirname(home), top)
    if not cpus:
        write(home, "cpuset.cpus", above[0])
    if not mems:
        write(home, "cpuset.mems", above[1])
    return cpus or above[0], mems or above[1]


def inherit_cpuset(home: str, top: str) -> None:
    """Give the cgroup `home`, just made and so without any, the CPUs and memory nodes of its parent."""
    cpus, mems = fill_cpuset(os.path.dirname(home), top)
    write(home, "cpuset.cpus", cpus)
    write(home, "cpuset.mems", mems)


def cpuset(home: str, values: Resources) -> None:
    """CPUs and memory nodes."""
    for key, name in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if value := values.get(key):
            try:
                put(home, name, value)
            except OSError as error:
                parent = os.path.dirname(home)
                # The kernel says EACCES for "not a subset of the parent"; that has nothing to do with rights.
                remedy = f"its parent {parent} has {get(parent, name) or 'none'}"
                if error.errno == EBUSY:
                    remedy = "cgroups inside have others: take them away there first"
                raise refused(home, name, value, error, f"cpu.{key}", remedy) from error


def memory(home: str, values: Resources) -> None:
    """Limits of memory and of memory with swap, and what hangs on them."""
    limit, swap = values.get("limit") or 0, values.get("swap") or 0
    if limit == -1 and not swap and os.access(f"{home}/memory.memsw.limit_in_bytes", os.F_OK):
        # Unlimited memory under a limit of memory with swap would not be unlimited.
        swap = -1
    swap_first = False
    if limit:
        try:
            put(home, "memory.limit_in_bytes", str(limit))
        except OSError as error:
            # Above the present limit of memory with swap, which therefore has to grow first. One that shrinks comes
            # last, so that it is never below that of memory.
            swap_first = error.errno == EINVAL and swap != 0
            if not swap_first:
                raise _memory_refused(home, "memory.limit_in_bytes", limit, error) from error
    if swap:
        _swap(home, swap)
    if swap_first:
        try:
            put(home, "memory.limit_in_bytes", str(limit))
        except OSError as error:
            raise _memory_refused(home, "memory.limit_in_bytes", limit, error) from error
    if reservation := values.get("reservation"):
        write(home, "memory.soft_limit_in_bytes", str(reservation), "memory.reservation")
    _kernel_memory(home, values)
    # Since Linux 5.11 accounting is always hierarchical, and false is refused.
    if (whole := values.get("useHierarchy")) is not None:
        write(home, "memory.use_hierarchy", str(int(whole)), "memory.useHierarchy")
    if (disabled := values.get("disableOOMKiller")) is not None:  # what it was given at first is its parent's
        write(home, "memory.oom_control", str(int(disabled)), "memory.disableOOMKiller")
    if (value := swappiness(values)) is not None:
        write(home, "memory.swappiness", str(value), "memory.swappiness")


def _swap(home: str, swap: int) -> None:
    name = "memory.memsw.limit_in_bytes"
    try:
        put(home, name, str(swap))
    except OSError as error:
        if error.errno != ENOENT:
            raise _memory_refused(home, name, swap, error) from error
        # Without swap accounting swap cannot be limited, which is what -1 asks for.
        if swap != -1:
            remedy = "boot with swapaccount=1, or leave linux.resources.memory.swap out"
            raise refused(home, name, str(swap), error, "memory.swap", remedy) from error


def _memory_refused(home: str, name: str, value: int, error: OSError) -> KernelError:
    of = "memory.swap" if ".memsw." in name else "memory.limit"
    if error.errno == EINVAL and os.access(f"{home}/memory.memsw.limit_in_bytes", os.F_OK):
        memory, both = read(home, "memory.limit_in_bytes"), read(home, "memory.memsw.limit_in_bytes")
        remedy = f"the limits are now {memory} for memory and {both} for memory with swap, which cannot be the lower"
        return refused(home, name, str(value), error, of, remedy)
    if error.errno != EBUSY:
        return refused(home, name, str(value), error, of)
    kind = name.removesuffix("limit_in_bytes")
    usage, peak = read(home, f"{kind}usage_in_bytes"), read(home, f"{kind}max_usage_in_bytes")
    detail = f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"
    remedy = "the processes of the cgroup use more than this limit already"
    return refused(home, name, str(value), error, of, remedy, detail)


def _kernel_memory(home: str, values: Resources) -> None:
    for key, name in (
        ("kernel", "memory.kmem.limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        value = values.get(key) or 0
        if value:
            write(home, name, str(value), f"memory.{key}")
        # Linux 5.16 and later take a limit of kernel memory and forget it.
        if value > 0 and int(read(home, name)) > value:
            raise PyruncError(
                f"linux.resources.memory.{key}: this kernel took the limit {value} in {name} without setting it",
                remedy="kernel memory counts as memory: leave it out and use linux.resources.memory.limit",
                code="unsupported",
            )


def pids(home: str, limit: int) -> None:
    """How many tasks; negative for as many as the parent allows."""
    write(home, "pids.max", "max" if limit < 0 else str(limit), "pids.limit")


def network(homes: Mapping[str, str], values: Resources) -> None:
    """The class of the packets, and the priorities on the interfaces of the runtime's network namespace."""
    if (number := values.get("classID")) and (home := homes.get("net_cls")):
        write(home, "net_cls.classid", str(number), "network.classID")
    if home := homes.get("net_prio"):
        for index, entry in enumerate(values.get("priorities") or ()):
            line = f"{entry['name']} {entry['priority']}"
            try:
                put(home, "net_prio.ifpriomap", line)
            except OSError as error:
                remedy = (
                    "the runtime's network namespace has no such interface" if error.errno == ENODEV else ""
                )
                of = f"network.priorities[{index}]"
                raise refused(home, "net_prio.ifpriomap", line, error, of, remedy) from error
