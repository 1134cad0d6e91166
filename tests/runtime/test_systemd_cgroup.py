"""`--systemd-cgroup` with a real systemd: root's on a system of its own, or that of the user who runs the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Container, Runtime, wait_for

BOOTED = os.path.isdir("/run/systemd/system")
ROOT = os.geteuid() == 0
V2 = os.path.isfile("/sys/fs/cgroup/cgroup.controllers")
SLICE = "pyrunctest.slice"
MANAGER = ["systemctl"] if ROOT else ["systemctl", "--user"]

with_systemd = pytest.mark.skipif(not BOOTED, reason="this host has no systemd")


def systemctl(*words: str) -> str:
    done = subprocess.run([*MANAGER, *words], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    return done.stdout.strip()


def show(unit: str, name: str) -> str:
    """One property of a unit."""
    return systemctl("show", "--value", "-p", name, "--", unit)


def exists(unit: str) -> bool:
    return show(unit, "LoadState") != "not-found"


@pytest.fixture
def service(runtime: Runtime) -> Iterator[Runtime]:
    """The runtime with systemd's cgroups; containers are in units named `test-ID.scope`."""
    runtime.globals = ["--systemd-cgroup"]
    runtime.auto_cgroup = True
    yield runtime
    systemctl("stop", SLICE)


def unit_of(container: Container) -> str:
    return f"test-{container.id}.scope"


def limited(runtime: Runtime, **resources: object) -> Bundle:
    bundle = runtime.bundle().sleeper()
    bundle.linux["resources"] = resources
    return bundle


def waiting(bundle: Bundle, *questions: str) -> Bundle:
    """Ask each time that the file /go1, /go2 is there."""
    asks = " -- ".join(questions)
    return bundle.shell(
        "for i in 1 2; do until [ -e /go$i ]; do sleep 0.1; done; testify "
        + asks
        + "; echo done$i; done; sleep 1000"
    )


# -- without systemd, or without the right one --------------------------------------------------------------


@pytest.mark.skipif(BOOTED, reason="this host has systemd")
@pytest.mark.parametrize("words", [["--systemd-cgroup"], ["--cgroup-manager", "systemd"]])
def test_a_host_without_systemd(runtime: Runtime, words: list[str]) -> None:
    runtime.globals = words
    runtime.auto_cgroup = False
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("this host is not run by systemd", "--cgroup-manager cgroupfs")
    before.assert_unchanged()


@pytest.mark.needs_root
def test_a_user_without_a_session(runtime: Runtime) -> None:
    user = runtime.as_user(3999, 3999)
    user.globals = ["--systemd-cgroup"]
    bundle = user.bundle().rootless(3999, 3999).give_rootfs(3999, 3999)
    said = "no d-bus of a user's systemd" if V2 else "needs cgroup v2"
    user.run(bundle).fails(said, "--cgroup-manager cgroupfs")


@with_systemd
def test_a_bus_that_is_none(service: Runtime, folder: Path) -> None:
    """Asked for the caller's own systemd, at an address where nobody is."""
    service.globals += ["--rootless", "true"]
    service.env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={folder}/none"
    service.run(service.bundle()).fails(
        "reach systemd", "no such file or directory", "systemctl --user status"
    )


@with_systemd
@pytest.mark.skipif(ROOT, reason="this host's tests run as root, who may do all")
def test_the_systems_own_is_not_for_everybody(service: Runtime) -> None:
    service.globals += ["--rootless", "false"]
    bundle = service.bundle()
    before = service.footprint(bundle)
    service.run(bundle).fails("start systemd unit", "be root")
    before.assert_unchanged()


# -- the unit ------------------------------------------------------------------------------------------------


