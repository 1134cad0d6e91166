"""What becomes of `linux.resources` when some of it changes (`update`). Pure functions.

A property that is not asked for, as `resources` means it, stays as it is. Lists with a key (block device, page size,
interface, RDMA device) take what is given entry by entry; the list of device rules, whose order counts, is replaced.
"""

from __future__ import annotations

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.resources import THROTTLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pyrunc.linux.cgroups.resources import Resources

#: Objects of limits, each with a name.
_GROUPS: Final = ("memory", "cpu", "pids", "blockIO", "network")
#: What is neither: lists, and objects whose names are not the specification's.
_OTHERS: Final = ("devices", "hugepageLimits", "rdma", "unified")
#: Properties whose 0 is a value. Elsewhere it means "not asked for".
_ZERO_COUNTS: Final = frozenset(
    [("memory", "swappiness"), ("cpu", "burst"), ("cpu", "idle"), ("pids", "limit")]
)
#: Lists in which an entry stands for what some of its properties name.
_KEYED: Final = {
    ("blockIO", "weightDevice"): ("major", "minor"),
    **{("blockIO", name): ("major", "minor") for name in THROTTLES},
    ("network", "priorities"): ("name",),
}
#: Objects of limits and the controllers of cgroup v2 that systemd has properties for.
_CONTROLLERS: Final = {
    "memory": ("memory",),
    "cpu": ("cpu", "cpuset"),
    "pids": ("pids",),
    "blockIO": ("io",),
}
#: The same limits as files of cgroup v2, which `unified` names: whichever comes later counts.
_FILES: Final = {
    "memory.max": ("memory", ("limit",)),
    "memory.swap.max": ("memory", ("swap",)),
    "memory.low": ("memory", ("reservation",)),
    "cpu.weight": ("cpu", ("shares",)),
    "cpu.weight.nice": ("cpu", ("shares",)),
    "cpu.idle": ("cpu", ("idle",)),
    "cpu.max": ("cpu", ("quota", "period")),
    "cpu.max.burst": ("cpu", ("burst",)),
    "cpuset.cpus": ("cpu", ("cpus",)),
    "cpuset.mems": ("cpu", ("mems",)),
    "pids.max": ("pids", ("limit",)),
}


def asked(change: Resources) -> dict[str, Any]:
    """`change` without what is not asked for, and what the specification does not know (its "Extensibility")."""
    found: dict[str, Any] = {}
    for group, values in change.items():
        if group in _GROUPS:
            found[group] = {
                name: value for name, value in (values or {}).items() if _counts(group, name, value)
            }
        elif group in _OTHERS:
            found[group] = values
    return {group: values for group, values in found.items() if values}


def _counts(group: str, name: str, value: Any) -> bool:
    return bool(value) or value is False or (value == 0 and (group, name) in _ZERO_COUNTS)


def merged(before: Resources, change: Resources) -> dict[str, Any]:
    """All that holds after `change`, if `before` did."""
    wanted = asked(change)
    whole = {group: _copy(values) for group, values in before.items() if values}
    _forget(whole, wanted)
    for group, values in wanted.items():
        if group == "devices":
            whole[group] = values
        elif group == "hugepageLimits":
            whole[group] = _upserted(whole.get(group) or (), values, ("pageSize",))
        elif group == "rdma":
            held = whole.get(group) or {}
            whole[group] = held | {
                name: {**held.get(name, {}), **(new or {})} for name, new in values.items()
            }
        else:
            held = whole.setdefault(group, {})
            for name, value in values.items():
                key = _KEYED.get((group, name))
                held[name] = _upserted(held.get(name) or (), value, key) if key else value
    return {group: values for group, values in whole.items() if values}


def _copy(values: Any) -> Any:
    return dict(values) if isinstance(values, dict) else values


