"""How the container's process is scheduled: CPU affinity, `process.scheduler`, `process.ioPriority`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import PATH, Bundle
from tests.support.payload import Testimony
from tests.support.runtime import Runtime

CPUS = sorted(os.sched_getaffinity(0))
#: Real-time processes need time that their cgroup is given (CONFIG_RT_GROUP_SCHED).
GROUP_BUDGET = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists()
UID = GID = 1000


@pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")
def test_a_confined_runtime_does_not_confine_its_containers(runtime: Runtime) -> None:
    runtime.prefix = ["taskset", "-c", str(CPUS[0])]
    assert runtime.ask(runtime.bundle(), "affinity")["affinity"] == CPUS


@pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")
@pytest.mark.parametrize("which", [0, -1])
def test_the_cpuset_of_the_container_holds(runtime: Runtime, which: int) -> None:
    """Whatever the runtime was confined to, also where that is no CPU of the cpuset."""
    runtime.prefix = ["taskset", "-c", str(CPUS[0])]
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"cpu": {"cpus": str(CPUS[which]), "mems": "0"}}
    assert runtime.ask(bundle, "affinity")["affinity"] == [CPUS[which]]


@pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")
def test_exec_cpu_affinity_is_not_for_the_first_process(runtime: Runtime) -> None:
    """config.md: "not applicable to the container's init process"; and it is kept for those that join later."""
    bundle = runtime.bundle().ask("affinity", "sleep")
    bundle.process["execCPUAffinity"] = {"initial": "0", "final": str(CPUS[0])}
    with runtime.running(bundle) as container:
        container.says("ready")
        assert container.testimony["affinity"] == CPUS
        kept = json.loads((runtime.root / container.id / "config.json").read_text())
        assert kept["process"]["execCPUAffinity"] == {"initial": "0", "final": str(CPUS[0])}


@pytest.mark.parametrize("name", ["initial", "final"])
@pytest.mark.parametrize("text", ["0-", "7-3", "100000", ",", "1 2"])
def test_a_bad_cpu_list_is_an_error(runtime: Runtime, name: str, text: str) -> None:
    bundle = runtime.bundle()
    bundle.process["execCPUAffinity"] = {name: text}
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(f"process.execCPUAffinity.{name}")
    before.assert_unchanged()


# -- process.scheduler -------------------------------------------------------------------------------------

OTHER, FIFO, RR, BATCH, IDLE, DEADLINE = 0, 1, 2, 3, 5, 6


def scheduled(under_test: Runtime, bundle: Bundle, **wanted: Any) -> dict[str, Any]:
    bundle.process["scheduler"] = wanted
    told: dict[str, Any] = under_test.ask(bundle, "scheduler")["scheduler"]
    return told


def with_real_time_budget(bundle: Bundle) -> Bundle:
    """A cgroup with time for real-time processes, where those need it: in the cpu controller of cgroup v1."""
    if GROUP_BUDGET:
        bundle.linux["resources"] = {"cpu": {"realtimeRuntime": 10_000, "realtimePeriod": 1_000_000}}
    return bundle


def test_without_scheduler_the_policy_is_that_of_the_caller(runtime: Runtime) -> None:
    runtime.prefix = ["nice", "-n", "3"]
    assert runtime.ask(runtime.bundle(), "scheduler")["scheduler"]["nice"] == os.nice(0) + 3


@pytest.mark.parametrize(
    "wanted,told",
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, {"policy": OTHER, "nice": 7}),
        ({"policy": "SCHED_OTHER", "nice": -20}, {"policy": OTHER, "nice": -20}),
        ({"policy": "SCHED_BATCH", "nice": 19}, {"policy": BATCH, "nice": 19}),
        ({"policy": "SCHED_BATCH"}, {"policy": BATCH, "nice": 0}),
        ({"policy": "SCHED_IDLE"}, {"policy": IDLE}),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, {"policy": BATCH, "flags": 1}),
        (
            {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_KEEP_POLICY"], "nice": 4},
            {"policy": OTHER, "nice": 4},
        ),
        (
            {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_KEEP_PARAMS"], "nice": 4},
            {"policy": OTHER, "nice": os.nice(0) + 3},
        ),
    ],
)
def test_the_fair_policies(runtime: Runtime, wanted: dict[str, Any], told: dict[str, Any]) -> None:
    """Whatever the caller has: unset numbers are 0."""
    runtime.prefix = ["nice", "-n", "3"]
    found = scheduled(runtime, runtime.bundle(), **wanted)
    assert found.items() >= told.items()


@pytest.mark.parametrize("policy,number", [("SCHED_FIFO", FIFO), ("SCHED_RR", RR)])
def test_the_real_time_policies(runtime: Runtime, policy: str, number: int) -> None:
    bundle = with_real_time_budget(runtime.bundle())
    found = scheduled(runtime, bundle, policy=policy, priority=42)
    assert (found["policy"], found["priority"]) == (number, 42)


def test_a_real_time_policy_reset_on_fork(runtime: Runtime) -> None:
    """The flag bites: a child of the container's process is an ordinary one."""
    bundle = with_real_time_budget(runtime.bundle())
    bundle.process["scheduler"] = {
        "policy": "SCHED_FIFO",
        "priority": 1,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"],
    }
    bundle.process["args"] = ["sh", "-c", "testify scheduler; exec testify scheduler"]
    said = runtime.run(bundle).ok().testimony.said
    assert [answer["policy"] for _, answer in said] == [OTHER, FIFO]