@with_systemd
def test_the_scope_and_its_properties(service: Runtime) -> None:
    bundle = limited(
        service,
        memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        cpu={"shares": 512, "quota": 12345, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"},
        pids={"limit": 50},
        unified={"memory.high": "60M", "memory.oom.group": "1"},
    )
    container = service.container(bundle)
    bundle.linux["cgroupsPath"] = f"{SLICE}:test:{container.id}"
    before = service.footprint(bundle)
    container.create().ok()
    unit = unit_of(container)
    (line,) = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    assert line.endswith(f"/{SLICE}/{unit}")
    expected = {
        "Description": f"pyrunc container test-{container.id}",
        "Slice": SLICE,
        "Delegate": "yes",
        "DefaultDependencies": "no",
        "CollectMode": "inactive-or-failed",
        "MemoryMax": str(64 << 20),
        "MemoryLow": str(32 << 20),
        "MemorySwapMax": str(32 << 20),
        "MemoryHigh": str(60 << 20),
        "CPUWeight": "59",
        "CPUQuotaPerSecUSec": "250ms",
        "CPUQuotaPeriodUSec": "50ms",
        "AllowedCPUs": "0",
        "AllowedMemoryNodes": "0",
        "TasksMax": "50",
        "OOMPolicy": "kill",
    }
    assert {name: show(unit, name) for name in expected} == expected
    home = container.cgroup()
    files = {
        "memory.max": str(64 << 20),
        "memory.low": str(32 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.high": str(60 << 20),
        "memory.oom.group": "1",
        "cpu.weight": "59",
        "cpu.max": "12500 50000",
        "cpu.max.burst": "1000",  # systemd has no property for it
        "cpuset.cpus": "0",
        "pids.max": "50",
    }
    for times in ("as made", "as systemd writes it again"):
        assert {name: (home / name).read_text().strip() for name in files} == files, times
        systemctl("daemon-reload")
    container.start().ok()
    container.delete("--force").ok()
    assert not exists(unit)
    systemctl("stop", SLICE)
    before.assert_unchanged()


@with_systemd
@pytest.mark.needs_root
def test_devices_of_the_unit(service: Runtime) -> None:
    """What systemd can say of the rules it is told, so that it does not take it away when it loads itself anew."""
    nothing = {"allow": False, "access": "rwm"}
    device = {"type": "c", "major": 1, "minor": 11, "access": "w"}
    rules = {
        "allowed": [nothing, {"allow": True, **device}],
        "denied": [nothing],
        # systemd has no word for taking away: the device program that pyrunc attaches has.
        "taken away": [{"allow": True, "access": "rwm"}, {"allow": False, **device}],
    }
    made = {}
    for name, devices in rules.items():
        bundle = service.bundle()
        bundle.linux["resources"] = {"devices": devices}
        bundle.linux["devices"] = [{"path": "/dev/message", "type": "c", "major": 1, "minor": 11}]
        made[name] = service.container(waiting(bundle, "open /dev/message w", "open /dev/zero rw"))
        made[name].create().ok()
        made[name].start().ok()
        assert show(unit_of(made[name]), "DevicePolicy") == "strict"
    assert "/dev/char/1:11 w" in show(unit_of(made["allowed"]), "DeviceAllow")
    for times in (1, 2):
        for name, container in made.items():
            (container.bundle.rootfs / f"go{times}").touch()
            container.says(f"done{times}")
            answer = {"errno": "EPERM"} if name != "allowed" else 0
            lines = [json.loads(line)["answer"] for line in container.out.splitlines() if '"ask"' in line]
            assert lines == [answer, 0] * times, name
        systemctl("daemon-reload")


@with_systemd
def test_annotations_are_properties(service: Runtime) -> None:
    bundle = service.bundle().sleeper()
    bundle.config["annotations"] = {
        "org.systemd.property.TimeoutStopUSec": "uint64 123000000",
        "org.systemd.property.Documentation": "['man:pyrunc(8)', 'man:runc(8)']",
        "org.systemd.property.RuntimeMaxSec": "3600",
        "org.systemd.property.Description": "'a box'",
    }
    with service.running(bundle) as container:
        unit = unit_of(container)
        assert show(unit, "TimeoutStopUSec") == "2min 3s"
        assert show(unit, "Documentation").replace('"', "") == "man:pyrunc(8) man:runc(8)"
        assert show(unit, "RuntimeMaxUSec") == "1h"
        assert show(unit, "Description") == "a box"


@with_systemd
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "NoSuchThing",
            "5",
            ["start systemd unit", "NoSuchThing", "check the annotations org.systemd.property."],
        ),
        ("TimeoutStopUSec", "'soon'", ["start systemd unit", "check the annotations"]),
        ("TimeoutStopUSec", "soon", ["org.systemd.property.TimeoutStopUSec", "'soon' is neither a value"]),
        ("PIDs", "[uint32 1]", ["org.systemd.property.PIDs", "pyrunc's to set"]),
    ],
)
def test_an_annotation_that_is_no_property(service: Runtime, name: str, text: str, words: list[str]) -> None:
    bundle = service.bundle()
    bundle.config["annotations"] = {f"org.systemd.property.{name}": text}
    before = service.footprint(bundle)
    service.run(bundle).fails(*words)
    before.assert_unchanged()


