"""Cgroups of this host (v1, or v2 where that is what it has): limits that are to be seen, and that bite."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import footprint
from tests.support.limits import V2, limited, only_v1, value
from tests.support.runtime import Runtime, wait_for


@only_v1
@pytest.mark.parametrize(
    "resources,controller,file,expected",
    [
        ({"memory": {"limit": 64 << 20}}, "memory", "memory.limit_in_bytes", str(64 << 20)),
        (
            {"memory": {"limit": 64 << 20, "reservation": 32 << 20}},
            "memory",
            "memory.soft_limit_in_bytes",
            str(32 << 20),
        ),
        ({"memory": {"swappiness": 7}}, "memory", "memory.swappiness", "7"),
        ({"memory": {"limit": -1}}, "memory", "memory.limit_in_bytes", "9223372036854771712"),
        ({"memory": {"disableOOMKiller": True}}, "memory", "memory.oom_control", "oom_kill_disable 1"),
        ({"cpu": {"shares": 512}}, "cpu", "cpu.shares", "512"),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_quota_us", "20000"),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_period_us", "50000"),
        ({"cpu": {"quota": -1}}, "cpu", "cpu.cfs_quota_us", "-1"),
        ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", "cpuset.cpus", "0"),
        ({"cpu": {"cpus": "1"}}, "cpuset", "cpuset.cpus", "1"),
        ({"pids": {"limit": 17}}, "pids", "pids.max", "17"),
        ({"pids": {"limit": -1}}, "pids", "pids.max", "max"),
    ],
)
def test_values(
    runtime: Runtime, resources: dict[str, Any], controller: str, file: str, expected: str
) -> None:
    with runtime.running(limited(runtime, **resources)) as container:
        assert value(container, controller, file).splitlines()[0] == expected


@only_v1
def test_burst(runtime: Runtime) -> None:
    with runtime.running(
        limited(runtime, cpu={"quota": 20000, "period": 50000, "burst": 10000})
    ) as container:
        assert value(container, "cpu", "cpu.cfs_burst_us") == "10000"


def test_burst_above_the_quota(runtime: Runtime) -> None:
    bundle = limited(runtime, cpu={"quota": 20000, "period": 50000, "burst": 20001})
    runtime.run(bundle).fails("linux.resources.cpu.burst")


@only_v1
def test_swap(runtime: Runtime) -> None:
    if not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        pytest.skip("the kernel does not account swap in cgroup v1")
    with runtime.running(limited(runtime, memory={"limit": 64 << 20, "swap": 96 << 20})) as container:
        assert value(container, "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)


@pytest.mark.cgroupfs
@only_v1
def test_cpuset_of_nested_path(runtime: Runtime) -> None:
    """Parents that are made on the way must be filled first."""
    bundle = limited(runtime, cpu={"cpus": "0"})
    container = runtime.container(bundle)
    bundle.linux["cgroupsPath"] = f"/{runtime.tag}-parent/deep/{container.id}"
    container.create().ok()
    path = f"/sys/fs/cgroup/cpuset/{runtime.tag}-parent/deep/{container.id}/cpuset.cpus"
    assert Path(path).read_text().strip() == "0"
    container.delete("--force").ok()
    assert not os.path.exists(os.path.dirname(path))


def test_process_is_in_every_hierarchy(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        inside = {line.split(":")[1] for line in lines if line.endswith("/" + container.cgroup_name)}
        if V2:
            assert inside == {""}
        else:
            assert {"memory", "pids", "devices", "freezer", "cpu", "cpuset"} <= inside


def test_cgroup_namespace_hides_the_path(runtime: Runtime) -> None:
    bundle = runtime.bundle().namespace("cgroup")
    said = runtime.ask(bundle, "read /proc/self/cgroup")["read /proc/self/cgroup"]
    for line in said.splitlines():
        if V2 or line.split(":")[1] in ("memory", "pids", "devices"):
            assert line.endswith(":/"), line


def test_default_path(runtime: Runtime) -> None:
    """Without cgroupsPath the runtime chooses a place with the id in its name, and removes it."""
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    twin = runtime.like()
    twin.auto_cgroup = False
    container = twin.container(bundle)
    container.create().ok()
    lines = Path(f"/proc/{container.pid}/cgroup").read_text()
    assert container.id in lines
    container.delete("--force").ok()
    before.assert_unchanged()


@pytest.mark.cgroupfs
@pytest.mark.parametrize("form", ["absolute", "relative", "dots"])
def test_path(runtime: Runtime, form: str) -> None:
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    name = f"{runtime.tag}-group"
    bundle.linux["cgroupsPath"] = {
        "absolute": f"/{name}/inner",
        "relative": f"{name}/inner",
        "dots": f"/{name}/x/../inner",
    }[form]
    container = runtime.container(bundle)
    container.create().ok()
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    pids = next(line for line in lines if V2 or ":pids:" in line)
    assert pids.endswith(f"{name}/inner")
    if form == "absolute":
        assert pids.split(":")[2] == f"/{name}/inner"
    container.delete("--force").ok()
    left = {path for path in footprint.cgroups(runtime.tag) if path.endswith("/inner")}
    assert left == set()
    footprint.remove_cgroups(runtime.tag)
    before.assert_unchanged()


@pytest.mark.cgroupfs
def test_path_does_not_escape(runtime: Runtime) -> None:
    """`..` stays below the cgroup mount."""
    bundle = runtime.bundle().sleeper()
    bundle.linux["cgroupsPath"] = f"/../../../{runtime.tag}-escape"
    with runtime.running(bundle) as container:
        lines = Path(f"/proc/{container.pid}/cgroup").read_text()
        assert f":/{runtime.tag}-escape\n" in lines


def test_a_path_is_no_unit(runtime: Runtime) -> None:
    """With `--systemd-cgroup` it needs `slice:prefix:name` (config-linux.md "Cgroups Path": an error)."""
    bundle = runtime.bundle()
    bundle.linux["cgroupsPath"] = f"/{runtime.tag}"
    before = runtime.footprint(bundle)
    runtime.globals = ["--systemd-cgroup"]
    runtime.run(bundle).fails("linux.cgroupsPath", "slice:prefix:name")
    before.assert_unchanged()


# -- limits bite -----------------------------------------------------------------------------------------


def test_pids_limit_bites(runtime: Runtime) -> None:
    bundle = limited(runtime, pids={"limit": 10})
    said = runtime.ask(bundle, "forks 50")["forks 50"]
    assert said == {"made": 9, "errno": "EAGAIN"}


def test_memory_limit_bites(runtime: Runtime) -> None:
    bundle = limited(runtime, memory={"limit": 16 << 20, "swap": 16 << 20})
    if not V2 and not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        del bundle.linux["resources"]["memory"]["swap"]
    outcome = runtime.run(bundle.ask("eat 4", "eat 200"))
    assert outcome.testimony["eat 4"] == 4
    assert outcome.status == 137


def test_cpu_quota_bites(runtime: Runtime) -> None:
    """A tenth of a processor: the kernel throttles."""
    bundle = limited(runtime, cpu={"quota": 10000, "period": 100000})
    container = runtime.container(bundle.shell("while :; do :; done"))
    container.create().ok()
    container.start().ok()

    def throttled() -> bool:
        found = re.search(r"nr_throttled (\d+)", value(container, "" if V2 else "cpu", "cpu.stat"))
        return found is not None and int(found[1]) > 0

    wait_for(throttled, say="throttling")


def test_small_memory_limit_is_enough_to_start(runtime: Runtime) -> None:
    """A container starts under 1 MiB (the waiting first process is small)."""
    bundle = limited(runtime, memory={"limit": 1 << 20}).ask("pid")
    assert runtime.ask(bundle, "pid")["pid"] == 1


DEVICE_RULES: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    (
        "deny-all",
        [{"allow": False, "access": "rwm"}],
        {
            "open /dev/null rw": 0,
            "open /dev/zero r": 0,
            "open /area/mem r": "EPERM",
            "mknod /area/new c 1 1": 0,
        },
    ),
    (
        "allow-one",
        [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
        ],
        {"open /area/kmsg r": 0, "open /area/kmsg w": "EPERM", "open /area/mem r": "EPERM"},
    ),
    (
        "allow-major",
        [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "access": "rw"}],
        {"open /area/kmsg r": 0, "open /area/kmsg w": 0},
    ),
    (
        "deny-after-allow",
        [
            {"allow": True, "access": "rwm"},
            {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rw"},
        ],
        {"open /area/kmsg r": "EPERM"},
    ),
    ("allow-all", [{"allow": True, "access": "rwm"}], {"open /area/kmsg r": 0, "open /area/kmsg w": 0}),
]


@pytest.mark.needs_root
@pytest.mark.parametrize("rules,expected", [r[1:] for r in DEVICE_RULES], ids=[r[0] for r in DEVICE_RULES])
def test_device_rules(runtime: Runtime, rules: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    bundle = limited(runtime, devices=rules)
    bundle.process["capabilities"] = {
        kind: ["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_RAWIO"] for kind in ("bounding", "effective", "permitted")
    }
    os.mknod(bundle.rootfs / "area" / "kmsg", 0o20666, os.makedev(1, 11))
    os.mknod(bundle.rootfs / "area" / "mem", 0o20666, os.makedev(1, 1))
    said = runtime.ask(bundle, *expected)
    for question, answer in expected.items():
        assert said[question] == ({"errno": answer} if isinstance(answer, str) else answer), question


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": True, "type": "q", "access": "r"},
        {"allow": True, "type": "c", "access": "xyz"},
        {"type": "c"},
    ],
    ids=["type", "access", "no-allow"],
)
def test_bad_device_rules(runtime: Runtime, rule: dict[str, Any]) -> None:
    bundle = limited(runtime, devices=[rule])
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.resources.devices[0]")
    before.assert_unchanged()


# -- refused ---------------------------------------------------------------------------------------------


@pytest.mark.cgroupfs
def test_cgroup_that_is_in_use(runtime: Runtime) -> None:
    """Two containers in one cgroup: the second is refused, the first not disturbed."""
    first = runtime.bundle().sleeper()
    first.linux["cgroupsPath"] = f"/{runtime.tag}-shared"
    with runtime.running(first) as container:
        second = runtime.bundle()
        second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
        before = runtime.footprint(second)
        runtime.run(second).fails("cgroup", "not empty")
        before.assert_unchanged()
        assert container.status == "running"


@pytest.mark.parametrize(
    "resources,word",
    [
        ({"memory": {"limit": 1 << 20, "swap": 1 << 19}}, "swap"),
        ({"cpu": {"cpus": "99"}}, "cpus"),
        ({"cpu": {"cpus": "x"}}, "cpus"),
        ({"cpu": {"period": 1}}, "period"),
        ({"unified": {"memory.max": "1"}}, "unified"),
    ],
    ids=["swap-below-limit", "no-such-cpu", "no-list", "period", "unified"],
)
def test_values_that_cannot_be_set(runtime: Runtime, resources: dict[str, Any], word: str) -> None:
    if V2 and word == "unified":
        resources, word = {"unified": {"nosuch.max": "1"}}, "linux.resources.unified"
    elif V2 and word == "period":
        word = "cpu.max"
    bundle = limited(runtime, **resources)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(word)
    before.assert_unchanged()


def test_processes_that_fork_while_they_are_killed(runtime: Runtime) -> None:
    """KILL of a container without PID namespace reaches also what is being born."""
    bundle = runtime.bundle().without_namespace("pid")
    bundle.shell(
        "f() { while :; do (sleep 0.02) & (sleep 0.01) & sleep 0.005; done; }; f & f & echo ready; f"
    )
    bundle.linux["resources"] = {"pids": {"limit": 200}}
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("ready")
    container.delete("--force").ok()
    before.assert_unchanged()


def test_cgroups_made_inside_are_removed(runtime: Runtime) -> None:
    """A nested manager may have made sub-cgroups."""
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    top = container.cgroup("" if V2 else "pids")
    (top / "made" / "inside").mkdir(parents=True)
    container.delete("--force").ok()
    before.assert_unchanged()