def _forget(whole: dict[str, Any], wanted: Resources) -> None:
    """Take from `whole` what `wanted` overrides under another name."""
    for file, (group, names) in _FILES.items():
        if file in (wanted.get("unified") or {}):
            for name in names:
                whole.get(group, {}).pop(name, None)
        if any(name in wanted.get(group, {}) for name in names):
            whole.get("unified", {}).pop(file, None)
    memory = wanted.get("memory", {})
    if memory.get("limit") == -1 and "swap" not in memory:
        # Without a limit of memory there can be none of memory with swap.
        whole.get("memory", {}).pop("swap", None)
        whole.get("unified", {}).pop("memory.swap.max", None)


def _upserted(held: Sequence[Any], given: Sequence[Any], key: tuple[str, ...]) -> list[Any]:
    """`held` with the entries of `given`, each in the place of the one with the same key."""
    found = {tuple([entry[name] for name in key]): entry for entry in held}
    for entry in given:
        place = tuple([entry[name] for name in key])
        found[place] = {**found.get(place, {}), **entry}
    return list(found.values())


def due(before: Resources, change: Resources, devices_unsure: bool = False) -> dict[str, Any]:
    """What of `merged` has to be written, as the resources of which it is a part.

    That is what `change` asks for, with the values that it only makes sense together with: of memory and swap, of a
    quota and its period, always both. Device rules that mean what the present ones mean are left out, unless those
    are `devices_unsure`: what somebody else has added to the kernel's list meanwhile stays there. Raises PyruncError
    for shares of a cgroup that is idle.
    """
    wanted, whole = asked(change), merged(before, change)
    for group, pair in (("memory", ("limit", "swap")), ("cpu", ("quota", "period"))):
        if any(name in wanted.get(group, {}) for name in pair):
            _complete(wanted, whole, group, pair)
    if "memory" in wanted and whole["memory"].get("checkBeforeUpdate"):
        _complete(wanted, whole, "memory", ("checkBeforeUpdate",))
    if "cpu" in wanted:
        _settle_idle(wanted, whole)
    devices = wanted.get("devices")
    if devices and not devices_unsure and _means_the_same(before.get("devices") or (), devices):
        del wanted["devices"]
    return wanted


def _complete(wanted: dict[str, Any], whole: Resources, group: str, names: Sequence[str]) -> None:
    held = whole[group]
    wanted[group] = {**wanted[group], **{name: held[name] for name in names if held.get(name)}}


def _settle_idle(wanted: dict[str, Any], whole: Resources) -> None:
    """The kernel takes no shares for an idle cgroup, and gives one that is not idle any more those of a new one."""
    cpu = wanted["cpu"]
    if cpu.get("idle") == 0:
        _complete(wanted, whole, "cpu", ("shares",))
    elif whole["cpu"].get("idle") and "shares" in cpu:
        if "idle" not in cpu:
            raise PyruncError(
                "linux.resources.cpu.shares: the cgroup is idle (cpu.idle is 1), and has no shares",
                remedy="set cpu.idle to 0 too",
                code="invalid-config",
            )
        wanted["cpu"] = {name: value for name, value in cpu.items() if name != "shares"}


def touched(resources: Resources, change: Resources) -> dict[str, Any]:
    """What of `resources` is in the controllers that `change` is about, as it has to be written; no device rules.

    For a cgroup in which somebody else, systemd, writes all files of a controller when one value changes.
    """
    found: dict[str, Any] = {}
    about = {name for group in change for name in _CONTROLLERS.get(group, ())}
    about |= {name.partition(".")[0] for name in change.get("unified") or ()}
    for group, names in _CONTROLLERS.items():
        if group in resources and about.intersection(names):
            found[group] = resources[group]
    unified = resources.get("unified") or {}
    found["unified"] = {name: text for name, text in unified.items() if name.partition(".")[0] in about}
    return due({}, found)


def _means_the_same(one: Any, other: Any) -> bool:
    from pyrunc.linux.cgroups.devices.rules import rules, table

    return table(rules(one)) == table(rules(other))
