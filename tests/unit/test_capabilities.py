"""The five capability sets: names, masks, what is granted, in which order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux import capabilities
from pyrunc.linux.capabilities import NAMES, NUMBERS, Sets, mask, names_of
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

SYS_RESOURCE = 1 << NUMBERS["CAP_SYS_RESOURCE"]


def host(without: int = 0, last: int = 40) -> Host:
    found = Host(0, 0, False, {})
    found.capabilities = ((1 << 41) - 1) & ~without
    found.last_capability = last
    return found


def config(*kinds: str, **sets: list[str]) -> Any:
    named = {kind: [f"CAP_{name}" for name in names] for kind, names in sets.items()}
    return {"process": {"capabilities": named}, "linux": {"namespaces": [{"type": kind} for kind in kinds]}}


def report_of(config: Any, host: Host) -> Report:
    report = Report()
    capabilities.check(config, host, report)
    return report


def warnings(config: Any, host: Host) -> list[str]:
    report = report_of(config, host)
    assert report.problems == []
    return [str(warning) for warning in report.warnings]


def test_names_are_those_of_the_kernel() -> None:
    """The header of the build machine may be older than the table, never the other way round."""
    header = Path("/usr/include/linux/capability.h").read_text()
    found = {
        name: int(number)
        for name, number in re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", header, re.MULTILINE)
    }
    assert found and {name: NUMBERS.get(name) for name in found} == found
    assert len(NAMES) == 41 and names_of(mask(list(NAMES))) == list(NAMES)


@pytest.mark.parametrize(
    "name,remedy",
    [("CAP_NOSUCH", "capabilities(7)"), ("SYS_ADMIN", "write CAP_SYS_ADMIN"), ("cap_kill", "write CAP_KILL")],
)
def test_unknown_name(name: str, remedy: str) -> None:
    bad: Any = {"process": {"capabilities": {"bounding": ["CAP_KILL", name]}}}
    (problem,) = report_of(bad, host()).problems
    assert str(problem).startswith(f'process.capabilities.bounding[1]: unknown capability "{name}"')
    assert remedy in str(problem)


def test_what_cannot_be_granted_is_a_warning() -> None:
    wanted = ["KILL", "SYS_RESOURCE"]
    asked = config(bounding=wanted, permitted=wanted, effective=wanted)
    (text,) = warnings(asked, host(without=SYS_RESOURCE))
    assert "cannot grant CAP_SYS_RESOURCE" in text
    assert warnings(asked, host()) == []


def test_a_user_namespace_has_all_of_the_kernels() -> None:
    asked = config("user", bounding=["SYS_RESOURCE"])
    assert warnings(asked, host(without=SYS_RESOURCE)) == []
    (text,) = warnings(config("user", bounding=["CHECKPOINT_RESTORE"]), host(last=39))
    assert "CAP_CHECKPOINT_RESTORE" in text


@pytest.mark.parametrize(
    "sets,text",
    [
        ({"effective": ["KILL"]}, "cannot grant CAP_KILL: is not in permitted"),
        ({"inheritable": ["KILL"]}, "cannot grant CAP_KILL: is not in bounding"),
        (
            {"bounding": ["KILL"], "permitted": ["KILL"], "ambient": ["KILL"]},
            "is not in both permitted and inheritable",
        ),
    ],
)
def test_sets_that_the_kernel_refuses(sets: dict[str, list[str]], text: str) -> None:
    (warning,) = warnings(config(**sets), host())
    assert text in warning


def test_absent_sets_are_empty() -> None:
    cases: list[Any] = [{"process": {}}, {"process": {"capabilities": {}}}]
    for absent in cases:
        sets = Sets(absent)
        assert [getattr(sets, name) for name in Sets.__slots__] == [0] * 5


def test_order_of_the_steps() -> None:
    wanted = ["KILL", "CHOWN"]
    asked = config(
        bounding=wanted, permitted=wanted, effective=wanted, inheritable=["KILL"], ambient=["KILL"]
    )
    program = Program()
    capabilities.plan_before_user(asked, host(), program)
    steps = [step for step, _ in program.texts]
    assert len(steps) == 39 + 1
    assert all(step.startswith("drop CAP_") for step in steps[:-1]) and "keep capabilities" in steps[-1]
    assert not any("CAP_KILL " in step or "CAP_CHOWN " in step for step in steps)
    after = Program()
    capabilities.plan_after_user(asked, host(), after)
    assert [name for name, _ in after.calls] == ["prctl", "prctl", "capset", "prctl"]
    steps = [step for step, _ in after.texts]
    assert steps[2] == "set capabilities to effective 0x21, permitted 0x21, inheritable 0x20"
    assert steps[3] == "add CAP_KILL to the ambient set"


def test_nothing_is_dropped_that_the_kernel_does_not_know() -> None:
    """PR_CAPBSET_DROP of such a number is EINVAL."""
    program = Program()
    capabilities.plan_before_user(config(), host(last=37), program)
    assert [args[1] for name, args in program.calls if args[0] == 24] == list(range(38))


def test_passable() -> None:
    able, last = capabilities.passable()
    assert last == int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert able < 1 << last + 1
