"""The systemd manager on cgroup v1, in real hierarchies, with the part of systemd left out: no host has both.

What systemd would do, place the process in its own hierarchy, is not seen here; all that pyrunc does itself is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyrunc.linux.cgroups.layout import SYSTEMD, layout
from pyrunc.linux.cgroups.manager import restore
from pyrunc.linux.cgroups.systemd.legacy import Manager
from pyrunc.linux.cgroups.systemd.manager import Service
from pyrunc.linux.cgroups.systemd.systemd import Systemd
from pyrunc.linux.cgroups.systemd.unit import unit
from pyrunc.plan.program import TALK, Program

if TYPE_CHECKING:
    from pyrunc.linux.cgroups.systemd.properties import Properties

pytestmark = [
    pytest.mark.skipif(os.path.isfile("/sys/fs/cgroup/cgroup.controllers"), reason="this host has cgroup v2"),
    pytest.mark.needs_root,
]


class Absent(Service):
    """A service whose systemd agrees to everything; `asked`: the properties."""

    asked: Properties

    def start(self, pid: int, limits: Properties) -> None:
        self.asked = limits
        self.started = True

    def stop(self, home: str) -> None:
        self.started = False


class Rewriting(Systemd):
    """A systemd that holds properties, and with each change denies all devices before it allows some again.

    `home`: of the devices. `changes`: what it was told, and whether the container stood still meanwhile.
    """

    def __init__(self, manager: Manager) -> None:
        super().__init__(False, "unix:path=/nowhere")
        self.manager = manager
        self.held: dict[str, Any] = {"MemoryLimit": 64 << 20, "TasksMax": 7, "CPUQuotaPerSecUSec": 500000}
        self.changes: list[tuple[dict[str, Any], bool]] = []

    def version(self) -> int:
        return 240

    def properties(self, unit: str, names: Iterable[str]) -> dict[str, Any]:
        return {name: self.held[name] for name in names}

    def change(self, unit: str, pairs: Sequence[tuple[str, tuple[str, Any]]]) -> None:
        self.held |= {name: value for name, (_, value) in pairs}
        self.changes.append(({name: value for name, (_, value) in pairs}, self.manager.frozen()))
        Path(self.manager.home("devices"), "devices.deny").write_text("a")
        Path(self.manager.home("devices"), "devices.allow").write_text("c 1:* rwm")
        Path(self.manager.home("pids"), "pids.max").write_text(str(self.held["TasksMax"]))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def manager() -> Iterator[Manager]:
    name = f"pyrunc-test-{os.getpid()}"
    wanted = unit(f":{name}:box", "box", rootless=False)
    service = Absent(wanted, Systemd(False, "unix:path=/nowhere"), {}, 252)
    manager = Manager.of(service, f"/{name}/{wanted.name}", layout())
    yield manager
    manager.remove()
    assert not any(os.path.exists(os.path.dirname(home.path)) for home in manager.homes)


def test_limits_are_set_before_init_goes_on(manager: Manager, process: subprocess.Popen[bytes]) -> None:
    assert SYSTEMD not in manager.paths()
    manager.create()
    manager.apply(
        {"pids": {"limit": 7}, "cpu": {"quota": 12345, "period": 50000}, "memory": {"limit": 64 << 20}}
    )
    assert Path(manager.home("pids"), "pids.max").read_text() == "max\n"
    assert manager.admit(process.pid)
    assert Path(manager.home("pids"), "pids.max").read_text() == "7\n"
    assert Path(manager.home("cpu"), "cpu.cfs_quota_us").read_text() == "12500\n"
    assert Path(manager.home("memory"), "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
    allowed = Path(manager.home("devices"), "devices.list").read_text().splitlines()
    assert "c 1:3 rwm" in allowed
    assert "a *:* rwm" not in allowed
    assert isinstance(manager.service, Absent)
    assert manager.service.asked["MemoryLimit"] == ("t", 64 << 20)
    assert manager.service.asked["TasksMax"] == ("t", 7)
    for descriptor in manager.entrances().values():
        os.close(descriptor)
    Path(manager.home("freezer"), "cgroup.procs").write_text(str(process.pid))
    manager.kill()
    assert process.wait(timeout=20) == -9


def test_init_waits_and_then_enters_each_hierarchy(manager: Manager) -> None:
    program = Program(3)
    program.set(TALK, program.inherit("talk"))
    manager.plan_entry(program)
    steps = [program.text(index)[0] for index in range(len(program))]
    assert steps.index("wait until systemd has made the cgroup") < min(
        steps.index(f"enter cgroup {home.path}") for home in manager.homes
    )
    assert sum(step.startswith("enter cgroup") for step in steps) == len(manager.homes)


def test_the_record_is_enough(manager: Manager, process: subprocess.Popen[bytes]) -> None:
    manager.create()
    manager.apply({})
    manager.admit(process.pid)
    again = restore(manager.record())
    assert again.paths() == manager.paths()
    assert again.record() == manager.record()
    assert manager.intent()["systemd"] == manager.record()["systemd"]


def test_a_unit_of_somebody_else_is_left_alone(manager: Manager, process: subprocess.Popen[bytes]) -> None:
    """Not admitted, nobody in the cgroup is ours to kill."""
    manager.create()
    Path(manager.home("freezer"), "cgroup.procs").write_text(str(process.pid))
    manager.kill()
    assert process.poll() is None


def test_an_update_is_written_told_and_written_again(
    manager: Manager, process: subprocess.Popen[bytes]
) -> None:
    """And taken back in reverse, with systemd's word and the device list."""
    before = {
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 7},
        "cpu": {"quota": 25000, "period": 50000},
        "devices": [{"allow": False, "access": "rwm"}],
    }
    manager.create()
    manager.apply(before)
    manager.admit(process.pid)
    systemd = manager.service.systemd = Rewriting(manager)
    exact = Path(manager.home("devices"), "devices.list").read_text()
    undo: list[Callable[[], object]] = []
    change = {"memory": {"limit": 80 << 20}, "pids": {"limit": 9}, "cpu": {"quota": 12345, "period": 50000}}

    def limits() -> list[str]:
        places = ("memory", "limit_in_bytes"), ("pids", "max"), ("cpu", "cfs_quota_us"), ("devices", "list")
        return [Path(manager.home(name), f"{name}.{file}").read_text() for name, file in places]

    at_first = limits()
    manager.update(change, before, undo.append)
    told = {"MemoryLimit": 80 << 20, "TasksMax": 9, "CPUQuotaPerSecUSec": 250000}
    assert systemd.changes == [(told, True)]
    assert limits() == [f"{80 << 20}\n", "9\n", "12500\n", exact]
    assert not manager.frozen()
    held = dict(systemd.held)
    while undo:
        undo.pop()()
    assert limits() == at_first
    assert {name: systemd.held[name] for name in told} == {
        "MemoryLimit": 64 << 20,
        "TasksMax": 7,
        "CPUQuotaPerSecUSec": 500000,
    }
    assert held != systemd.held
    assert [frozen for _, frozen in systemd.changes] == [True, True]
    assert not manager.frozen()


def test_what_systemd_has_no_word_for_is_only_written(
    manager: Manager, process: subprocess.Popen[bytes]
) -> None:
    manager.create()
    manager.apply({})
    manager.admit(process.pid)
    systemd = manager.service.systemd = Rewriting(manager)
    undo: list[Callable[[], object]] = []
    manager.update({"memory": {"swappiness": 5}}, {}, undo.append)
    assert len(undo) == 1
    assert systemd.changes == []
    assert Path(manager.home("memory"), "memory.swappiness").read_text() == "5\n"
