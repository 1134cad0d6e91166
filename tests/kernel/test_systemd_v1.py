"""The systemd manager on cgroup v1, in real hierarchies, with the part of systemd left out: no host has both.

What systemd would do, place the process in its own hierarchy, is not seen here; all that pyrunc does itself is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
