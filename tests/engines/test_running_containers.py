"""What podman and docker do with a container that runs: one test for both."""

from __future__ import annotations

import pytest

from tests.engines import cgroup
from tests.engines.engine import DockerLike
from tests.support import footprint
from tests.support.runtime import wait_for

pytestmark = pytest.mark.needs_cgroups


def test_pause_and_unpause(engine: DockerLike) -> None:
    """While paused it stands still, and cannot be paused again."""
    engine.detached("one", [], "sh", "-c", "echo ready; while true; do echo x; sleep 0.05; done")
    engine.call("pause", "one").ok()
    assert engine.inspect("one", "{{.State.Status}}") == "paused"
    wait_for(lambda: engine.call("logs", "one").out == engine.call("logs", "one").out, 10, "the last line")
    written = engine.call("logs", "one").ok().out
    assert footprint.alive(int(engine.inspect("one", "{{.State.Pid}}")))
    assert engine.call("pause", "one").status != 0
    assert engine.call("logs", "one").ok().out == written
    engine.call("unpause", "one").ok()
    assert engine.inspect("one", "{{.State.Status}}") == "running"
    wait_for(lambda: len(engine.call("logs", "one").out) > len(written), 10, "more output")
    assert engine.call("unpause", "one").status != 0


def test_paused_is_removed_by_force(engine: DockerLike) -> None:
    engine.detached("one", [])
    pid = int(engine.inspect("one", "{{.State.Pid}}"))
    engine.call("pause", "one").ok()
    engine.call("rm", "--force", "one").ok()
    wait_for(lambda: not footprint.alive(pid), 10, "the end of the process")


def test_stats(engine: DockerLike) -> None:
    """The engine finds the container's cgroup and reads the limit and the usage there."""
    engine.detached("one", ["--memory", "64m"])
    words = ["stats", "--no-stream", "--format", "{{.MemUsage}} / {{.PIDs}}", "one"]
    used, most, processes = engine.call(*words).ok().out.strip().split(" / ")
    assert not used.startswith("0B")
    assert most in ("64MiB", "67.11MB")
    assert processes == "1"


def test_update(engine: DockerLike) -> None:
    """Limits of a running container change at once; what is not named stays."""
    engine.detached("one", ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "50"])
    pid = int(engine.inspect("one", "{{.State.Pid}}"))
    assert (cgroup.memory(pid), cgroup.cpu_quota(pid), cgroup.tasks(pid)) == (64 << 20, 50000, 50)
    engine.call("update", "--cpus", "0.25", "one").ok()
    assert (cgroup.memory(pid), cgroup.cpu_quota(pid), cgroup.tasks(pid)) == (64 << 20, 25000, 50)
    engine.call("update", "--memory", "80m", "--memory-swap", "80m", "one").ok()
    assert (cgroup.memory(pid), cgroup.cpu_quota(pid), cgroup.tasks(pid)) == (80 << 20, 25000, 50)
    engine.call("update", "--memory", "48m", "--memory-swap", "48m", "one").ok()
    assert cgroup.memory(pid) == 48 << 20
    assert footprint.alive(pid)
