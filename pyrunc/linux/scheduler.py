"""Scheduling policy of the container process (config.md "Linux process: scheduler"; sched_setattr(2), sched(7)).

The runtime sets it on init from outside, as it does with rlimits: its CAP_SYS_NICE counts on the host, where that of
init, in a user namespace, does not (user_check_sched_setscheduler() in kernel/sched/syscalls.c). When and why then is
said in `pyrunc.plan.build`.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, EOPNOTSUPP, EPERM
from struct import pack

from pyrunc.errors import KernelError
from pyrunc.kernel.native import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from pyrunc.config.spec import Config, Scheduler
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

#: The spec's policies, by their value in linux/sched.h. (The number of SCHED_ISO is reserved there, and no more.)
POLICIES: Final = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
#: The spec's flags, by their value in linux/sched.h.
FLAGS: Final = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
FAIR: Final = ("SCHED_OTHER", "SCHED_BATCH")
REAL_TIME: Final = ("SCHED_FIFO", "SCHED_RR")
#: DL_SCALE of the kernel: a shorter budget could not be kept.
RUNTIME_MIN: Final = 1024
_ATTRIBUTES_SIZE: Final = 56  # SCHED_ATTR_SIZE_VER1


def check(config: Config, host: Host, report: Report) -> None:
    """A policy that the kernel has, and only the numbers that it has under this policy."""
    wanted = config["process"]["scheduler"]
    policy = wanted["policy"]
    if policy not in POLICIES:
        report.error(
            "process.scheduler.policy",
            f"{policy} is not implemented by Linux",
            f"use one of {', '.join(POLICIES)}",
        )
        return
    _check_nice(policy, wanted.get("nice", 0), report)
    _check_priority(policy, wanted.get("priority", 0), report)
    if policy == "SCHED_DEADLINE":
        _check_deadline(config, wanted, report)
        return
    for name, value in (
        ("runtime", wanted.get("runtime")),
        ("deadline", wanted.get("deadline")),
        ("period", wanted.get("period")),
    ):
        if value:
            text = f"can only be specified for SCHED_DEADLINE, the policy is {policy}"
            report.error(f"process.scheduler.{name}", text, "remove it or change the policy")


def _check_nice(policy: str, nice: int, report: Report) -> None:
    where = "process.scheduler.nice"
    if policy not in FAIR and nice:
        text = f"can only be specified for SCHED_OTHER or SCHED_BATCH, the policy is {policy}"
        report.error(where, text, "remove it or change the policy")
    elif not -20 <= nice <= 19:
        report.error(where, f"{nice} is out of range", "give a number from -20 to 19")


def _check_priority(policy: str, priority: int, report: Report) -> None:
    where = "process.scheduler.priority"
    if policy not in REAL_TIME and priority:
        text = f"can only be specified for SCHED_FIFO or SCHED_RR, the policy is {policy}"
        report.error(where, text, "remove it or change the policy")
    elif policy in REAL_TIME and not 1 <= priority <= 99:
        report.error(where, f"{priority} is out of range for {policy}", "give a number from 1 to 99")


def _check_deadline(config: Config, wanted: Scheduler, report: Report) -> None:
    runtime, deadline = wanted.get("runtime", 0), wanted.get("deadline", 0)
    period = wanted.get("period", 0) or deadline  # sched(7): 0 stands for the deadline
    if not RUNTIME_MIN <= runtime <= deadline <= period < 1 << 63:
        report.error(
            "process.scheduler",
            f"SCHED_DEADLINE takes {RUNTIME_MIN} <= runtime <= deadline <= period, in nanoseconds",
            f"they are {runtime}, {deadline}, {period}",
        )
    hooks = config.get("hooks") or {}
    if hooks.get("startContainer") and "SCHED_FLAG_RESET_ON_FORK" not in (wanted.get("flags") or ()):
        # sched_fork() refuses it with EAGAIN; the hooks are run by the process that has the policy.
        report.error(
            "process.scheduler.policy",
            "a process under SCHED_DEADLINE cannot start the startContainer hooks",
            "add SCHED_FLAG_RESET_ON_FORK to process.scheduler.flags",
        )


def attributes(wanted: Scheduler) -> bytes:
    """struct sched_attr. What is not set is 0 (config.md)."""
    flags = 0
    for name in wanted.get("flags") or ():
        flags |= FLAGS[name]
    return pack(
        "<IIQiIQQQII",
        _ATTRIBUTES_SIZE,
        POLICIES[wanted["policy"]],
        flags,
        wanted.get("nice", 0),
        wanted.get("priority", 0),
        wanted.get("runtime", 0),
        wanted.get("deadline", 0),
        wanted.get("period", 0),
        0,
        0,
    )


def is_inherited(wanted: Scheduler) -> bool:
    """Whether a child gets the policy (sched(7)): under SCHED_DEADLINE there cannot even be one."""
    return wanted["policy"] != "SCHED_DEADLINE" and "SCHED_FLAG_RESET_ON_FORK" not in (
        wanted.get("flags") or ()
    )


def apply(wanted: Scheduler, pid: int, cgroups: Mapping[str, str]) -> None:
    """Give the process its policy. `cgroups`: `Host.cgroups`, for the remedy. Raises KernelError."""
    try:
        syscall("sched_setattr", pid, attributes(wanted), 0)
    except OSError as error:
        step = f"set the scheduler to {wanted['policy']}"
        raise KernelError.of(step, error, remedy=_remedy(wanted, error.errno or 0, cgroups)) from None


def _remedy(wanted: Scheduler, number: int, cgroups: Mapping[str, str]) -> str:
    policy = wanted["policy"]
    if number == EPERM and policy in REAL_TIME:
        return _without_budget(cgroups)
    if number == EPERM and policy == "SCHED_DEADLINE":
        return (
            "it takes CAP_SYS_NICE on the host, and every CPU: neither linux.resources.cpu.cpus nor a cpuset "
            "above the container may leave one out"
        )
    if number == EPERM:
        return "less nice than now, or out of SCHED_IDLE, takes CAP_SYS_NICE on the host or RLIMIT_NICE"
    if number == EBUSY:
        return (
            "the CPUs have promised too much of their time to others already; lower runtime or raise period"
        )
    if number == EINVAL and policy == "SCHED_DEADLINE":
        return "is the period within /proc/sys/kernel/sched_deadline_period_min_us and _max_us?"
    if number == EOPNOTSUPP:
        return "this kernel has no utilization clamping (CONFIG_UCLAMP_TASK); remove SCHED_FLAG_UTIL_CLAMP_*"
    return ""


def _without_budget(cgroups: Mapping[str, str]) -> str:
    """Why a real-time policy is refused: no right to it, or no time in the cgroup for it (sched-rt-group.rst)."""
    path = cgroups.get("cpu", "")
    try:
        with open(f"{path}/cpu.rt_runtime_us", encoding="ascii") as file:
            budget = int(file.read())
    except OSError:
        return (
            "it takes CAP_SYS_NICE on the host or RLIMIT_RTPRIO; and a kernel with CONFIG_RT_GROUP_SCHED "
            "allows none below the root of cgroup v2, unless it is booted with rt_group_sched=0"
        )
    if budget == 0:
        return (
            f"the cgroup {path} has no time for real-time processes; set linux.resources.cpu.realtimeRuntime"
        )
    return "it takes CAP_SYS_NICE on the host or RLIMIT_RTPRIO"