@with_systemd
def test_a_name_of_ones_own(service: Runtime) -> None:
    """Without cgroupsPath the unit is named after the container."""
    service.auto_cgroup = False
    container = service.container(service.bundle().sleeper())
    container.create().ok()
    line = Path(f"/proc/{container.pid}/cgroup").read_text().strip()
    assert line.endswith(f"/{'system' if ROOT else 'user'}.slice/pyrunc-{container.id}.scope")
    container.delete("--force").ok()
    assert not exists(f"pyrunc-{container.id}.scope")


@with_systemd
@pytest.mark.needs_root  # systemd moves no process into a slice for anybody
def test_a_slice(service: Runtime) -> None:
    """A name that ends with .slice is the slice that the container is in, without a scope."""
    bundle = service.bundle().sleeper()
    name = f"pyrunctest{os.getpid()}"
    bundle.linux["cgroupsPath"] = f":test:{name}.slice"
    bundle.linux["resources"] = {"pids": {"limit": 20}}
    before = service.footprint(bundle)
    container = service.container(bundle)
    container.create().ok()
    assert Path(f"/proc/{container.pid}/cgroup").read_text().strip().endswith(f"/{name}.slice")
    assert show(f"{name}.slice", "TasksMax") == "20"
    container.delete("--force").ok()
    assert not exists(f"{name}.slice") or show(f"{name}.slice", "ActiveState") == "inactive"
    before.assert_unchanged()


@with_systemd
@pytest.mark.needs_root
def test_a_user_of_the_container_owns_its_cgroup(service: Runtime) -> None:
    """config-linux.md "Cgroup ownership"."""
    bundle = service.bundle().map_ids(300000, 65536).give_rootfs(300000, 300000).namespace("cgroup").sleeper()
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    with service.running(bundle) as container:
        home = container.cgroup()
        assert home.stat().st_uid == 300000
        assert (home / "cgroup.procs").stat().st_uid == 300000
        assert (home / "memory.max").stat().st_uid == 0


@with_systemd
def test_joined_namespaces(service: Runtime) -> None:
    """Init comes in two stages then, and both are in the unit."""
    with service.running(service.bundle().sleeper()) as first:
        bundle = service.bundle().sleeper()
        kinds = ["pid", "ipc"] if ROOT else ["user", "pid", "ipc", "mount"]
        if not ROOT:
            bundle.linux.pop("uidMappings")
            bundle.linux.pop("gidMappings")
            kinds = ["user", "pid", "ipc"]
        for kind in kinds:
            name = {"mount": "mnt"}.get(kind, kind)
            bundle.namespace(kind, f"/proc/{first.pid}/ns/{name}")
        with service.running(bundle) as second:
            assert second.cgroup().name == unit_of(second)
            assert (second.cgroup() / "cgroup.procs").read_text().split() == [str(second.pid)]


# -- limits bite, as with the other manager --------------------------------------------------------------------


@with_systemd
def test_pids_limit_bites(service: Runtime) -> None:
    said = service.ask(limited(service, pids={"limit": 10}), "forks 50")["forks 50"]
    assert said == {"made": 9, "errno": "EAGAIN"}


@with_systemd
def test_memory_limit_bites(service: Runtime) -> None:
    bundle = limited(service, memory={"limit": 16 << 20, "swap": 16 << 20})
    outcome = service.run(bundle.ask("eat 4", "eat 200"))
    assert outcome.testimony["eat 4"] == 4
    assert outcome.status == 137


@with_systemd
def test_a_child_that_is_killed_for_memory_does_not_end_the_container(service: Runtime) -> None:
    """systemd stops units of which the kernel killed a process, but not those that are delegated."""
    bundle = limited(service, memory={"limit": 16 << 20, "swap": 16 << 20})
    outcome = service.run(bundle.shell("testify eat 200; echo still here; sleep 1; echo and now"))
    assert outcome.status == 0, repr(outcome)
    assert "still here" in outcome.out
    assert "and now" in outcome.out


@with_systemd
def test_limits_hold_before_the_first_step(service: Runtime) -> None:
    """Where memory does not suffice for init it is told so, and nothing stays."""
    bundle = limited(service, memory={"limit": 8192})
    before = service.footprint(bundle)
    container = service.container(bundle)
    container.create().fails("memory")
    assert not exists(unit_of(container))
    before.assert_unchanged()


