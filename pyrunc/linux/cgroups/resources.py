"""What `linux.resources` asks for, before any cgroup is touched.

Zero, empty and null mean "not asked for" where engines send them so (config-linux.md leaves them undefined);
-1 as a limit means "unlimited".
"""

from __future__ import annotations

from pyrunc.linux.cgroups.place import fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

    Resources = Mapping[str, Any]

#: How engines written in Go say -1 in the unsigned `memory.swappiness`: leave it alone.
SWAPPINESS_UNSET: Final = (1 << 64) - 1
#: The weights of config-linux.md, which are those of cgroup-v1/blkio-controller.rst. BFQ takes lower ones, down to 1;
#: whether it is there, only the cgroup tells.
WEIGHT_MIN, WEIGHT_MAX = 10, 1000
#: The rates of `blockIO`, with what follows "blkio.throttle." in cgroup v1, and the key of io.max in cgroup v2.
THROTTLES: Final = {
    "throttleReadBpsDevice": ("read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("write_iops_device", "wiops"),
}

_HERE: Final = "linux.resources"
_CPU: Final = (
    "shares",
    "quota",
    "period",
    "burst",
    "idle",
    "realtimeRuntime",
    "realtimePeriod",
)
_MEMORY_LIMITS: Final = ("limit", "reservation", "swap", "kernel", "kernelTCP")
#: Property, its parts (None: all of it), and the controller that holds them.
_PLACES: Final = (
    ("cpu", _CPU, "cpu"),
    ("cpu", ("cpus", "mems"), "cpuset"),
    ("memory", None, "memory"),
    ("pids", None, "pids"),
    ("blockIO", None, "blkio"),
    ("network", ("classID",), "net_cls"),
    ("network", ("priorities",), "net_prio"),
    ("hugepageLimits", None, "hugetlb"),
    ("rdma", None, "rdma"),
)
#: The controllers of those limits by their names in cgroup v1.
CONTROLLERS: Final = frozenset([controller for _, _, controller in _PLACES])


def check(config: Config, host: Host, report: Report) -> None:
    """Refuse what contradicts itself and what no kernel can hold."""
    linux = config.get("linux") or {}
    if wrong := fault(linux.get("cgroupsPath") or ""):
        report.error("linux.cgroupsPath", wrong, "name a path below the cgroup mount, such as /pyrunc/box")
    resources: Resources = linux.get("resources") or {}
    if resources:
        check_resources(resources, report)


def check_resources(resources: Resources, report: Report) -> None:
    """The same of `linux.resources` alone."""
    _check_memory(resources.get("memory") or {}, report)
    _check_cpu(resources.get("cpu") or {}, report)
    _check_devices(resources.get("devices") or (), report)
    _check_unified(resources.get("unified") or {}, report)
    if block := resources.get("blockIO"):
        _check_block(block, report)
    if network := resources.get("network"):
        _check_network(network, report)
    for name, limits in (resources.get("rdma") or {}).items():
        _check_rdma(name, limits or {}, report)


def _check_memory(memory: Resources, report: Report) -> None:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    where = f"{_HERE}.memory"
    for name in _MEMORY_LIMITS:
        if (value := memory.get(name) or 0) < -1:
            # cgroup v1 knows no other negative number.
            report.error(f"{where}.{name}", f"is {value}", "use -1 for no limit")
    if swap > 0:
        # The kernel counts memory and swap together, so this limit can never be below that of memory alone, and
        # cgroup v2, which counts swap alone, could not hold it where memory has none.
        if limit <= 0:
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


def _check_cpu(cpu: Resources, report: Report) -> None:
    burst, quota = cpu.get("burst") or 0, cpu.get("quota") or 0
    if 0 < quota < burst:
        report.error(f"{_HERE}.cpu.burst", f"{burst} is above the quota {quota}", "use at most the quota")
    if (idle := cpu.get("idle")) not in (None, 0, 1):
        report.error(f"{_HERE}.cpu.idle", f"is {idle}", "use 0 or 1")


def _check_block(block: Resources, report: Report) -> None:
    """Weights and rates (config-linux.md "Block IO": of the two weights of a device at least one, a rate always)."""
    where = f"{_HERE}.blockIO"
    entries = [
        (f"{where}.weightDevice[{i}]", entry) for i, entry in enumerate(block.get("weightDevice") or ())
    ]
    for path, entry in entries:
        if entry.get("weight") is None and entry.get("leafWeight") is None:
            report.error(path, "has neither weight nor leafWeight", "set one of them")
    for path, values in ((where, block), *entries):
        for name in ("weight", "leafWeight"):
            if (values.get(name) or 0) > WEIGHT_MAX:
                report.error(f"{path}.{name}", f"is {values[name]}", f"use {WEIGHT_MIN} to {WEIGHT_MAX}")
    for name in THROTTLES:
        for index, entry in enumerate(block.get(name) or ()):
            rate = entry.get("rate")
            if "IOPS" in name and (rate or 0) >= 1 << 32:
                # cgroup v1 would take the lower half of the number.
                report.error(f"{where}.{name}[{index}].rate", f"is {rate}", f"use at most {(1 << 32) - 1}")
            if rate is None:
                report.error(
                    f"{where}.{name}[{index}].rate", "is missing", "give the highest rate, or 0 for none"
                )


def _check_network(network: Resources, report: Report) -> None:
    for index, entry in enumerate(network.get("priorities") or ()):
        name = entry["name"]
        # Such as the kernel takes for interfaces (dev_valid_name); the text goes into a line of words.
        if not name or len(name) > 15 or "/" in name or len(name.split()) != 1 or name != name.strip():
            report.error(
                f"{_HERE}.network.priorities[{index}].name", f"{name!r} is not the name of an interface"
            )


def _check_rdma(name: str, limits: Resources, report: Report) -> None:
    where = f"{_HERE}.rdma[{name!r}]"
    if len(name.split()) != 1 or name != name.strip():
        report.error(where, "is not the name of a device", "see the directory /sys/class/infiniband")
    if limits.get("hcaHandles") is None and limits.get("hcaObjects") is None:
        report.error(where, "has neither hcaHandles nor hcaObjects", "set one of them")


def needed(resources: Resources, version: int = 2) -> dict[str, str]:
    """The controllers without which a limit would be lost, with the JSON path of a value that needs each.

    Their names are those of that `version` of cgroups.
    """
    need = {controller: f"{_HERE}.{name}" for controller, name in _asked(resources, version)}
    for name in resources.get("unified") or ():
        # The pressure files and the core ones, such as cgroup.max.depth, need no controller.
        if not name.endswith(".pressure") and not name.startswith("cgroup."):
            need.setdefault(name.partition(".")[0], f"{_HERE}.unified[{name!r}]")
    return need


def _asked(resources: Resources, version: int) -> Iterator[tuple[str, str]]:
    """Controller and property of each limit."""
    cpu: Resources = resources.get("cpu") or {}
    for name in _CPU:
        if name != "quota" and cpu.get(name):
            yield "cpu", f"cpu.{name}"
    if (cpu.get("quota") or 0) > 0:
        yield "cpu", "cpu.quota"
    for name in ("cpus", "mems"):
        if cpu.get(name):
            yield "cpuset", f"cpu.{name}"
    for name in _asked_memory(resources.get("memory") or {}):
        yield "memory", f"memory.{name}"
    limit = pids_limit(resources)
    if limit is not None and limit >= 0:
        yield "pids", "pids.limit"
    for name in _asked_block(resources.get("blockIO") or {}):
        yield "blkio" if version == 1 else "io", f"blockIO.{name}"
    network: Resources = resources.get("network") or {}
    for name, controller in (("classID", "net_cls"), ("priorities", "net_prio")):
        if network.get(name):
            yield controller, f"network.{name}"
    for name, controller in (("hugepageLimits", "hugetlb"), ("rdma", "rdma")):
        if resources.get(name):
            yield controller, name


def _asked_memory(memory: Resources) -> list[str]:
    found = [name for name in _MEMORY_LIMITS if (memory.get(name) or 0) > 0]
    if memory.get("disableOOMKiller"):
        found.append("disableOOMKiller")
    if swappiness(memory) is not None:
        found.append("swappiness")
    return found


def _asked_block(block: Resources) -> list[str]:
    """A rate of 0 is no limit."""
    found = [name for name in ("weight", "leafWeight", "weightDevice") if block.get(name)]
    return found + [name for name in THROTTLES if any(entry.get("rate") for entry in block.get(name) or ())]


def part(resources: Resources, controllers: Collection[str]) -> Resources:
    """What of `resources` these `controllers` hold, by their names in cgroup v1; `unified` belongs to none."""
    found: dict[str, Any] = {}
    for key, names, controller in _PLACES:
        values = resources.get(key)
        if not values or controller not in controllers:
            continue
        if names:
            values = {name: values[name] for name in names if name in values}
            if not values:
                continue
            values = {**found.get(key, {}), **values}
        found[key] = values
    return found


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
