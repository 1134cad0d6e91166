"""Writing cpu, cpuset, memory and pids limits to the files of cgroup v1, in an order the kernel accepts.

Each function takes the directory of the cgroup in that controller's hierarchy and the object of
`linux.resources`, and raises KernelError or PyruncError naming file and value.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.files import get, put, read, refused, write
from pyrunc.linux.cgroups.resources import swappiness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.cgroups.resources import Resources


def cpu(home: str, values: Resources) -> None:
    """Shares, idle, bandwidth and real-time bandwidth."""
    shares, idle = values.get("shares"), values.get("idle")
    # The kernel refuses shares while idle is 1, so idle is cleared first and set last.
    if idle == 0 and os.access(f"{home}/cpu.idle", os.F_OK):
        write(home, "cpu.idle", "0")
    if shares:
        write(home, "cpu.shares", str(shares))
        kept = int(read(home, "cpu.shares"))
        if kept != shares:
            raise PyruncError(
                f"linux.resources.cpu.shares: the kernel made {kept} of {shares}",
                remedy=f"the {'least' if kept > shares else 'most'} it takes is {kept}",
            )
    if idle:
        write(home, "cpu.idle", str(idle))
    _bandwidth(home, "cpu.cfs_", values.get("period"), values.get("quota"), values.get("burst"))
    _bandwidth(home, "cpu.rt_", values.get("realtimePeriod"), values.get("realtimeRuntime"), None)


def _bandwidth(home: str, prefix: str, period: int | None, quota: int | None, burst: int | None) -> None:
    """Burst and period before the quota; those that only fit the new quota again after it."""
    quota_name = prefix + ("runtime_us" if prefix == "cpu.rt_" else "quota_us")
    later = []
    for name, value in ((f"{prefix}burst_us", burst), (f"{prefix}period_us", period)):
        if not value:
            continue
        try:
            put(home, name, str(value))
        except OSError as error:
            if error.errno != EINVAL or not quota:
                raise refused(home, name, str(value), error) from error
            later.append((name, str(value)))
    if quota:
        write(home, quota_name, str(max(quota, -1)))
    for name, text in reversed(later):
        write(home, name, text)


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
                failed = refused(home, name, value, error)
                parent = os.path.dirname(home)
                # The kernel says EACCES for "not a subset of the parent"; that has nothing to do with rights.
                failed.remedy = f"its parent {parent} has {get(parent, name) or 'none'}"
                raise failed from error


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
            # Above the present limit of memory with swap, which therefore has to grow first.
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
        write(home, "memory.soft_limit_in_bytes", str(reservation))
    _kernel_memory(home, values)
    if values.get("useHierarchy"):
        write(home, "memory.use_hierarchy", "1")
    if values.get("disableOOMKiller"):
        write(home, "memory.oom_control", "1")
    if (value := swappiness(values)) is not None:
        write(home, "memory.swappiness", str(value))


def _swap(home: str, swap: int) -> None:
    name = "memory.memsw.limit_in_bytes"
    try:
        put(home, name, str(swap))
    except OSError as error:
        if error.errno != ENOENT:
            raise _memory_refused(home, name, swap, error) from error
        # Without swap accounting swap cannot be limited, which is what -1 asks for.
        if swap != -1:
            failed = refused(home, name, str(swap), error)
            failed.remedy = "boot with swapaccount=1, or leave linux.resources.memory.swap out"
            raise failed from error


def _memory_refused(home: str, name: str, value: int, error: OSError) -> KernelError:
    if error.errno != EBUSY:
        return refused(home, name, str(value), error)
    kind = name.removesuffix("limit_in_bytes")
    usage, peak = read(home, f"{kind}usage_in_bytes"), read(home, f"{kind}max_usage_in_bytes")
    return KernelError(
        f'write "{value}" to {name} in {home}',
        EBUSY,
        call="write",
        detail=f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})",
        remedy="the processes of the cgroup use more than this limit already",
    )


def _kernel_memory(home: str, values: Resources) -> None:
    for key, name in (
        ("kernel", "memory.kmem.limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        value = values.get(key) or 0
        if value:
            write(home, name, str(value))
        # Linux 5.16 and later take a limit of kernel memory and forget it.
        if value > 0 and int(read(home, name)) > value:
            raise PyruncError(
                f"linux.resources.memory.{key}: this kernel took the limit {value} without setting it",
                remedy="kernel memory counts as memory: leave it out and use linux.resources.memory.limit",
            )


def pids(home: str, limit: int) -> None:
    """How many tasks; negative for as many as the parent allows."""
    write(home, "pids.max", "max" if limit < 0 else str(limit))