def test_the_deadline_policy(runtime: Runtime) -> None:
    wanted = {"runtime": 1_000_000, "deadline": 50_000_000, "period": 100_000_000}
    found = scheduled(runtime, runtime.bundle(), policy="SCHED_DEADLINE", **wanted)
    assert found.items() >= {"policy": DEADLINE, **wanted}.items()


def test_a_deadline_bites(runtime: Runtime) -> None:
    """With a hundredth of a CPU, a loop that wants all of it is throttled."""
    bundle = runtime.bundle()
    bundle.process["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "runtime": 2_000_000,
        "deadline": 100_000_000,
        "period": 100_000_000,
    }
    bundle.process["args"] = ["testify", "spin", "1"]
    assert runtime.run(bundle).ok().testimony["spin 1"] < 0.3


def test_the_policy_is_set_for_a_container_with_user_namespace(runtime: Runtime) -> None:
    """CAP_SYS_NICE of init's own counts for nothing there; that of the runtime does."""
    bundle = with_real_time_budget(runtime.bundle())
    bundle.linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    found = scheduled(runtime, bundle, policy="SCHED_RR", priority=2)
    assert (found["policy"], found["priority"]) == (RR, 2)


def test_hooks_in_the_container(runtime: Runtime) -> None:
    """createContainer hooks are not under the policy of the container's process; startContainer hooks inherit it."""
    bundle = with_real_time_budget(runtime.bundle())
    bundle.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 1}
    probe = bundle.rootfs / "area"
    tell = str(bundle.rootfs / "bin" / "testify")
    bundle.config["hooks"] = {
        "createContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"{tell} scheduler > {probe}/create"], "env": [PATH]}
        ],
        "startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "/bin/testify scheduler > /area/start"], "env": [PATH]}
        ],
    }
    runtime.run(bundle.ask("pid")).ok()
    found = [Testimony((probe / name).read_text())["scheduler"]["policy"] for name in ("create", "start")]
    assert found == [OTHER, FIFO]


def test_an_ordinary_user_may_be_nicer_and_not_less_nice(runtime: Runtime) -> None:
    user = runtime.as_user(UID, GID)
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID)
    nicer = max(5, os.getpriority(os.PRIO_PROCESS, 0))
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": nicer}
    assert user.ask(bundle, "scheduler")["scheduler"].items() >= {"policy": BATCH, "nice": nicer}.items()
    bundle.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": -5}
    user.run(bundle).fails("set the scheduler to SCHED_OTHER", "operation not permitted", "CAP_SYS_NICE")
    bundle.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 1}
    user.run(bundle).fails("set the scheduler to SCHED_FIFO", "operation not permitted", "CAP_SYS_NICE")


