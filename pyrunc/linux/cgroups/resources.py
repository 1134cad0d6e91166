"""What `linux.resources` asks for, before any cgroup is touched.

Zero, empty and null mean "not asked for" where engines send them so (config-linux.md leaves them undefined);
a negative limit means "unlimited".
"""

from __future__ import annotations

from pyrunc.linux.cgroups.place import fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

    Resources = Mapping[str, Any]

#: How engines written in Go say -1 in the unsigned `memory.swappiness`: leave it alone.
SWAPPINESS_UNSET: Final = (1 << 64) - 1

_HERE: Final = "linux.resources"


def check(config: Config, host: Host, report: Report) -> None:
    """Refuse what contradicts itself and what pyrunc does not carry out."""
    linux = config.get("linux") or {}
    if wrong := fault(linux.get("cgroupsPath") or ""):
        report.error("linux.cgroupsPath", wrong, "name a path below the cgroup mount, such as /pyrunc/box")
    resources: Resources = linux.get("resources") or {}
    if resources:
        _check_memory(resources.get("memory") or {}, report)
        _check_devices(resources.get("devices") or (), report)
        _check_unified(resources.get("unified") or {}, report)
        _check_unsupported(resources, report)


def _check_memory(memory: Resources, report: Report) -> None:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    where = f"{_HERE}.memory"
    if swap > 0:
        # The kernel counts memory and swap together, so this limit can never be below that of memory alone.
        if not limit:
            report.error(f"{where}.swap", "is set without a memory limit", f"set {where}.limit too")
        elif swap < limit:
            report.error(
                f"{where}.swap",
                f"{swap} is below the memory limit {limit}",
                "it is the sum of memory and swap",
            )
    swappiness = memory.get("swappiness")
    if swappiness is not None and swappiness > 100 and swappiness != SWAPPINESS_UNSET:
        report.error(f"{where}.swappiness", f"is {swappiness}", "use 0 to 100")


def _check_devices(devices: Any, report: Report) -> None:
    if devices:
        from pyrunc.linux.cgroups.devices.rules import rule_fault

        for index, rule in enumerate(devices):
            if wrong := rule_fault(rule):
                report.error(f"{_HERE}.devices[{index}]", wrong)


def _check_unified(unified: Mapping[str, str], report: Report) -> None:
    for name in unified:
        if "/" in name or not name.strip("."):
            report.error(
                f"{_HERE}.unified", f"{name!r} is not the name of a file in a cgroup", "use a bare file name"
            )


def _check_unsupported(resources: Resources, report: Report) -> None:
    for key in ("blockIO", "network"):
        for name, value in (resources.get(key) or {}).items():
            if value:
                report.unsupported(f"{_HERE}.{key}.{name}")
    for key in ("hugepageLimits", "rdma"):
        if resources.get(key):
            report.unsupported(f"{_HERE}.{key}")


def needed(resources: Resources) -> dict[str, str]:
    """The controllers without which a limit would be lost, with the JSON path of a value that needs each."""
    need: dict[str, str] = {}
    cpu: Resources = resources.get("cpu") or {}
    for name in ("shares", "period", "burst", "realtimePeriod", "realtimeRuntime", "idle"):
        if cpu.get(name):
            need["cpu"] = f"{_HERE}.cpu.{name}"
    if (cpu.get("quota") or 0) > 0:
        need["cpu"] = f"{_HERE}.cpu.quota"
    for name in ("cpus", "mems"):
        if cpu.get(name):
            need["cpuset"] = f"{_HERE}.cpu.{name}"
    memory: Resources = resources.get("memory") or {}
    for name in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if (memory.get(name) or 0) > 0:
            need["memory"] = f"{_HERE}.memory.{name}"
    if memory.get("disableOOMKiller"):
        need["memory"] = f"{_HERE}.memory.disableOOMKiller"
    if swappiness(memory) is not None:
        need["memory"] = f"{_HERE}.memory.swappiness"
    limit = pids_limit(resources)
    if limit is not None and limit >= 0:
        need["pids"] = f"{_HERE}.pids.limit"
    for name in resources.get("unified") or ():
        need.setdefault(name.partition(".")[0], f"{_HERE}.unified[{name!r}]")
    # The core files, such as cgroup.max.depth, need no controller.
    need.pop("cgroup", None)
    return need


def swappiness(memory: Resources) -> int | None:
    """`memory.swappiness`, None where it is not asked for."""
    value: int | None = memory.get("swappiness")
    return None if value == SWAPPINESS_UNSET else value


def pids_limit(resources: Resources) -> int | None:
    """`pids.limit`: None if absent, -1 for no limit. 0 is a real limit (config-linux.md, 1.3.0).

    With 0 nothing could be started in the cgroup, so it is 1: the container process, which cannot fork.
    """
    limit: int | None = (resources.get("pids") or {}).get("limit")
    if limit is None:
        return None
    return -1 if limit < 0 else max(limit, 1)
