"""Freezing a cgroup, whichever version has the host's freezer: what cannot be stopped in time runs on."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
from pyrunc.linux.cgroups.v1 import freezer as v1
from pyrunc.linux.cgroups.v2 import freezer as v2
from tests.support.cgroups import enter
from tests.support.runtime import wait_for

HOST = layout()
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root"),
    pytest.mark.skipif(not HOST.v1 and HOST.v2 is None, reason="this host has no cgroups"),
]
FREEZER = v2 if HOST.pure_v2 else v1
COUNT = itertools.count()
#: A thousandth of a processor, given out once a second: nobody gets on between two of these moments.
SELDOM = {"cpu": {"quota": 1000, "period": 1000000}}
SPIN = ("/bin/sh", "-c", "while :; do :; done")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command in the cgroup of a manager."""
    started: list[subprocess.Popen[bytes]] = []

    def start(manager: Any, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        enter(manager, process.pid)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def make(start: object) -> Iterator[Callable[..., Any]]:
    """Make a manager with its cgroup, one for each call. At the end all is killed, before `start` waits."""
    managers: list[Any] = []

    def make(resources: Any = None) -> Any:
        path = f"/pyrunc-test-{os.getpid()}-{next(COUNT)}"
        config: Any = {"linux": {"cgroupsPath": path}}
        manager = choose(config, "id", HOST, rootless=False)
        manager.create()
        managers.append(manager)
        manager.apply(resources or {})
        return manager

    yield make
    for manager in managers:
        manager.kill()
    wait_for(lambda: not any(manager.pids() for manager in managers), say="the end of all")
    for manager in managers:
        manager.remove()


def home(manager: Any) -> str:
    """The cgroup whose freezer is used."""
    paths = manager.paths()
    return str(paths.get("freezer") or paths[""])


def used(pid: int) -> int:
    """Processor time of a process, in clock ticks."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(words[11]) + int(words[12])


def throttled(manager: Any) -> bool:
    path = manager.paths().get("cpu") or manager.paths()[""]
    text = Path(path, "cpu.stat").read_text()
    return "nr_throttled 0\n" not in text


def test_processes_without_processor_time_are_waited_for(
    make: Callable[..., Any], start: Callable[..., Any]
) -> None:
    """They can only stand still when they get some: longer than a try takes that has no patience."""
    manager = make(SELDOM)
    process = start(manager, *SPIN)
    wait_for(lambda: throttled(manager), say="its first wait for processor time")
    manager.freeze()
    before = used(process.pid)
    time.sleep(1.2)
    assert used(process.pid) == before
    manager.thaw()


def freeze_in_no_time(manager: Any) -> None:
    for _ in range(20):  # one try may fall on the moment of the second that it gets
        FREEZER.freeze(home(manager), 0.02)
        manager.thaw()


def test_what_cannot_be_stopped_runs_on(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make(SELDOM)
    start(manager, *SPIN)
    wait_for(lambda: throttled(manager), say="its first wait for processor time")
    with pytest.raises(PyruncError, match="its processes do not stop"):
        freeze_in_no_time(manager)
    assert not manager.frozen()


def test_what_forks_all_the_time_is_stopped(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"pids": {"limit": 50}})
    start(manager, "/bin/sh", "-c", "while :; do /bin/true & done")
    for _ in range(5):
        manager.freeze()
        before = [(pid, used(pid)) for pid in manager.pids()]
        time.sleep(0.05)
        assert [(pid, used(pid)) for pid in manager.pids()] == before
        manager.thaw()


def test_a_process_does_not_freeze_itself(make: Callable[..., Any]) -> None:
    """Nobody would be left to thaw it. A cgroup whose path ends as ours does is another one."""
    manager = make()
    Path(home(manager), "inside").mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            Path(home(manager), "inside", "cgroup.procs").write_text("0")
            manager.freeze()
        except PyruncError as error:
            os._exit(7 if "this process is in it" in str(error) else 8)
        os._exit(9)
    _, status = wait_for(lambda: (found := os.waitpid(pid, os.WNOHANG))[0] and found, say="its refusal")
    assert os.waitstatus_to_exitcode(status) == 7
    assert tree.pids(home(manager)) == []
    manager.freeze()
    manager.thaw()