@pytest.mark.skipif(not GROUP_BUDGET, reason="this host has no real-time budgets of cgroups")
def test_a_cgroup_without_budget_is_named(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = {"policy": "SCHED_RR", "priority": 1}
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(
        "set the scheduler to SCHED_RR: operation not permitted", "no time for real-time", "realtimeRuntime"
    )
    before.assert_unchanged()


@pytest.mark.skipif(len(CPUS) < 2, reason="this host has a single CPU")
def test_a_deadline_in_a_cpuset_is_explained(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"cpu": {"cpus": str(CPUS[0]), "mems": "0"}}
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 10**6, "deadline": 10**8}
    runtime.run(bundle).fails("set the scheduler to SCHED_DEADLINE: operation not permitted", "every CPU")


def test_more_deadline_than_there_is(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 99 * 10**6, "deadline": 10**8}
    first = runtime.container(bundle.ask("sleep"))
    found = [first.create()] + [runtime.container(bundle).create() for _ in CPUS]
    refused = [outcome for outcome in found if outcome.status]
    assert refused
    refused[0].fails("set the scheduler to SCHED_DEADLINE: device or resource busy", "lower runtime")


@pytest.mark.parametrize(
    "wanted,path",
    [
        ({"policy": "SCHED_ISO"}, "process.scheduler.policy: SCHED_ISO is not implemented by Linux"),
        ({"policy": "SCHED_WRONG"}, "process.scheduler.policy"),
        ({"nice": 1}, "process.scheduler"),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_WRONG"]}, "process.scheduler.flags[0]"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice: 20 is out of range"),
        ({"policy": "SCHED_FIFO"}, "process.scheduler.priority: 0 is out of range"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "process.scheduler.priority"),
        ({"policy": "SCHED_FIFO", "priority": 1, "period": 1}, "process.scheduler.period"),
        ({"policy": "SCHED_DEADLINE"}, "runtime <= deadline <= period"),
    ],
)
def test_what_is_no_scheduler_is_refused(runtime: Runtime, wanted: dict[str, Any], path: str) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = wanted
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(path)
    before.assert_unchanged()


# -- process.ioPriority ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,number,level",
    [
        ("IOPRIO_CLASS_RT", 1, 0),
        ("IOPRIO_CLASS_RT", 1, 7),
        ("IOPRIO_CLASS_BE", 2, 3),
        ("IOPRIO_CLASS_IDLE", 3, 0),
    ],
)
def test_io_priority(runtime: Runtime, name: str, number: int, level: int) -> None:
    bundle = runtime.bundle()
    bundle.process["ioPriority"] = {"class": name, "priority": level}
    assert runtime.ask(bundle, "io-priority")["io-priority"] == {"class": number, "level": level}


def test_io_priority_of_every_process_of_the_group(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    bundle.process["args"] = ["sh", "-c", "testify io-priority; exec testify io-priority"]
    said = runtime.run(bundle).ok().testimony.said
    assert [answer for _, answer in said] == [{"class": 2, "level": 6}] * 2


def test_io_priority_and_scheduler_together(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    bundle.process["scheduler"] = {"policy": "SCHED_IDLE"}
    said = runtime.ask(bundle, "io-priority", "scheduler")
    assert (said["io-priority"]["class"], said["scheduler"]["policy"]) == (3, IDLE)


def test_real_time_io_takes_privileges(runtime: Runtime) -> None:
    user = runtime.as_user(UID, GID)
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID)
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_RT", "priority": 0}
    user.run(bundle).fails(
        "set the I/O priority to IOPRIO_CLASS_RT, level 0: operation not permitted", "CAP_SYS"
    )
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 7}
    assert user.ask(bundle, "io-priority")["io-priority"] == {"class": 2, "level": 7}


@pytest.mark.parametrize(
    "wanted",
    [
        {"class": "IOPRIO_CLASS_NONE", "priority": 0},
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        {"class": "IOPRIO_CLASS_BE", "priority": -1},
        {"class": "IOPRIO_CLASS_BE"},
        {"priority": 1},
    ],
)
def test_what_is_no_io_priority_is_refused(runtime: Runtime, wanted: dict[str, Any]) -> None:
    bundle = runtime.bundle()
    bundle.process["ioPriority"] = wanted
    runtime.run(bundle).fails("process.ioPriority")
