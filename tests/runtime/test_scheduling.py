"""How the container's process is scheduled: CPU affinity, `process.scheduler`, `process.ioPriority`."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.runtime import Runtime

CPUS = sorted(os.sched_getaffinity(0))


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
