"""Whenever `update` is told to stop, everything it has changed is put back: a signal at each line of what it runs."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux.cgroups import files
from pyrunc.linux.cgroups.change import due
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
from pyrunc.log import Log

HOST = layout()
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root")

M = 1 << 20
BEFORE: dict[str, Any] = {"memory": {"limit": 64 * M}, "pids": {"limit": 20}, "cpu": {"shares": 512}}
CHANGE: dict[str, Any] = {
    "memory": {"limit": 32 * M, "reservation": 16 * M},
    "pids": {"limit": 30},
    "cpu": {"shares": 1024, "quota": 50000, "period": 50000},
}
EVERYTHING = {"allow": True, "access": "rwm"}
KMSG = {"type": "c", "major": 1, "minor": 11, "access": "r"}


class Warnings(Log):
    """What could not be put back."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def warning(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def manager(start: Callable[..., Any]) -> Iterator[Any]:
    """Of a cgroup with a process in it."""
    path = f"/pyrunc-test-{os.getpid()}-interrupted"
    config: Any = {"linux": {"resources": BEFORE, "cgroupsPath": path}}
    manager = choose(config, "id", HOST, rootless=False)
    manager.create()
    try:
        manager.apply(BEFORE)
        start(manager, "/bin/sleep", "1000")
        yield manager
    finally:
        manager.kill()
        manager.remove()


def held(manager: Any) -> dict[str, str]:
    """All that the change is about, and whether the processes run."""
    names = {
        1: "memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max cpu/cpu.shares "
        "cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us devices/devices.list freezer/freezer.state",
        2: "/memory.max /memory.low /pids.max /cpu.weight /cpu.max /cgroup.freeze",
    }[manager.version]
    places = [name.split("/") for name in names.split()]
    homes = manager.paths()
    return {
        f"{home}/{name}": "\n".join(sorted(files.get(homes[home], name).splitlines()))
        for home, name in places
    }


def interrupted(line: int, function: Callable[[], object]) -> bool:
    """Call `function`, as if a signal arrived before the `line`th line of the cgroup code; False: there are fewer."""
    seen = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if "/pyrunc/linux/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            seen += 1
            if seen == line:
                sys.settrace(None)
                raise PyruncError("interrupted", code="interrupted")
        return trace

    sys.settrace(trace)
    try:
        function()
    except PyruncError as error:
        assert error.code == "interrupted"
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize(
    "devices",
    [[EVERYTHING], [EVERYTHING, {"allow": False, **KMSG}], [{"allow": True, **KMSG}]],
    ids=["all", "all but one", "one more"],
)
def test_everything_is_put_back(manager: Any, devices: list[dict[str, Any]]) -> None:
    """On cgroup v1 the device list is as it was, not only as the configuration has it: others write to it, too."""
    if manager.version == 1:
        files.write(manager.paths()["devices"], "devices.allow", "c 1:10 r")
    before = held(manager)
    change = due(BEFORE, {**CHANGE, "devices": devices})
    for line in itertools.count(1):
        log = Warnings()
        with Undo(log) as undo:
            stopped = interrupted(line, partial(manager.update, change, BEFORE, undo.push))
            if not stopped:
                assert held(manager) != before
        assert (line, held(manager), log.texts) == (line, before, [])
        if not stopped:
            break
    assert line > 100
