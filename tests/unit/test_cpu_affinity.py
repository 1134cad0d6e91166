"""Lists of CPUs and their masks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.linux import cpu_affinity
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report


@given(st.sets(st.integers(0, cpu_affinity.CPUS_MAX - 1), min_size=1, max_size=40))
def test_a_list_of_numbers_is_their_mask(cpus: set[int]) -> None:
    bits = int.from_bytes(cpu_affinity.mask(",".join(map(str, cpus))), "little")
    assert bits == sum(1 << cpu for cpu in cpus)


@pytest.mark.parametrize(
    "text,cpus",
    [
        ("0", {0}),
        ("0-3,7", {0, 1, 2, 3, 7}),
        (" 1 , 3 - 4 ,", {1, 3, 4}),
        ("5-5", {5}),
        ("0-1,1-2", {0, 1, 2}),
        ("007", {7}),
        ("1023-1025,8191", {1023, 1024, 1025, 8191}),
    ],
)
def test_ranges(text: str, cpus: set[int]) -> None:
    mask = cpu_affinity.mask(text)
    assert len(mask) % 8 == 0
    assert {cpu for cpu in range(8 * len(mask)) if mask[cpu // 8] >> cpu % 8 & 1} == cpus


@pytest.mark.parametrize(
    "text,word",
    [
        (",", "lists no CPU"),
        ("3-1", "from high to low"),
        ("1-", "neither a number nor a range"),
        ("-1", "neither a number nor a range"),
        ("1-2-3", "neither a number nor a range"),
        ("1 2", "neither a number nor a range"),
        ("٣", "neither a number nor a range"),
        ("8192", "out of range"),
        ("0-99999999999999999999", "out of range"),
        ("9" * 5000, "out of range"),
    ],
)
def test_what_is_no_list(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        cpu_affinity.mask(text)


@pytest.mark.parametrize("name", ["initial", "final"])
def test_a_bad_list_is_refused_with_its_path(name: str) -> None:
    report = Report()
    config: Any = {"process": {"execCPUAffinity": {name: "3-1"}}}
    cpu_affinity.check(config, Host(0, 0, False, {}), report)
    assert [problem.path for problem in report.problems] == [f"process.execCPUAffinity.{name}"]


def test_empty_lists_ask_for_nothing() -> None:
    report = Report()
    config: Any = {"process": {"execCPUAffinity": {"initial": "", "final": "0"}}}
    cpu_affinity.check(config, Host(0, 0, False, {}), report)
    assert report.problems == []


def test_init_is_given_every_cpu() -> None:
    program = Program()
    cpu_affinity.plan(program)
    assert program.calls[0][:1] == ("sched_setaffinity",)
    assert program.calls[0][1][:2] == (0, 1024)
