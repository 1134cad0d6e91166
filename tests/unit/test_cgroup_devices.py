"""Device rules: their normal form, the v1 list and the v2 program all mean what the rules say."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.devices import allowlist_v1, program_v2, rules

ACCESSES = ["".join(c for c in "rwm" if c in s) for s in ("r", "w", "m", "rw", "rm", "wm", "rwm")]
NUMBERS = st.sampled_from([None, -1, 0, 1, 3, 5, (1 << 32) - 1])
RULE = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "type": st.sampled_from([None, "a", "b", "c"]),
        "major": NUMBERS,
        "minor": NUMBERS,
        "access": st.sampled_from(ACCESSES),
    }
)
#: What engines send first, which the rule above hardly ever is.
ALL = st.fixed_dictionaries(
    {
        "allow": st.booleans(),
        "type": st.sampled_from([None, "a", "b", "c"]),
        "major": st.sampled_from([None, -1]),
        "minor": st.sampled_from([None, -1]),
        "access": st.just("rwm"),
    }
)
RULES = st.lists(RULE | ALL, max_size=8)
#: What may be used though no rule asks for it (config-linux.md "Default Devices"; runc adds ptys and tunnels).
DEVICES = {
    ("c", 1, 3),
    ("c", 1, 5),
    ("c", 1, 7),
    ("c", 1, 8),
    ("c", 1, 9),
    ("c", 5, 0),
    ("c", 5, 2),
    ("c", 10, 200),
}
#: Numbers the rules name, and one they do not (10:200, 136, 1:5... come from the default rules).
MAJORS = (0, 1, 3, 5, 10, 136, 4095, (1 << 32) - 1)
MINORS = (0, 1, 3, 5, 200, (1 << 20) - 1, (1 << 32) - 1)
POINTS = [(kind, major, minor) for kind in "bc" for major in MAJORS for minor in MINORS]


def told_by(devices: list[dict[str, Any]], kind: str, major: int, minor: int) -> int:
    """What is allowed, from config-linux.md: entries apply in the listed order, so the last that matches decides.

    One that denies everything, or none at all, says nothing about the default devices: those may be used then.
    """
    allowed = 0
    for bit, letter in ((1, "m"), (2, "r"), (4, "w")):
        for rule in reversed(devices):
            everything = (rule["type"] or "a") in ("a", kind) and rule["access"] == "rwm"
            everything = everything and rule["major"] in (None, -1) and rule["minor"] in (None, -1)
            if everything and not rule["allow"]:
                last = None
                break
            if (
                letter in rule["access"]
                and (rule["type"] or "a") in ("a", kind)
                and rule["major"] in (None, -1, major)
                and rule["minor"] in (None, -1, minor)
            ):
                last = rule["allow"]
                break
        else:
            last = None
        if last is None:
            last = letter == "m" or (kind, major, minor) in DEVICES or (kind, major) == ("c", 136)
        allowed |= bit if last else 0
    return allowed


def interpret(code: bytes, kind: str, access: int, major: int, minor: int) -> int:
    """Run an eBPF program of the few instructions that ours are made of, as the kernel would."""
    context = struct.pack("<III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers = [0] * 11
    registers[1] = 0
    at = steps = 0
    while True:
        steps += 1
        assert steps <= len(code)
        opcode, both, offset, immediate = struct.unpack_from("<BBhi", code, at * 8)
        target, source = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[target] = struct.unpack_from("<I", context, registers[source] + offset)[0]
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0xB7:
            registers[target] = immediate
        elif opcode == 0x57:
            registers[target] &= immediate & (1 << 64) - 1
        elif opcode == 0x77:
            registers[target] >>= immediate
        elif opcode == 0x56:
            if registers[target] & 0xFFFFFFFF != immediate & 0xFFFFFFFF:
                at += offset
        elif opcode == 0x45:
            if registers[target] & immediate & (1 << 64) - 1:
                at += offset
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unexpected instruction {opcode:#x}")


def kernel_v1(planned: allowlist_v1.Writes, kind: str, access: int, major: int, minor: int) -> bool:
    """What a v1 cgroup, fresh below one that allows everything, lets pass after these writes."""
    allow_all, exceptions = True, dict[tuple[str, tuple[int, ...]], int]()
    letters = {"r": 2, "w": 4, "m": 1}
    for name, line in planned:
        if line == "a":
            allow_all, exceptions = name == "devices.allow", {}
            continue
        of, numbers, what = line.split(" ")
        pair = tuple(-1 if word == "*" else int(word) for word in numbers.split(":"))
        bits = sum(letters[letter] for letter in what)
        if allow_all == (name == "devices.deny"):
            exceptions[of, pair] = exceptions.get((of, pair), 0) | bits
        else:
            exceptions[of, pair] = exceptions.get((of, pair), 0) & ~bits
    matching = [
        bits
        for (of, (x, y)), bits in exceptions.items()
        if of == kind and x in (-1, major) and y in (-1, minor)
    ]
    if allow_all:
        return not any(bits & access for bits in matching)
    return any(not access & ~bits for bits in matching)


@settings(max_examples=400, deadline=None)
@given(RULES)
def test_program_decides_as_the_rules_do(devices: list[dict[str, Any]]) -> None:
    code = program_v2.emit(rules.table(rules.rules(devices)))
    for kind, major, minor in POINTS:
        allowed = told_by(devices, kind, major, minor)
        for access in range(1, 8):
            assert interpret(code, kind, access, major, minor) == (not access & ~allowed)


@settings(max_examples=400, deadline=None)
@given(RULES)
def test_v1_list_decides_as_the_rules_do_or_is_refused(devices: list[dict[str, Any]]) -> None:
    normal = rules.table(rules.rules(devices))
    try:
        planned = allowlist_v1.writes(normal, None)
    except PyruncError:
        # Refused: no list of exceptions can say this. `test_what_v1_can_hold` tells that this is no excuse.
        return
    exact = allowlist_v1.allowed(normal) is not None or allowlist_v1.denied(normal) is not None
    for kind, major, minor in POINTS:
        allowed = told_by(devices, kind, major, minor)
        if not exact and not allowed:  # what nobody may use may be made then, as a node that no rule names
            allowed = told_by(devices, kind, 4095, (1 << 20) - 1) & rules.MKNOD
        for access in range(1, 8):
            assert kernel_v1(planned, kind, access, major, minor) == (not access & ~allowed)


@settings(max_examples=200, deadline=None)
@given(RULES, RULES)
def test_v1_update_never_allows_more_than_before_or_after(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    start, target = (rules.table(rules.rules(devices)) for devices in (before, after))
    held, wanted = allowlist_v1.allowed(start), allowlist_v1.allowed(target)
    if held is None or wanted is None or rules.allows_everything(target):
        return
    listed = "\n".join(rules.text(*key, bits) for key, bits in held.items())
    planned = allowlist_v1.writes(target, listed)
    assert not allowlist_v1.starts_anew(planned)
    have = dict(held)
    for name, line in planned:
        ((key, bits),) = (allowlist_v1._parse(line) or {}).items()
        have[key] = have.get(key, 0) | bits if name == "devices.allow" else have.get(key, 0) & ~bits
        assert not have[key] & ~(held.get(key, 0) | wanted.get(key, 0))
    assert {key: bits for key, bits in have.items() if bits} == wanted


def test_crossing_rules_that_v1_cannot_hold_are_refused() -> None:
    # 8:3 may not be written, but the kernel would look at "*:3" too, which says it may.
    devices = [
        {"allow": True, "type": "c", "major": None, "minor": 3, "access": "rw"},
        {"allow": True, "type": "c", "major": 8, "minor": None, "access": "r"},
        {"allow": False, "type": "c", "major": 8, "minor": None, "access": "w"},
    ]
    with pytest.raises(PyruncError, match="cgroup v1 cannot hold these rules"):
        allowlist_v1.writes(rules.table(rules.rules(devices)), None)


def test_rules_that_change_nothing_are_left_out() -> None:
    """What engines send says much twice: rules that earlier, later or wider ones decide anyway."""
    sent = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
        {"allow": True, "type": "c", "major": 8, "minor": 1, "access": "r"},
        {"allow": False, "type": "c", "major": 8, "minor": 1, "access": "r"},
        {"allow": True, "type": "c", "major": 136, "minor": 7, "access": "rw"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "w"},
    ]
    least = rules.table(
        rules.rules([{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}])
    )
    assert rules.table(rules.rules(sent)) == least
    assert len(least) == len(rules.table(rules.rules([]))) + 1
    everything = [*sent, {"allow": True, "access": "rwm"}]
    assert len(rules.table(rules.rules(everything))) == 2, "one entry for each type"


@pytest.mark.parametrize("base", [True, False])
def test_what_v1_can_hold(base: bool) -> None:
    # Everything or nothing first, then exceptions one way: what engines send.
    exceptions = [
        {"allow": not base, "type": "b", "major": 8, "minor": None, "access": "rw"},
        {"allow": not base, "type": "b", "major": 8, "minor": 1, "access": "m"},
        {"allow": not base, "type": "c", "major": 4095, "minor": 3, "access": "w"},
    ]
    everything = {"allow": base, "type": "a", "major": None, "minor": None, "access": "rwm"}
    planned = allowlist_v1.writes(rules.table(rules.rules([everything, *exceptions])), None)
    assert planned[0] == ("devices.allow" if base else "devices.deny", "a")


def test_an_explicit_denial_of_a_default_device_holds() -> None:
    deny = {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "rw"}
    for whole in (True, False):
        normal = rules.table(rules.rules([deny, {"allow": whole, "access": "rwm"}, deny]))
        assert normal.get(("c", 1, 5), normal["c", -1, -1]) == rules.MKNOD
        assert normal.get(("c", 1, 3), normal["c", -1, -1]) == rules.EVERYTHING
        assert allowlist_v1.writes(normal, None), "v1 holds it"
    assert ("c", 1, 5) not in rules.table(rules.rules([deny])), "what any other node may"


def test_v1_lets_a_node_be_made_that_is_denied_by_name() -> None:
    """As docker denies /dev/fuse to every container, while any node may be made by default."""
    nothing = {"allow": False, "access": "rwm"}
    fuse = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    planned = allowlist_v1.writes(rules.table(rules.rules([nothing, fuse])), None)
    assert [kernel_v1(planned, "c", bit, 10, 229) for bit in (rules.MKNOD, rules.READ, rules.WRITE)] == [
        True,
        False,
        False,
    ]
    for use in ("r", "w", "rw"):
        used = [{**fuse, "allow": True, "access": use}, {**fuse, "access": "m"}]
        with pytest.raises(PyruncError, match="cannot hold these rules"):
            allowlist_v1.writes(rules.table(rules.rules([nothing, *used])), None)
    allowed = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}
    with pytest.raises(PyruncError, match="cannot hold these rules"):
        allowlist_v1.writes(rules.table(rules.rules([nothing, {**allowed, "minor": None}, fuse])), None)


def test_default_rules_are_there_after_everything_is_denied() -> None:
    normal = rules.table(rules.rules([{"allow": False, "access": "rwm"}]))
    assert normal["c", 1, 3] == rules.EVERYTHING
    assert normal["c", 136, -1] == rules.EVERYTHING
    assert normal["b", -1, -1] == rules.MKNOD
    assert ("c", 5, 1) not in normal, "the host's console is not for containers"
    assert normal == rules.table(rules.rules([])), "without rules everything else is denied"


def test_privileged_needs_one_write() -> None:
    normal = rules.table(rules.rules([{"allow": True, "access": "rwm"}]))
    assert rules.allows_everything(normal)
    assert allowlist_v1.writes(normal, None) == (("devices.allow", "a"),)


def test_rules_that_v1_cannot_hold_are_refused() -> None:
    devices = [
        {"allow": True, "type": "b", "major": 8, "minor": None, "access": "rw"},
        {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "w"},
    ]
    with pytest.raises(PyruncError, match="cgroup v1 cannot hold these rules"):
        allowlist_v1.writes(rules.table(rules.rules(devices)), None)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"allow": True, "type": "p", "access": "r"}, "type"),
        ({"allow": True, "access": ""}, "access"),
        ({"allow": True, "access": "rx"}, "access"),
        ({"allow": True}, "access"),
        ({"allow": True, "type": "c", "major": -2, "access": "r"}, "major"),
        ({"allow": True, "type": "c", "minor": 1 << 32, "access": "r"}, "minor"),
    ],
)
def test_faulty_rules(rule: dict[str, Any], text: str) -> None:
    assert text in rules.rule_fault(rule)
