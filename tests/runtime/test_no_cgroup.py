"""`--cgroup-manager disabled`: a container without a cgroup of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Runtime, wait_for


@pytest.fixture
def without(runtime: Runtime) -> Runtime:
    runtime.globals = ["--cgroup-manager", "disabled"]
    return runtime


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_stays_in_the_cgroup_of_its_creator(without: Runtime) -> None:
    bundle = without.bundle().sleeper()
    before = without.footprint(bundle)
    container = without.container(bundle)
    container.create().ok()
    assert Path(f"/proc/{container.pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    container.start().ok()
    assert container.status == "running"
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    before.assert_unchanged()


@pytest.mark.parametrize(
    "resources,path",
    [
        ({"memory": {"limit": 1 << 26}}, "linux.resources.memory.limit"),
        ({"pids": {"limit": 10}}, "linux.resources.pids.limit"),
        ({"cpu": {"shares": 10}}, "linux.resources.cpu.shares"),
        ({"cpu": {"cpus": "0"}}, "linux.resources.cpu.cpus"),
    ],
)
def test_a_limit_is_refused(without: Runtime, resources: dict[str, Any], path: str) -> None:
    bundle = without.bundle()
    bundle.linux["resources"] = resources
    before = without.footprint(bundle)
    without.run(bundle).fails(path, "a limit needs a cgroup, and cgroups are disabled")
    before.assert_unchanged()


def test_no_limit_is_no_limit(without: Runtime) -> None:
    """What says "unlimited" is true."""
    bundle = without.bundle()
    bundle.linux["resources"] = {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}
    without.ask(bundle, "pid")


def test_device_rules_are_said_to_be_lost(without: Runtime) -> None:
    """Every engine sends some; whoever disables cgroups gets the container, and a warning."""
    bundle = without.bundle().ask("pid")
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    outcome = without.run(bundle).ok()
    assert "level=warning" in outcome.err
    assert "nothing keeps the container from devices" in outcome.err


def test_kill_reaches_every_process_of_a_pid_namespace(without: Runtime) -> None:
    bundle = without.bundle().shell("sleep 1000 & sleep 1000 & echo up; wait")
    container = without.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("up")
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    assert len(children) == 2
    container.kill("KILL").ok()
    wait_for(lambda: not any(alive(int(pid)) for pid in children), say="the end of all")


def test_without_a_pid_namespace_it_says_what_kill_reaches(without: Runtime) -> None:
    bundle = without.bundle().without_namespace("pid").shell("sleep 1000 & echo up; wait")
    container = without.container(bundle)
    warning = container.create().ok()
    assert "kill and delete reach its first process only" in warning.err + container.err
    container.start().ok()
    container.says("up")
    pid = container.pid
    (child,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    container.delete("--force").ok()
    assert not alive(pid)
    assert alive(child)


def test_a_mount_of_cgroups_shows_none(without: Runtime) -> None:
    """Type `cgroup` shows the container's own cgroups; this one has none."""
    bundle = without.bundle().mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    assert without.ask(bundle, "ls /sys/fs/cgroup")["ls /sys/fs/cgroup"] == []
