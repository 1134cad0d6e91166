"""The properties of a container's unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).

systemd writes them to the files of the cgroup, again whenever it likes (`systemctl daemon-reload`), so
everything that it has a property for is asked of it. What it has none for, pyrunc writes afterwards. All functions
are pure.
"""

from __future__ import annotations

from pyrunc.config.annotations import SYSTEMD_PROPERTY
from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.resources import WEIGHT_MIN, pids_limit
from pyrunc.linux.cgroups.v2.conversion import cpu_weight, io_weight, swap_max

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any, Final

    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.linux.cgroups.systemd.unit import Unit

    #: Name → D-Bus type and value.
    Properties = dict[str, tuple[str, Any]]

#: "No limit" (CGROUP_LIMIT_MAX), also of times (USEC_INFINITY).
INFINITY: Final = (1 << 64) - 1
#: CPUQuotaPerSecUSec comes in these steps: 10 ms of each second.
_QUOTA_STEP: Final = 10_000
_SECOND: Final = 1_000_000
_DEFAULT_PERIOD: Final = 100_000
#: What no annotation may set: it would take other processes in, or the container out of its place.
_OURS: Final = ("PIDs", "PIDFDs", "Slice", "Wants")


def of_unit(unit: Unit, pid: int) -> Properties:
    """What holds for every container. A slice holds no process of its own when systemd makes it."""
    found: Properties = {
        "Description": ("s", f"pyrunc container {unit.name.removesuffix('.scope')}"),
        "Wants" if unit.is_slice else "Slice": ("as", [unit.slice]) if unit.is_slice else ("s", unit.slice),
        # Not stopped before others at shutdown: an engine ends its containers itself.
        "DefaultDependencies": ("b", False),
        # Gone as soon as it is empty, also after the kernel killed it for lack of memory.
        "CollectMode": ("s", "inactive-or-failed"),
    }
    for name in ("MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"):
        found[name] = ("b", True)
    if not unit.is_slice:
        # The cgroups inside belong to the container, with every controller that there is.
        found["Delegate"] = ("b", True)
        found["PIDs"] = ("au", [pid])
    return found


def of_annotations(annotations: Mapping[str, str]) -> Properties:
    """The annotations `org.systemd.property.NAME`. Raises PyruncError naming the annotation."""
    found: Properties = {}
    for key, text in annotations.items():
        name = key.removeprefix(SYSTEMD_PROPERTY)
        if name == key or not name:
            continue
        where = f"annotations[{key!r}]"
        if len(name) < 3 or not (name.isalpha() and name.isascii()):
            raise PyruncError(
                f"{where}: {name!r} is no property's name",
                remedy="use at least three letters",
                code="invalid-config",
            )
        if name in _OURS:
            raise PyruncError(
                f"{where}: {name} is pyrunc's to set", remedy="remove the annotation", code="invalid-config"
            )
        from pyrunc.linux.cgroups.systemd.gvariant import parse

        try:
            kind, value = parse(text)
            # TimeoutStopSec of unit files is TimeoutStopUSec on D-Bus, in microseconds.
            if name.endswith("Sec") and name[-4:-3].islower():
                name, kind, value = f"{name[:-3]}USec", "t", _microseconds(kind, value)
        except ValueError as error:
            raise PyruncError(
                f"{where}: {text!r} is not a value: {error}",
                remedy="write it as GVariant text, such as \"uint64 5\" or \"['a', 'b']\"",
                code="invalid-config",
            ) from None
        found[name] = kind, value
    return found


def _microseconds(kind: str, value: Any) -> int:
    if kind not in ("y", "n", "q", "i", "u", "x", "t", "d") or not 0 <= value * _SECOND < INFINITY:
        raise ValueError("a number of seconds is due")
    return int(value * _SECOND)


def of_resources(resources: Resources, version: int) -> Properties:
    """The limits, for cgroup v2, that a systemd of this version has properties for."""
    found: Properties = {}
    memory: Resources = resources.get("memory") or {}
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        found["MemoryMax"] = _maximum(limit)
    if reservation := memory.get("reservation"):
        found["MemoryLow"] = _maximum(reservation)
    if (swap_limit := swap_max(limit, swap)) is not None:
        found["MemorySwapMax"] = _maximum(swap_limit)
    cpu: Resources = resources.get("cpu") or {}
    if shares := cpu.get("shares"):
        found["CPUWeight"] = ("t", cpu_weight(shares))
    if cpu.get("idle") and version >= 252:
        found["CPUWeight"] = ("t", 0)
    found |= _quota(cpu.get("quota") or 0, cpu.get("period") or 0, version)
    found |= _cpuset(cpu.get("cpus") or "", cpu.get("mems") or "", version)
    tasks = pids_limit(resources)
    if tasks is not None:
        found["TasksMax"] = _maximum(tasks)
    found |= _io(resources.get("blockIO") or {})
    return found | _unified(resources.get("unified") or {}, version)


