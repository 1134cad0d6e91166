"""`update` of a container in a unit of systemd: root's on a system of its own, or the tester's own systemd."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.runtime.test_systemd_cgroup import limited, show, systemctl, unit_of, with_systemd
from tests.runtime.test_systemd_cgroup import waiting as waiting_twice
from tests.support.limits import M, held
from tests.support.runtime import Container, Runtime
from tests.support.updating import obstacle, saved, update, with_json

pytestmark = with_systemd


@pytest.fixture
def service(runtime: Runtime) -> Runtime:
    """The runtime with systemd's cgroups."""
    runtime.globals = ["--systemd-cgroup"]
    runtime.auto_cgroup = True
    return runtime


def told(container: Container, *names: str) -> dict[str, str]:
    """Properties of the container's unit."""
    return {name: show(unit_of(container), name) for name in names}


def test_the_unit_keeps_it(service: Runtime) -> None:
    """Nothing changes when systemd loads itself anew, also not what it has no property for."""
    resources = {"memory": {"limit": 64 * M, "swap": 96 * M}, "cpu": {"shares": 512}, "pids": {"limit": 20}}
    with service.running(limited(service, **resources)) as container:
        change = {
            "memory": {"limit": 80 * M},
            "cpu": {"shares": 100, "quota": 12345, "period": 50000, "burst": 1000, "cpus": "1"},
            "pids": {"limit": -1},
            "unified": {"memory.high": "60M"},
        }
        with_json(container, change).ok()
        properties = {
            "MemoryMax": str(80 * M),
            "MemorySwapMax": str(16 * M),
            "MemoryHigh": str(60 * M),
            "CPUWeight": "17",
            "CPUQuotaPerSecUSec": "250ms",
            "CPUQuotaPeriodUSec": "50ms",
            "AllowedCPUs": "1",
            "TasksMax": "infinity",
        }
        assert told(container, *properties) == properties
        files = {
            "memory.max": str(80 * M),
            "memory.swap.max": str(16 * M),
            "memory.high": str(60 * M),
            "cpu.weight": "17",
            "cpu.max": "12500 50000",
            "cpu.max.burst": "1000",
            "cpuset.cpus": "1",
            "pids.max": "max",
        }
        for times in ("as updated", "as systemd writes it again"):
            assert dict(zip(files, held(container, *files), strict=True)) == files, times
            systemctl("daemon-reload")
        update(container, "--cpu-quota", "-1", "--pids-limit", "0").ok()
        assert told(container, "CPUQuotaPerSecUSec", "TasksMax") == {
            "CPUQuotaPerSecUSec": "infinity",
            "TasksMax": "1",
        }
        assert held(container, "pids.max", "memory.max") == ["1", str(80 * M)]


def test_what_systemd_would_write_over(service: Runtime) -> None:
    """Changing one value has it write all it knows of the controller, and of these files it knows nothing."""
    unified = {"memory.oom.group": "1", "cpu.weight.nice": "-5"}
    with service.running(limited(service, memory={"limit": 64 * M})) as container:
        with_json(container, {"unified": unified}).ok()
        update(container, "--memory", "80m", "--cpu-quota", "50000").ok()
        assert held(container, "memory.max", "memory.oom.group", "cpu.weight.nice") == [
            str(80 * M),
            "1",
            "-5",
        ]


def test_idle(service: Runtime) -> None:
    with service.running(limited(service, cpu={"shares": 512})) as container:
        update(container, "--cpu-idle", "1").ok()
        systemctl("daemon-reload")
        assert held(container, "cpu.idle") == ["1"]
        update(container, "--cpu-idle", "0").ok()
        systemctl("daemon-reload")
        assert held(container, "cpu.idle", "cpu.weight") == ["0", "59"]


@pytest.mark.parametrize("start", ["bare", "limited"])
def test_what_was_told_is_taken_back(service: Runtime, start: str) -> None:
    """The configuration cannot be saved, after everything else is done."""
    resources: dict[str, Any] = {
        "memory": {"limit": 64 * M, "swap": 96 * M},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"},
        "pids": {"limit": 20},
    }
    names = (
        "MemoryMax",
        "MemorySwapMax",
        "MemoryHigh",
        "CPUWeight",
        "CPUQuotaPerSecUSec",
        "AllowedCPUs",
        "TasksMax",
    )
    files = (
        "memory.max",
        "memory.swap.max",
        "memory.high",
        "cpu.weight",
        "cpu.max",
        "cpuset.cpus.effective",  # cpuset.cpus itself cannot become empty again
        "pids.max",
    )
    with service.running(limited(service, **(resources if start == "limited" else {}))) as container:
        before = told(container, *names), held(container, *files), saved(container)
        obstacle(container)
        change = {
            "memory": {"limit": 32 * M, "swap": 32 * M},
            "cpu": {"shares": 100, "quota": 10000, "period": 50000, "cpus": "1"},
            "pids": {"limit": 30},
            "unified": {"memory.high": "30M"},
        }
        outcome = with_json(container, change).fails("save", "config.json")
        assert "level=warning" not in outcome.err, "all could be taken back"
        assert (told(container, *names), held(container, *files), saved(container)) == before
        systemctl("daemon-reload")
        assert held(container, *files) == before[1]


def test_what_the_kernel_refuses_systemd_is_not_told(service: Runtime) -> None:
    with service.running(limited(service, pids={"limit": 20})) as container:
        with_json(container, {"pids": {"limit": 30}, "unified": {"memory.high": "x"}}).fails('write "x"')
        assert told(container, "TasksMax") == {"TasksMax": "20"}
        assert held(container, "pids.max") == ["20"]


@pytest.mark.needs_root
def test_devices(service: Runtime) -> None:
    """Also after systemd has loaded itself anew: it and pyrunc's own program both let pass, or both do not."""
    nothing = {"allow": False, "access": "rwm"}
    kmsg = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
    bundle = service.bundle()
    bundle.linux["resources"] = {"devices": [nothing]}
    bundle.linux["devices"] = [{"path": "/dev/message", "type": "c", "major": 1, "minor": 11}]
    with service.running(waiting_twice(bundle, "open /dev/message w", "open /dev/zero rw")) as container:
        with_json(container, {"devices": [nothing, kmsg]}).ok()
        assert "/dev/char/1:11 w" in show(unit_of(container), "DeviceAllow")
        systemctl("daemon-reload")
        (bundle.rootfs / "go1").touch()
        container.says("done1")
        with_json(container, {"devices": [nothing]}).ok()
        assert "/dev/char/1:11" not in show(unit_of(container), "DeviceAllow")
        (bundle.rootfs / "go2").touch()
        container.says("done2")
        answers = [json.loads(line)["answer"] for line in container.out.splitlines() if '"ask"' in line]
        assert answers == [0, 0, {"errno": "EPERM"}, 0]


@pytest.mark.needs_root
def test_a_slice(service: Runtime) -> None:
    """Without the controllers that a scope is given."""
    bundle = service.bundle().sleeper()
    container = service.container(bundle)
    name = f"pyrunctestupdate{container.id.rpartition('-')[2]}.slice"
    bundle.linux["cgroupsPath"] = f":test:{name}"
    container.create().ok()
    with_json(container, {"pids": {"limit": 20}, "cpu": {"cpus": "1"}}).ok()
    assert (show(name, "TasksMax"), show(name, "AllowedCPUs")) == ("20", "1")
    assert held(container, "pids.max", "cpuset.cpus") == ["20", "1"]
    container.delete("--force").ok()