# -- nothing stays -----------------------------------------------------------------------------------------------


@with_systemd
def test_the_unit_goes_with_the_container(service: Runtime) -> None:
    bundle = service.bundle().without_namespace("pid").shell("sleep 1000 & echo up; wait")
    before = service.footprint(bundle)
    container = service.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("up")
    assert exists(unit_of(container))
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    assert not exists(unit_of(container))
    assert unit_of(container) not in systemctl("list-units", "--all", "--failed", "--plain")
    before.assert_unchanged()


@with_systemd
@pytest.mark.parametrize("way", ["program", "limit", "hook"])
def test_a_failed_create_leaves_no_unit(service: Runtime, way: str) -> None:
    bundle = service.bundle()
    if way == "program":
        bundle.process["args"] = ["/no/such/program"]
    elif way == "limit":
        bundle.linux["resources"] = {"unified": {"memory.nothing": "5"}}
    else:
        bundle.hook("createRuntime", "exit 3")
    before = service.footprint(bundle)
    container = service.container(bundle)
    assert container.create().status != 0
    assert not exists(unit_of(container))
    before.assert_unchanged()


@with_systemd
@pytest.mark.parametrize("tenths", [0, 1, 2, 3, 4, 6, 8, 12])
def test_a_killed_create_leaves_nothing_that_delete_does_not_find(service: Runtime, tenths: int) -> None:
    """Killed at some moment: before the unit, with it, and (the last ones) in a hook."""
    bundle = service.bundle().sleeper().hook("createRuntime", "sleep 1000")
    before = service.footprint(bundle)
    container = service.container(bundle)
    running = service.spawn("create", "--bundle", service.put(bundle, container.id), container.id)
    time.sleep(tenths * (0.1 if tenths else 0))
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    container.delete("--force").ok()
    wait_for(lambda: not exists(unit_of(container)), say="the end of the unit")
    footprint.reap()
    wait_for(lambda: not footprint.cgroups(container.id), say="the end of the cgroup")
    for pid, (
        name,
        *_,
    ) in footprint.descendants().items():  # the hook, which is the host's, not the container's
        if name == "sleep":
            os.kill(pid, signal.SIGKILL)
    footprint.reap()
    before.assert_unchanged()


@with_systemd
def test_a_unit_that_is_in_use_is_left_alone(service: Runtime) -> None:
    with service.running(service.bundle().sleeper()) as first:
        bundle = service.bundle()
        bundle.linux["cgroupsPath"] = f":test:{first.id}"
        service.run(bundle).fails("container's cgroup is not empty")
        assert first.status == "running"


@with_systemd
def test_a_unit_that_failed_before_makes_room(service: Runtime) -> None:
    """It stays until somebody asks for it; its name is wanted again."""
    container = service.container(service.bundle().sleeper())
    unit = unit_of(container)
    words = [
        "systemd-run",
        "--scope",
        "--quiet",
        f"--unit={unit}",
        "-p",
        "RuntimeMaxSec=100ms",
        "sleep",
        "1000",
    ]
    subprocess.run(words if ROOT else [words[0], "--user", *words[1:]], check=False, timeout=60)
    wait_for(lambda: show(unit, "ActiveState") == "failed", say="the failure")
    container.create().ok()
    assert show(unit, "ActiveState") == "active"
    assert container.cgroup().name == unit


@with_systemd
def test_delete_with_a_damaged_state(service: Runtime) -> None:
    bundle = service.bundle().sleeper()
    before = service.footprint(bundle)
    container = service.container(bundle)
    container.create().ok()
    pid = container.pid
    (service.root / container.id / "state.json").write_text("{")
    assert container.delete("--force").status == 0
    wait_for(lambda: not os.path.exists(f"/proc/{pid}/root/proc"), say="the end of the container")
    wait_for(lambda: not exists(unit_of(container)), say="the end of the unit")
    footprint.reap()
    before.assert_unchanged()


@with_systemd
def test_frozen_is_paused(service: Runtime) -> None:
    with service.running(service.bundle().sleeper()) as container:
        (container.cgroup() / "cgroup.freeze").write_text("1")
        assert container.status == "paused"
        container.kill("KILL").ok()
        container.stops()