def of_change(change: Resources, version: int) -> Properties:
    """The same for what changes of a unit that is there."""
    found = of_resources(change, version)
    # systemd takes it for new units only; what pyrunc writes to memory.oom.group stands until it writes the old word.
    found.pop("OOMPolicy", None)
    busy = (change.get("cpu") or {}).get("idle") == 0 or (change.get("unified") or {}).get("cpu.idle") == "0"
    if busy and version >= 252:
        found.setdefault("CPUWeight", ("t", INFINITY))
    return found


def in_order(
    wanted: Properties, anew: Collection[str] = ("DeviceAllow",)
) -> list[tuple[str, tuple[str, Any]]]:
    """`wanted` as systemd is to read it for a unit that is there.

    What it gets of a list it adds to what it has, each entry in the place of one for the same device; those `anew`
    are emptied first.
    """
    pairs: list[tuple[str, tuple[str, Any]]] = []
    for name, (kind, value) in wanted.items():
        if name in anew and kind.startswith("a("):
            pairs.append((name, (kind, [])))
        pairs.append((name, (kind, value)))
    return pairs


def of_resources_v1(resources: Resources, version: int) -> Properties:
    """The same for cgroup v1."""
    found: Properties = {}
    if limit := (resources.get("memory") or {}).get("limit"):
        found["MemoryLimit"] = _maximum(limit)
    cpu: Resources = resources.get("cpu") or {}
    if shares := cpu.get("shares"):
        found["CPUShares"] = ("t", shares)
    found |= _quota(cpu.get("quota") or 0, cpu.get("period") or 0, version)
    if weight := (resources.get("blockIO") or {}).get("weight"):
        found["BlockIOWeight"] = ("t", max(weight, WEIGHT_MIN))
    tasks = pids_limit(resources)
    if tasks is not None:
        found["TasksMax"] = _maximum(tasks)
    return found


