"""Device rules and their normal form.

config-linux.md "Allowed Device list": rules apply in order, so for each device and each kind of access the
last rule that speaks about it decides; what no rule speaks about is denied. The normal form (`table`) has at
most one entry for each device pattern, narrow patterns first: the first entry that matches a device gives
all the access it allows. Rules differ only by whether they name a number or `*`, so a table over the numbers that
occur in the rules says the same as the rules for every device there is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    #: allow, type ("b" or "c"), major, minor, access (bits)
    Rule = tuple[bool, str, int, int, int]
    #: type, major, minor → access
    Table = dict[tuple[str, int, int], int]

#: Kinds of access, with the kernel's bits (linux/bpf.h: BPF_DEVCG_ACC_*).
MKNOD, READ, WRITE = 1, 2, 4
EVERYTHING: Final = MKNOD | READ | WRITE
#: A major or minor number that stands for every number.
ANY: Final = -1
#: What a container may use unless its rules say otherwise, as under runc: make (not open) any node; null,
#: zero, full, random, urandom, tty; pseudo-terminals and their multiplexer; network tunnels.
DEFAULT: Final[Sequence[Rule]] = (
    (True, "c", ANY, ANY, MKNOD),
    (True, "b", ANY, ANY, MKNOD),
    (True, "c", 1, 3, EVERYTHING),
    (True, "c", 1, 5, EVERYTHING),
    (True, "c", 1, 7, EVERYTHING),
    (True, "c", 1, 8, EVERYTHING),
    (True, "c", 1, 9, EVERYTHING),
    (True, "c", 5, 0, EVERYTHING),
    (True, "c", 136, ANY, EVERYTHING),
    (True, "c", 5, 2, EVERYTHING),
    (True, "c", 10, 200, EVERYTHING),
)

_BITS: Final = {"m": MKNOD, "r": READ, "w": WRITE}
_TYPES: Final = {"a": ("b", "c"), "b": ("b",), "c": ("c",), "u": ("c",)}


def rule_fault(rule: Mapping[str, Any]) -> str:
    """What is wrong with one element of `linux.resources.devices`, "" if nothing."""
    kind = rule.get("type") or "a"
    if kind not in _TYPES:
        return f'has the type "{kind}", which is none of a, b, c'
    access = rule.get("access") or ""
    if not access or access.strip("rwm"):
        return f'has the access "{access}", which must be made of r, w, m'
    for name in ("major", "minor"):
        number = rule.get(name)
        if number is not None and not ANY <= number < 1 << 32:
            return f"has the {name} number {number}, which no device can have"
    return ""


def rules(devices: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """The rules of `linux.resources.devices`, in order, with the default ones among them.

    A rule for type `a` is one for each type. The default ones of a type stand right behind the last rule that denies
    everything of it, with which engines begin and mean no default device; without one, before all others. The peers
    append them, so that a default device which the configuration denies by name is allowed again, against the listed
    order.
    """
    found: list[Rule] = [*DEFAULT]
    for device in devices:
        access = 0
        for letter in device.get("access") or "":
            access |= _BITS[letter]
        major, minor = device.get("major"), device.get("minor")
        major, minor = (ANY if major is None else major), (ANY if minor is None else minor)
        for kind in _TYPES[device.get("type") or "a"]:
            if (device["allow"], major, minor, access) == (False, ANY, ANY, EVERYTHING):
                # Nothing before it counts any more.
                found = [rule for rule in found if rule[1] != kind]
                found += [rule for rule in DEFAULT if rule[1] == kind]
            else:
                found.append((device["allow"], kind, major, minor, access))
    return found


def table(ordered: Sequence[Rule]) -> Table:
    """The normal form of rules that apply in order. Its last entries are `*:*` of each type, always there."""
    normal: Table = {}
    ends: Table = {}
    for kind in ("b", "c"):
        mine = [rule for rule in ordered if rule[1] == kind]
        rest = _decide(mine, ANY, ANY)
        patterns = {(rule[2], rule[3]) for rule in mine}
        majors = {major for major, minor in patterns if major != ANY and minor == ANY}
        minors = {minor for major, minor in patterns if major == ANY and minor != ANY}
        exact = {pattern for pattern in patterns if ANY not in pattern}
        # Where "every minor of 8" meets "minor 3 of every major", both speak about 8:3.
        exact |= {(major, minor) for major in majors for minor in minors}
        # Entries that say what a wider one says anyway are left out.
        by_major = {major: access for major in majors if (access := _decide(mine, major, ANY)) != rest}
        by_minor = {minor: access for minor in minors if (access := _decide(mine, ANY, minor)) != rest}
        for major, minor in sorted(exact):
            access = _decide(mine, major, minor)
            if access != by_major.get(major, by_minor.get(minor, rest)):
                normal[kind, major, minor] = access
        for major in sorted(by_major):
            normal[kind, major, ANY] = by_major[major]
        for minor in sorted(by_minor):
            normal[kind, ANY, minor] = by_minor[minor]
        ends[kind, ANY, ANY] = rest
    return {**normal, **ends}


def _decide(ordered: Sequence[Rule], major: int, minor: int) -> int:
    """The access to major:minor after all rules, where ANY is a number that no rule names."""
    access = 0
    for allow, _, rule_major, rule_minor, bits in ordered:
        if rule_major in (ANY, major) and rule_minor in (ANY, minor):
            access = access | bits if allow else access & ~bits
    return access


def allows_everything(normal: Table) -> bool:
    """Whether a normal form denies nothing at all."""
    return all(access == EVERYTHING for access in normal.values())


def text(kind: str, major: int, minor: int, access: int) -> str:
    """One entry as the kernel's devices.list writes it: `c 1:3 rwm`."""
    letters = "".join([letter for letter, bit in (("r", READ), ("w", WRITE), ("m", MKNOD)) if access & bit])
    return f"{kind} {'*' if major == ANY else major}:{'*' if minor == ANY else minor} {letters}"
