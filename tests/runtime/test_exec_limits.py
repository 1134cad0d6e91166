"""exec: the process has the container's limits, priorities and policies."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.exec import home_v2, started
from tests.support.runtime import Container, Runtime, wait_for

CPUS = sorted(os.sched_getaffinity(0))
UID = GID = 1000
several_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")


@pytest.mark.needs_root
def test_limits_umask_and_the_rest(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": UID, "gid": GID, "umask": 0o77, "additionalGids": [5, 6]}
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 100},
    ]
    bundle.process["oomScoreAdj"] = 321
    bundle.linux["personality"] = {"domain": "LINUX32"}
    container = started(runtime, bundle)
    said = container.asks("ids", "rlimits", "personality", "read /proc/self/oom_score_adj")
    assert (said["ids"]["umask"], sorted(said["ids"]["groups"])) == (0o77, [5, 6])
    assert said["rlimits"]["RLIMIT_NOFILE"] == [50, 60]
    assert said["rlimits"]["RLIMIT_CORE"] == [0, 0]
    assert said["rlimits"]["RLIMIT_NPROC"] == [100, 100]
    assert said["personality"] == 8
    assert said["read /proc/self/oom_score_adj"].strip() == "321"


@pytest.mark.needs_root
def test_a_limit_of_processes_that_is_reached(runtime: Runtime) -> None:
    """Two stages are not two processes of that user."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 47111, "gid": 47111}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 2, "hard": 2}]
    container = started(runtime, bundle)
    assert container.asks("rlimits")["rlimits"]["RLIMIT_NPROC"] == [2, 2]


@pytest.mark.needs_root
def test_a_limit_of_processes_of_the_caller(runtime: Runtime) -> None:
    """It is not the container's, and does not keep the process from being cloned."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 47112, "gid": 47112}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 50, "hard": 60}]
    container = started(runtime, bundle)
    container.exec(["sleep", "1000"], "--detach").ok()
    runtime.prefix = ["prlimit", "--nproc=1:60", "--"]
    confined = Container(runtime, bundle, container.id)
    assert confined.asks("rlimits")["rlimits"]["RLIMIT_NPROC"] == [50, 60]


def test_a_limit_that_cannot_be_raised(runtime: Runtime) -> None:
    container = started(runtime, runtime.bundle())
    file = runtime.folder / "process.json"
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    file.write_text(json.dumps({"cwd": "/", "args": ["true"], "rlimits": [limit]}))
    container.exec([], "-p", str(file)).fails("exec failed", "RLIMIT_NOFILE", "fs.nr_open")


@several_cpus
@pytest.mark.parametrize("affinity", [{"final": str(CPUS[-1])}, {"initial": str(CPUS[0])}, {}])
def test_cpu_affinity(runtime: Runtime, affinity: dict[str, str]) -> None:
    """`final`, or every CPU of the cgroup, whatever the caller is confined to."""
    bundle = runtime.bundle()
    bundle.process["execCPUAffinity"] = affinity
    container = started(runtime, bundle)
    runtime.prefix = ["taskset", "-c", str(CPUS[0])]
    expected = [CPUS[-1]] if "final" in affinity else CPUS
    assert Container(runtime, bundle, container.id).asks("affinity")["affinity"] == expected


@several_cpus
@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_initial_cpu_affinity(v2: Runtime) -> None:
    """Seen while a frozen cgroup holds the process on its way in; the final one comes after that."""
    bundle = v2.bundle()
    bundle.process["execCPUAffinity"] = {"initial": str(CPUS[-1]), "final": str(CPUS[0])}
    container = started(v2, bundle)
    v2.verb("pause", container.id).ok()
    running = v2.spawn("exec", "--ignore-paused", container.id, "testify", "affinity")
    procs = home_v2(container) / "cgroup.procs"
    others = wait_for(lambda: set(procs.read_text().split()) - {str(container.pid)}, say="a second process")
    (pid,) = map(int, others)
    assert sorted(os.sched_getaffinity(pid)) == [CPUS[-1]]
    v2.verb("resume", container.id).ok()
    assert running.wait().ok().testimony["affinity"] == [CPUS[0]]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_BATCH", "nice": 7}, (3, 7)),
        ({"policy": "SCHED_BATCH", "nice": 8, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (3, 8)),
        ({"policy": "SCHED_OTHER", "nice": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (0, 9)),
    ],
)
def test_scheduler_and_io_priority(
    runtime: Runtime, scheduler: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Also where a child would not inherit it."""
    bundle = runtime.bundle()
    bundle.process["scheduler"] = scheduler
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    said = started(runtime, bundle).asks("scheduler", "io-priority")
    assert (said["scheduler"]["policy"], said["scheduler"]["nice"]) == expected
    assert "6" in str(said["io-priority"])


@pytest.mark.needs_root
def test_memory_policy(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    if not Path("/sys/devices/system/node/node0").exists():
        pytest.skip("the kernel knows no NUMA nodes")
    container = started(runtime, bundle)
    assert "2" in str(container.asks("memory-policy")["memory-policy"])
