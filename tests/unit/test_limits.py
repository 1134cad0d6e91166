"""Resource limits, OOM score, personality: what is refused."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from pyrunc.linux import limits, personality
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})


def problems(**process: Any) -> list[str]:
    report = Report()
    limits.check({"process": process}, HOST, report)  # type: ignore[typeddict-item]
    return [str(problem) for problem in report.problems]


def limit(kind: str, soft: int = 1, hard: int = 2) -> dict[str, Any]:
    return {"type": f"RLIMIT_{kind}", "soft": soft, "hard": hard}


def test_numbers() -> None:
    assert len(limits.RLIMITS) == 16
    for name, number in limits.RLIMITS.items():
        assert getattr(resource, name, number) == number


def test_duplicate() -> None:
    (text,) = problems(rlimits=[limit("CPU"), limit("CORE"), limit("CPU")])
    assert text.startswith("process.rlimits[2].type: RLIMIT_CPU is given twice")


def test_soft_above_hard() -> None:
    (text,) = problems(rlimits=[limit("CPU", 3, 2)])
    assert text.startswith("process.rlimits[0].soft: 3 is above the hard limit 2")
    assert problems(rlimits=[limit("CPU", 2, 2), limit("AS", limits.INFINITY, limits.INFINITY)]) == []


@pytest.mark.parametrize(
    "score,good", [(-1000, True), (1000, True), (0, True), (1001, False), (-1001, False)]
)
def test_score(score: int, good: bool) -> None:
    assert (problems(oomScoreAdj=score) == []) is good


def test_personality_flags() -> None:
    report = Report()
    config: Any = {"linux": {"personality": {"domain": "LINUX32", "flags": ["X"]}}}
    personality.check(config, HOST, report)
    assert str(report.problems[0]).startswith('linux.personality.flags[0]: unknown flag "X"')
    program = Program()
    personality.plan(config, HOST, program)
    assert program.calls == [("personality", (8,))]