def rounded(resources: Resources) -> Resources:
    """`resources` with the CPU quota that systemd makes of it, so that its next write changes nothing."""
    cpu = resources.get("cpu") or {}
    quota = cpu.get("quota") or 0
    if quota <= 0:
        return resources
    period = cpu.get("period") or _DEFAULT_PERIOD
    return {**resources, "cpu": {**cpu, "quota": _per_second(quota, period) * period // _SECOND}}


def _maximum(value: int) -> tuple[str, int]:
    return "t", INFINITY if value < 0 else value


def _per_second(quota: int, period: int) -> int:
    return -(-quota * _SECOND // (period * _QUOTA_STEP)) * _QUOTA_STEP


def _quota(quota: int, period: int, version: int) -> Properties:
    found: Properties = {}
    if period and version >= 242:
        found["CPUQuotaPeriodUSec"] = ("t", period)
    if quota:
        per_second = _per_second(quota, period or _DEFAULT_PERIOD) if quota > 0 else INFINITY
        if per_second <= INFINITY:  # else it is more than any kernel takes, which says so when it is written
            found["CPUQuotaPerSecUSec"] = ("t", per_second)
    return found


def _cpuset(cpus: str, mems: str, version: int) -> Properties:
    found: Properties = {}
    for name, value in (("AllowedCPUs", cpus), ("AllowedMemoryNodes", mems)):
        # An empty mask or a list that is none: the kernel has the word when the file is written.
        if value and version >= 244 and (mask := bit_mask(value)):
            found[name] = ("ay", mask)
    return found


def bit_mask(text: str) -> bytes:
    """The list `0-2,5` as bits, the first byte holding 0 to 7; empty for what is no such list."""
    bits = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not 0 <= _whole(first) <= _whole(last) < 1 << 13:
            return b""
        bits |= (1 << int(last) + 1) - (1 << int(first))
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


#: Of linux.resources.blockIO: the property for each kind of throttling.
_THROTTLES: Final = (
    ("throttleReadBpsDevice", "IOReadBandwidthMax"),
    ("throttleWriteBpsDevice", "IOWriteBandwidthMax"),
    ("throttleReadIOPSDevice", "IOReadIOPSMax"),
    ("throttleWriteIOPSDevice", "IOWriteIOPSMax"),
)


def _io(values: Resources) -> Properties:
    found: Properties = {}
    # A lower one is BFQ's alone: pyrunc writes it to BFQ's file, or refuses it where there is none.
    if weight := values.get("weight"):
        found["IOWeight"] = ("t", io_weight(max(weight, WEIGHT_MIN)))
    weights = [
        (_block(entry), io_weight(max(entry["weight"], WEIGHT_MIN)))
        for entry in values.get("weightDevice") or ()
        if entry.get("weight")
    ]
    if weights:
        found["IODeviceWeight"] = ("a(st)", weights)
    for key, name in _THROTTLES:
        # 0 is "not limited" in cgroup v1's words.
        if limits := [(_block(entry), entry["rate"] or INFINITY) for entry in values.get(key) or ()]:
            found[name] = ("a(st)", limits)
    return found


def _block(entry: Mapping[str, Any]) -> str:
    return f"/dev/block/{entry['major']}:{entry['minor']}"


#: Files of cgroup v2 whose one value is a number or "max", and their properties; the second is since when.
_FILES: Final = {
    "cpu.weight": ("CPUWeight", 0),
    "memory.min": ("MemoryMin", 0),
    "memory.low": ("MemoryLow", 0),
    "memory.high": ("MemoryHigh", 0),
    "memory.max": ("MemoryMax", 0),
    "memory.swap.max": ("MemorySwapMax", 0),
    "memory.zswap.max": ("MemoryZSwapMax", 253),
    "pids.max": ("TasksMax", 0),
}


def _unified(values: Mapping[str, str], version: int) -> Properties:
    """What `linux.resources.unified` says, as far as systemd has a property for the file; else it says nothing.

    A text that is no value of the file is left to the kernel, which names what it does not take.
    """
    found: Properties = {}
    for name, text in values.items():
        words = text.split()
        if name in _FILES and version >= _FILES[name][1] and len(words) == 1:
            value = INFINITY if words[0] == "max" else _number(words[0])
            if value >= 0:
                found[_FILES[name][0]] = ("t", value)
        elif name == "cpu.idle" and words == ["1"] and version >= 252:
            found["CPUWeight"] = ("t", 0)
        elif name == "cpu.max" and 1 <= len(words) <= 2:
            quota = -1 if words[0] == "max" else _number(words[0])
            period = _number(words[1]) if len(words) == 2 else 0
            if period >= 0 and (quota >= 0 or words[0] == "max"):
                found |= _quota(quota, period, version)
        elif name == "cpuset.cpus":
            found |= _cpuset(text, "", version)
        elif name == "cpuset.mems":
            found |= _cpuset("", text, version)
        elif name == "memory.oom.group" and version >= 253 and words in (["0"], ["1"]):
            found["OOMPolicy"] = ("s", "kill" if words[0] == "1" else "continue")
    return found


def _number(text: str) -> int:
    """A number of a cgroup's file (bytes may have a unit, K to T), -1 for what is none or of more than 64 bits."""
    factor = 1 << 10 * ("KMGT".find(text[-1:].upper()) + 1) if text[-1:].isalpha() else 1
    digits = text[:-1] if text[-1:].isalpha() else text
    if text[-1:].isalpha() and factor == 1:
        return -1
    number = _whole(digits) * factor
    return number if 0 <= number <= INFINITY else -1


def _whole(digits: str) -> int:
    """The number of up to 20 ASCII digits, -1 for what is none."""
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else -1


def of_devices(devices: Any) -> Properties:
    """Device rules as systemd knows them: never less than the rules allow, where it cannot say it exactly more.

    It has no word for what is taken away from a wider permission, and none for a minor number of every major; the
    device program that pyrunc attaches besides denies that. Both programs must let a device pass.
    """
    from pyrunc.linux.cgroups.devices.rules import ANY, MKNOD, READ, WRITE, allows_everything, rules, table

    normal = table(rules(devices))
    if allows_everything(normal):
        return {"DevicePolicy": ("s", "auto"), "DeviceAllow": ("a(ss)", [])}
    wide = {"b": 0, "c": 0}
    allowed: list[tuple[str, str]] = []

    def letters(access: int) -> str:
        return "".join([letter for letter, bit in (("r", READ), ("w", WRITE), ("m", MKNOD)) if access & bit])

    for (kind, major, minor), access in normal.items():
        word = "block" if kind == "b" else "char"
        if major == ANY:
            wide[kind] |= access
        elif access:
            name = f"{word}-{major}" if minor == ANY else f"/dev/{word}/{major}:{minor}"
            allowed.append((name, letters(access)))
    for kind, word in (("b", "block-*"), ("c", "char-*")):
        if wide[kind]:
            allowed.append((word, letters(wide[kind])))
    return {"DevicePolicy": ("s", "strict"), "DeviceAllow": ("a(ss)", allowed)}
