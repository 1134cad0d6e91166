"""`process.scheduler`: which numbers go with which policy, and struct sched_attr."""

from __future__ import annotations

import subprocess
from pathlib import Path
from struct import unpack
from typing import Any

import pytest

from pyrunc.linux import io_priority, scheduler
from pyrunc.plan.host import Host
from pyrunc.validate.report import Report


def problems(wanted: dict[str, Any], **rest: Any) -> list[str]:
    report = Report()
    config: Any = {"process": {"scheduler": wanted}, **rest}
    scheduler.check(config, Host(0, 0, False, {}), report)
    return [f"{problem.path}: {problem.text}" for problem in report.problems]


@pytest.mark.parametrize(
    "wanted",
    [
        {"policy": "SCHED_OTHER"},
        {"policy": "SCHED_OTHER", "nice": -20},
        {"policy": "SCHED_BATCH", "nice": 19, "priority": 0},
        {"policy": "SCHED_IDLE", "nice": 0},
        {"policy": "SCHED_FIFO", "priority": 1},
        {"policy": "SCHED_RR", "priority": 99, "runtime": 0},
        {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024},
        {"policy": "SCHED_DEADLINE", "runtime": 10**6, "deadline": 10**7, "period": 10**8, "priority": 0},
    ],
)
def test_what_goes_together(wanted: dict[str, Any]) -> None:
    assert problems(wanted) == []


@pytest.mark.parametrize(
    "wanted,path",
    [
        ({"policy": "SCHED_ISO"}, "policy"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "nice"),
        ({"policy": "SCHED_BATCH", "nice": -21}, "nice"),
        ({"policy": "SCHED_FIFO", "priority": 1, "nice": 1}, "nice"),
        ({"policy": "SCHED_IDLE", "nice": 1}, "nice"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "priority"),
        ({"policy": "SCHED_FIFO"}, "priority"),
        ({"policy": "SCHED_RR", "priority": 100}, "priority"),
        ({"policy": "SCHED_FIFO", "priority": -1}, "priority"),
        ({"policy": "SCHED_OTHER", "runtime": 1}, "runtime"),
        ({"policy": "SCHED_RR", "priority": 1, "deadline": 1}, "deadline"),
        ({"policy": "SCHED_BATCH", "period": 1}, "period"),
    ],
)
def test_what_does_not(wanted: dict[str, Any], path: str) -> None:
    (problem,) = problems(wanted)
    assert problem.startswith(f"process.scheduler.{path}: ")


@pytest.mark.parametrize(
    "numbers", [(0, 0, 0), (1023, 2000, 2000), (2000, 1999, 0), (2000, 3000, 2999), (2000, 3000, 1 << 63)]
)
def test_the_numbers_of_a_deadline(numbers: tuple[int, int, int]) -> None:
    runtime, deadline, period = numbers
    wanted = {"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period}
    (problem,) = problems(wanted)
    assert "runtime <= deadline <= period" in problem


def test_a_deadline_process_cannot_start_hooks() -> None:
    wanted: dict[str, Any] = {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000}
    hooks = {"startContainer": [{"path": "/bin/true"}]}
    (problem,) = problems(wanted, hooks=hooks)
    assert "cannot start the startContainer hooks" in problem
    wanted["flags"] = ["SCHED_FLAG_RESET_ON_FORK"]
    assert problems(wanted, hooks=hooks) == []


def test_unset_numbers_are_zero() -> None:
    """config.md: "If not set, the runtime must use the value 0"."""
    assert scheduler.attributes({"policy": "SCHED_BATCH"}) == bytes([56, 0, 0, 0, 3]) + bytes(51)


def test_the_structure() -> None:
    raw = scheduler.attributes(
        {
            "policy": "SCHED_DEADLINE",
            "flags": list(scheduler.FLAGS),
            "nice": -5,
            "priority": 7,
            "runtime": 1,
            "deadline": 2,
            "period": 3,
        }
    )
    assert unpack("<IIQiIQQQII", raw) == (56, 6, 0x7F, -5, 7, 1, 2, 3, 0, 0)


def test_the_numbers_are_those_of_the_headers(tmp_path: Path) -> None:
    names = {**scheduler.POLICIES, **scheduler.FLAGS, **io_priority.CLASSES}
    names |= {"IOPRIO_WHO_PGRP": io_priority.IOPRIO_WHO_PGRP, "sizeof(struct sched_attr)": 56}
    names |= {"IOPRIO_CLASS_SHIFT": io_priority.IOPRIO_CLASS_SHIFT}
    names["SCHED_NORMAL"] = names.pop("SCHED_OTHER")
    lines = "\n".join(f'_Static_assert({name} == {value}, "{name}");' for name, value in names.items())
    headers = "#include <linux/ioprio.h>\n#include <linux/sched.h>\n#include <linux/sched/types.h>\n"
    (tmp_path / "numbers.c").write_text(f"{headers}{lines}\n")
    subprocess.run(["cc", "-c", "-o", tmp_path / "numbers.o", tmp_path / "numbers.c"], check=True)
