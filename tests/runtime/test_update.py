"""`update`: limits of a container that is there, as the files of its cgroup and the processes inside have them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_cgroups import V2, limited, only_v1, value
from tests.support.bundle import Bundle
from tests.support.runtime import Container, Outcome, Runtime, wait_for

M = 1 << 20
only_v2 = pytest.mark.skipif(not V2, reason="this host has cgroup v1")
SWAP = V2 or os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
NOTHING = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}


def with_json(container: Container, resources: Any, *flags: str) -> Outcome:
    """`update --resources` with this on standard input."""
    text = resources if isinstance(resources, str) else json.dumps(resources)
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        return container.runtime.verb("update", "--resources", "-", *flags, container.id, stdin=reader)
    finally:
        os.close(reader)


def update(container: Container, *flags: str) -> Outcome:
    return container.runtime.verb("update", *flags, container.id)


def held(container: Container, *places: str) -> list[str]:
    """The first line of each file, `controller/file` on cgroup v1."""
    found = []
    for place in places:
        controller, _, file = place.rpartition("/")
        found.append(value(container, controller, file).partition("\n")[0])
    return found


def limits_of(container: Container) -> dict[str, str]:
    """Every limit that a test here changes, as it is."""
    names = (
        "cpu.max cpu.max.burst cpu.weight cpu.idle cpuset.cpus.effective memory.max memory.swap.max memory.low pids.max"
        if V2
        else "cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.cfs_burst_us cpu/cpu.shares cpu/cpu.idle "
        "cpuset/cpuset.cpus memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness "
        "memory/memory.oom_control pids/pids.max blkio/blkio.throttle.read_bps_device"
        + (" memory/memory.memsw.limit_in_bytes" if SWAP else "")
    ).split()
    return dict(zip(names, held(container, *names), strict=True))


def saved(container: Container) -> dict[str, Any]:
    """`linux.resources` in the state directory."""
    config = json.loads((container.runtime.root / container.id / "config.json").read_text())
    resources: dict[str, Any] = config["linux"].get("resources", {})
    return resources


def waiting(bundle: Bundle, *questions: str) -> Bundle:
    """Ask these, and again as soon as the file /go is there; then wait."""
    asks = "testify " + " -- ".join(questions)
    return bundle.shell(
        f"{asks}; echo first; until [ -e /go ]; do sleep 0.1; done; {asks}; echo second; sleep 1000"
    )


def answers(container: Container) -> list[Any]:
    (container.bundle.rootfs / "go").touch()
    container.says("second")
    return [json.loads(line)["answer"] for line in container.out.splitlines() if '"ask"' in line]


# -- each option ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "v1", "v2"),
    [
        ("--memory 64m", {"memory/memory.limit_in_bytes": str(64 * M)}, {"memory.max": str(64 * M)}),
        (f"--memory={64 * M}", {"memory/memory.limit_in_bytes": str(64 * M)}, {"memory.max": str(64 * M)}),
        ("--memory -1", {"memory/memory.limit_in_bytes": "9223372036854771712"}, {"memory.max": "max"}),
        (
            "--memory-reservation 32M",
            {"memory/memory.soft_limit_in_bytes": str(32 * M)},
            {"memory.low": str(32 * M)},
        ),
        (
            "--memory 64m --memory-swap 96m",
            {"memory/memory.memsw.limit_in_bytes": str(96 * M)},
            {"memory.swap.max": str(32 * M)},
        ),
        ("--cpu-share 512", {"cpu/cpu.shares": "512"}, {"cpu.weight": "59"}),
        (
            "--cpu-quota 20000 --cpu-period 50000",
            {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "50000"},
            {"cpu.max": "20000 50000"},
        ),
        ("--cpu-quota 20000", {"cpu/cpu.cfs_quota_us": "20000"}, {"cpu.max": "20000 100000"}),
        ("--cpu-period 50000", {"cpu/cpu.cfs_period_us": "50000"}, {"cpu.max": "max 50000"}),
        ("--cpu-quota -1", {"cpu/cpu.cfs_quota_us": "-1"}, {"cpu.max": "max 100000"}),
        (
            "--cpu-quota 20000 --cpu-burst 10000",
            {"cpu/cpu.cfs_burst_us": "10000"},
            {"cpu.max.burst": "10000"},
        ),
        ("--cpu-idle 1", {"cpu/cpu.idle": "1"}, {"cpu.idle": "1"}),
        ("--cpuset-cpus 1", {"cpuset/cpuset.cpus": "1"}, {"cpuset.cpus": "1"}),
        ("--cpuset-mems 0", {"cpuset/cpuset.mems": "0"}, {"cpuset.mems": "0"}),
        ("--pids-limit 17", {"pids/pids.max": "17"}, {"pids.max": "17"}),
        ("--pids-limit -1", {"pids/pids.max": "max"}, {"pids.max": "max"}),
        ("--pids-limit 0", {"pids/pids.max": "1"}, {"pids.max": "1"}),
    ],
)
def test_options(runtime: Runtime, flags: str, v1: dict[str, str], v2: dict[str, str]) -> None:
    if "swap" in flags and not SWAP:
        pytest.skip("the kernel does not account swap in cgroup v1")
    with runtime.running(runtime.bundle().sleeper()) as container:
        outcome = update(container, *flags.split()).ok()
        assert outcome.out == outcome.err == ""
        expected = v2 if V2 else v1
        assert dict(zip(expected, held(container, *expected), strict=True)) == expected


@pytest.mark.needs_root
def test_block_weight(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        files = {"io.bfq.weight": "default 500", "io.weight": "default 4950"}
        if not V2:
            files = {"blkio/blkio.bfq.weight": "500"}
        outcome = update(container, "--blkio-weight", "500")
        there = [
            file for file in files if (container.cgroup(*file.split("/")[:-1]) / file.split("/")[-1]).exists()
        ]
        if there:
            outcome.ok()
            assert held(container, there[0]) == [files[there[0]]]
        else:
            outcome.fails("linux.resources.blockIO.weight", "offers no")
        update(container, "--blkio-weight", "1001").fails("linux.resources.blockIO.weight", "10 to 1000")


@pytest.mark.needs_root
def test_real_time(runtime: Runtime) -> None:
    """Period first, or runtime first: whichever way the kernel takes them."""
    top = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
    with runtime.running(runtime.bundle().sleeper()) as container:
        if not top.exists():
            words = "cgroup v2 cannot hold" if V2 else "CONFIG_RT_GROUP_SCHED"
            update(container, "--cpu-rt-runtime", "5000").fails("linux.resources.cpu.realtimeRuntime", words)
            return
        for runtime_us, period_us in ((5000, 100000), (500, 1000), (10000, 200000)):
            flags = ("--cpu-rt-runtime", str(runtime_us), "--cpu-rt-period", str(period_us))
            update(container, *flags).ok()
            found = held(container, "cpu/cpu.rt_runtime_us", "cpu/cpu.rt_period_us")
            assert found == [str(runtime_us), str(period_us)]


def test_what_is_not_given_stays(runtime: Runtime) -> None:
    resources = {
        "memory": {"limit": 64 * M, "reservation": 32 * M},
        "cpu": {"shares": 512, "quota": 50000, "period": 50000},
        "pids": {"limit": 20},
    }
    with runtime.running(limited(runtime, **resources)) as container:
        before = limits_of(container)
        update(container, "--pids-limit", "30").ok()
        changed = {name: text for name, text in limits_of(container).items() if before[name] != text}
        assert list(changed.values()) == ["30"]
        update(container, "--cpu-quota", "25000").ok()
        changed = {name: text for name, text in limits_of(container).items() if before[name] != text}
        assert sorted(changed.values()) == sorted(["30", "25000 50000" if V2 else "25000"])
        assert saved(container) == {
            **resources,
            "cpu": {"shares": 512, "quota": 25000, "period": 50000},
            "pids": {"limit": 30},
        }


def test_nothing_asked_for(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, pids={"limit": 20})) as container:
        before = limits_of(container)
        update(container).ok()
        with_json(container, {}).ok()
        with_json(container, {"pids": {"limit": 20}, "memory": {"limit": 0}, "devices": []}).ok()
        with_json(container, {"nosuch": 7, "another": {"limit": 9}}).ok()
        assert limits_of(container) == before


# -- --resources ---------------------------------------------------------------------------------------------


def test_resources_of_a_file(runtime: Runtime, folder: Path) -> None:
    """A regular file or a pipe; the other options are left out, and it says so."""
    file = folder / "resources.json"
    file.write_text(json.dumps({"pids": {"limit": 21}, "memory": {"limit": 64 * M}}))
    with runtime.running(runtime.bundle().sleeper()) as container:
        outcome = update(container, "-r", str(file), "--pids-limit", "5").ok()
        assert "level=warning" in outcome.err
        assert "ignored because of --resources: --pids-limit" in outcome.err
        assert "21" in limits_of(container).values()
        assert str(64 * M) in limits_of(container).values()
        with_json(container, {"pids": {"limit": 22}}).ok()
        assert "22" in limits_of(container).values()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["standard input", "line 1"]),
        ("[]", ["linux.resources", "must be an object"]),
        ('{"pids": {"limit": 5}, "pids": {}}', ["pids", "more than once"]),
        ('{"memory": {"limit": "5m"}}', ["linux.resources.memory.limit", "must be a whole number"]),
        (
            '{"memory": {"limit": 2097152, "swap": 1048576}}',
            ["linux.resources.memory.swap", "below the memory limit"],
        ),
        ('{"memory": {"swap": 5}}', ["linux.resources.memory.swap", "without a memory limit"]),
        ('{"cpu": {"idle": 7}}', ["linux.resources.cpu.idle"]),
        ('{"cpu": {"cpus": "99"}}', ["linux.resources.cpu.cpus"]),
        ('{"devices": [{"allow": true, "access": "x"}]}', ["linux.resources.devices[0]"]),
        ('{"unified": {"../memory.max": "5"}}', ["linux.resources.unified"]),
        ('{"unified": {"nosuch.max": "5"}}', ['controller "nosuch" is not available']),
        (
            '{"blockIO": {"throttleReadBpsDevice": [{"major": 999, "minor": 9, "rate": 5}]}}',
            ["linux.resources.blockIO.throttleReadBpsDevice[0]", "no such device"],
        ),
        ('{"hugepageLimits": [{"pageSize": "3MB", "limit": 5}]}', ["linux.resources.hugepageLimits"]),
        ('{"rdma": {"nosuch0": {"hcaHandles": 3}}}', ["linux.resources.rdma"]),
    ],
)
@pytest.mark.needs_root
def test_what_cannot_be(runtime: Runtime, text: str, words: list[str]) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        before, kept = limits_of(container), saved(container)
        with_json(container, text).fails(*words)
        assert (limits_of(container), saved(container)) == (before, kept)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "lots"], ["invalid value for memory", "lots"]),
        (["--cpu-quota", "1.5"], ["invalid value for cpu-quota"]),
        (["--resources", "/no/such/file"], ["read /no/such/file", "no such file or directory"]),
        (["--resources", "/"], ["read /", "is a directory"]),
        (
            ["--l3-cache-schema", "L3:0=f"],
            ["updating a non-existent Intel RDT configuration is not supported"],
        ),
        (
            ["--mem-bw-schema", "MB:0=50"],
            ["updating a non-existent Intel RDT configuration is not supported"],
        ),
    ],
)
def test_options_that_cannot_be(runtime: Runtime, flags: list[str], words: list[str]) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        update(container, *flags).fails(*words)


def test_kernel_memory_is_ignored(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        before = limits_of(container)
        outcome = update(container, "--kernel-memory", "50m", "--kernel-memory-tcp", "5m").ok()
        for name in ("--kernel-memory", "--kernel-memory-tcp"):
            assert f"{name} is ignored" in outcome.err
        assert limits_of(container) == before


# -- inside ----------------------------------------------------------------------------------------------------


def test_tasks_and_processors_inside(runtime: Runtime) -> None:
    with runtime.running(waiting(runtime.bundle(), "forks 20", "affinity")) as container:
        container.says("first")
        update(container, "--pids-limit", "10", "--cpuset-cpus", "1").ok()
        made, everywhere, refused, confined = answers(container)
        assert made["made"] == 20
        assert len(everywhere) > 1
        assert refused == {"made": 8, "errno": "EAGAIN"}  # besides the shell and testify itself
        assert confined == [1]


def test_a_quota_inside(runtime: Runtime) -> None:
    with runtime.running(waiting(runtime.bundle(), "spin 1")) as container:
        container.says("first")
        update(container, "--cpu-quota", "5000", "--cpu-period", "50000").ok()
        free, limited_ = answers(container)
        assert limited_ < 0.2 < free


def test_memory_inside(runtime: Runtime) -> None:
    """First more than there was, then less than there is."""
    bundle = limited(runtime, memory={"limit": 32 * M})
    bundle.shell(
        "until [ -e /go ]; do sleep 0.1; done; testify eat 100; echo $? first; testify eat 200; echo $? second; "
        "sleep 1000"
    )
    with runtime.running(bundle) as container:
        update(container, "--memory", "160m", *(["--memory-swap", "160m"] if SWAP else [])).ok()
        (container.bundle.rootfs / "go").touch()
        container.says("second")
        assert "0 first" in container.out
        assert "137 second" in container.out


# -- order -----------------------------------------------------------------------------------------------------


@only_v1
@pytest.mark.skipif(not SWAP, reason="the kernel does not account swap in cgroup v1")
def test_memory_and_swap_in_both_directions(runtime: Runtime) -> None:
    """Neither may pass the other on the way: the kernel refuses memory above memory with swap at any moment."""
    with runtime.running(runtime.bundle().sleeper()) as container:
        for memory, both in (
            (64, 64),
            (128, 256),
            (32, 48),
            (300, 300),
            (8, 8),
            (8, 9),
            (9, 9),
            (64, -1),
            (16, 16),
        ):
            flags = ["--memory", f"{memory}m", "--memory-swap", f"{both}m" if both > 0 else "-1"]
            update(container, *flags).ok()
            found = held(container, "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes")
            assert found == [str(memory * M), str(both * M) if both > 0 else "9223372036854771712"]
        update(container, "--memory", "-1").ok()
        found = held(container, "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes")
        assert found == ["9223372036854771712"] * 2


@pytest.mark.skipif(not SWAP, reason="the kernel does not account swap in cgroup v1")
def test_memory_and_swap_stay_a_pair(runtime: Runtime) -> None:
    """`swap` is the sum of both, on cgroup v2 too, whose file has one of them."""
    with runtime.running(limited(runtime, memory={"limit": 32 * M, "swap": 96 * M})) as container:
        name, expected = ("memory.swap.max", 32) if V2 else ("memory/memory.memsw.limit_in_bytes", 96)
        update(container, "--memory", "64m").ok()
        assert held(container, name) == [str(expected * M)]
        update(container, "--memory-swap", "128m").ok()
        assert held(container, name) == [str((expected + 32) * M)]
        update(container, "--memory", "256m").fails("memory.swap", "below the memory limit")
        update(container, "--memory", "-1").ok()
        assert held(container, name) == ["max" if V2 else "9223372036854771712"]


@pytest.mark.cgroupfs
@pytest.mark.needs_root
def test_quota_and_period_in_both_directions(runtime: Runtime) -> None:
    """Below a parent with half a processor the kernel refuses whatever would be more on the way."""
    bundle = runtime.bundle().sleeper()
    container = runtime.container(bundle)
    bundle.linux["cgroupsPath"] = f"/{runtime.tag}-parent/{container.id}"
    container.create().ok()
    parent = container.cgroup("" if V2 else "cpu").parent
    if V2:
        (parent / "cpu.max").write_text("50000 100000")
    else:
        (parent / "cpu.cfs_quota_us").write_text("50000")
    for quota, period in ((50000, 100000), (100000, 200000), (10000, 20000), (500000, 1000000), (1000, 2000)):
        update(container, "--cpu-quota", str(quota), "--cpu-period", str(period)).ok()
        files = ["cpu.max"] if V2 else ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]
        assert " ".join(held(container, *files)) == f"{quota} {period}"
    before = limits_of(container)
    if not V2:  # in v2 the parent's limit just holds as well
        update(container, "--cpu-quota", "90000", "--cpu-period", "100000").fails("cpu.quota")
    assert limits_of(container) == before
    container.delete("--force").ok()


@only_v1
@pytest.mark.needs_root
def test_a_quota_below_that_of_a_cgroup_inside(runtime: Runtime) -> None:
    """What a container has given its own cgroups can be in the way; where to look is said."""
    with runtime.running(limited(runtime, cpu={"quota": 90000, "period": 100000})) as container:
        inside = container.cgroup("cpu") / "inside"
        inside.mkdir()
        (inside / "cpu.cfs_quota_us").write_text("80000")
        update(container, "--cpu-quota", "50000").fails(
            "linux.resources.cpu.quota", "and of the cgroups inside"
        )
        assert held(container, "cpu/cpu.cfs_quota_us") == ["90000"]
        update(container, "--cpu-quota", "85000").ok()


def test_burst_and_quota_in_both_directions(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, cpu={"quota": 20000, "burst": 20000})) as container:
        for quota, burst in ((50000, 50000), (10000, 5000), (100000, 100000), (20000, 0)):
            update(container, "--cpu-quota", str(quota), "--cpu-burst", str(burst)).ok()
            files = ["cpu.max", "cpu.max.burst"] if V2 else ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_burst_us"]
            assert held(container, *files) == [f"{quota} 100000" if V2 else str(quota), str(burst)]
        update(container, "--cpu-burst", "30000").fails("linux.resources.cpu.burst", "above the quota 20000")


def test_idle_and_shares(runtime: Runtime) -> None:
    """An idle cgroup has no shares; afterwards it has those it had."""
    files = ["cpu.idle", "cpu.weight"] if V2 else ["cpu/cpu.idle", "cpu/cpu.shares"]
    with runtime.running(limited(runtime, cpu={"shares": 512})) as container:
        update(container, "--cpu-idle", "1").ok()
        assert held(container, files[0]) == ["1"]
        update(container, "--cpu-share", "100").fails("linux.resources.cpu.shares", "idle")
        update(container, "--cpu-idle", "0").ok()
        assert held(container, *files) == ["0", "59" if V2 else "512"]
        update(container, "--cpu-idle", "1", "--cpu-share", "1024").ok()
        update(container, "--cpu-idle", "0").ok()
        assert held(container, *files) == ["0", "100" if V2 else "1024"]


# -- a failure -------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.parametrize("start", ["bare", "limited"])
def test_what_was_set_is_put_back(runtime: Runtime, start: str) -> None:
    """The last of many values is refused by the kernel: no device has these numbers."""
    resources: dict[str, Any] = {
        "memory": {"limit": 64 * M, "reservation": 32 * M},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"},
        "pids": {"limit": 20},
    }
    with runtime.running(limited(runtime, **(resources if start == "limited" else {}))) as container:
        before, kept = limits_of(container), saved(container)
        other: dict[str, Any] = {
            "memory": {"limit": 32 * M, "reservation": 16 * M, **({"swap": 48 * M} if SWAP else {})},
            "cpu": {"shares": 2048, "quota": 60000, "period": 80000, "burst": 500, "cpus": "1"},
            "pids": {"limit": 40},
        }
        if not V2:
            other["memory"] |= {"swappiness": 3, "disableOOMKiller": True}
        devices = [{"major": 999, "minor": 9, "rate": 5}]
        outcome = with_json(container, {**other, "blockIO": {"throttleReadBpsDevice": devices}})
        outcome.fails("linux.resources.blockIO.throttleReadBpsDevice[0]", "no such device")
        assert "level=warning" not in outcome.err, "all could be put back"
        assert (limits_of(container), saved(container)) == (before, kept)
        with_json(container, other).ok()
        changed = limits_of(container)
        assert {name for name in before if before[name] == changed[name]} <= {
            "cpu.idle",
            "cpu/cpu.idle",
            "blkio/blkio.throttle.read_bps_device",
        }


def obstacle(container: Container) -> Path:
    """A directory where the new configuration is going to be written: the last step fails."""
    path = container.runtime.root / container.id / ".config.json.new"
    path.mkdir()
    return path


def test_what_cannot_be_saved_is_put_back(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, pids={"limit": 20})) as container:
        before, kept = limits_of(container), saved(container)
        path = obstacle(container)
        with_json(container, {"pids": {"limit": 30}}).fails("save", "config.json", "is a directory")
        assert (limits_of(container), saved(container)) == (before, kept)
        path.rmdir()
        with_json(container, {"pids": {"limit": 30}}).ok()
        assert saved(container)["pids"] == {"limit": 30}


@pytest.mark.parametrize("way", ["created with it", "asked for now"])
def test_a_limit_below_the_usage(runtime: Runtime, way: str) -> None:
    """With checkBeforeUpdate it is refused; cgroup v1 always refuses it."""
    check = {"checkBeforeUpdate": True}
    bundle = limited(runtime, memory={"limit": 128 * M, **(check if way == "created with it" else {})})
    # As the last command the shell becomes testify, which goes on holding what it has eaten.
    bundle.shell("exec testify eat 40 -- sleep")
    with runtime.running(bundle) as container:
        container.says("eat 40")
        before = limits_of(container)
        wanted = {
            "memory": {"limit": 16 * M, **(check if way == "asked for now" else {})},
            "pids": {"limit": 9},
        }
        with_json(container, wanted).fails("memory", "current usage")
        assert limits_of(container) == before
        assert container.status == "running"


# -- in each status ----------------------------------------------------------------------------------------------


def test_before_the_start_and_while_paused(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    update(container, "--pids-limit", "21").ok()
    assert container.status == "created"
    container.start().ok()
    runtime.verb("pause", container.id).ok()
    update(container, "--pids-limit", "22", "--cpu-share", "100").ok()
    assert container.status == "paused"
    assert "22" in limits_of(container).values()
    runtime.verb("resume", container.id).ok()
    container.kill("KILL").ok()
    container.stops()
    update(container, "--pids-limit", "23").fails("container not running")
    container.delete().ok()
    update(container, "--pids-limit", "23").fails("does not exist")


def test_without_a_cgroup(runtime: Runtime) -> None:
    """An error, never silently nothing."""
    runtime.globals = ["--cgroup-manager", "disabled"]
    runtime.auto_cgroup = False
    with runtime.running(runtime.bundle().sleeper()) as container:
        update(container, "--memory", "64m").fails("linux.resources.memory", "has no cgroup")
        update(container).ok()


@only_v1
def test_without_the_hierarchy(runtime: Runtime) -> None:
    if any(":net_cls" in line for line in Path("/proc/self/cgroup").read_text().splitlines()):
        pytest.skip("this host has these controllers mounted")
    with runtime.running(runtime.bundle().sleeper()) as container:
        before = limits_of(container)
        change = {"pids": {"limit": 5}, "network": {"classID": 5}}
        with_json(container, change).fails("linux.resources.network.classID", "is not available on this host")
        assert limits_of(container) == before


# -- what the peers cannot change ----------------------------------------------------------------------------------


@only_v2
def test_unified(runtime: Runtime) -> None:
    bundle = limited(runtime, memory={"limit": 128 * M}, unified={"memory.oom.group": "1"})
    with runtime.running(bundle) as container:
        with_json(container, {"unified": {"memory.high": "64M", "pids.max": "30"}}).ok()
        assert held(container, "memory.high", "pids.max", "memory.oom.group") == [str(64 * M), "30", "1"]
        with_json(container, {"unified": {"memory.max": str(100 * M)}}).ok()
        update(container, "--pids-limit", "20").ok()
        assert held(container, "memory.max", "pids.max") == [str(100 * M), "20"]
        assert saved(container) == {
            "pids": {"limit": 20},
            "unified": {"memory.oom.group": "1", "memory.high": "64M", "memory.max": str(100 * M)},
        }
        before = limits_of(container)
        with_json(container, {"pids": {"limit": 9}, "unified": {"memory.max": "x"}}).fails(
            'write "x" to memory.max'
        )
        assert limits_of(container) == before


@only_v2
def test_memory_high_inside(runtime: Runtime) -> None:
    """Slowed down, not killed."""
    bundle = runtime.bundle().shell("until [ -e /go ]; do sleep 0.1; done; testify eat 200")
    with runtime.running(bundle) as container:
        with_json(container, {"unified": {"memory.high": str(8 * M)}}).ok()
        (bundle.rootfs / "go").touch()
        events = container.cgroup() / "memory.events"
        wait_for(lambda: "\nhigh 0\n" not in events.read_text(), say="slowing down")
        assert container.status == "running"


@pytest.fixture
def kmsg(runtime: Runtime) -> Bundle:
    """A bundle with the device 1:11 at /area/kmsg."""
    bundle = runtime.bundle()
    bundle.process["capabilities"] = {kind: ["CAP_SYSLOG"] for kind in ("bounding", "effective", "permitted")}
    os.mknod(bundle.rootfs / "area" / "kmsg", 0o20666, os.makedev(1, 11))
    return bundle


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("before", "after", "opens"),
    [
        pytest.param([NOTHING], [NOTHING, KMSG], [False, True], id="one more"),
        pytest.param([NOTHING, KMSG], [NOTHING], [True, False], id="one less"),
        pytest.param([{"allow": True, "access": "rwm"}], [NOTHING], [True, False], id="none of all"),
        pytest.param([NOTHING], [{"allow": True, "access": "rwm"}], [False, True], id="all instead of none"),
        pytest.param(
            [NOTHING],
            [{"allow": True, "access": "rwm"}, {**KMSG, "allow": False}],
            [False, False],
            id="all but one",
        ),
    ],
)
def test_devices(
    runtime: Runtime, kmsg: Bundle, before: list[Any], after: list[Any], opens: list[bool]
) -> None:
    kmsg.linux["resources"] = {"devices": before}
    with runtime.running(waiting(kmsg, "open /area/kmsg r", "open /dev/null rw")) as container:
        container.says("first")
        with_json(container, {"devices": after}).ok()
        assert saved(container)["devices"] == after
        expected = []
        for may in opens:
            expected += [0 if may else {"errno": "EPERM"}, 0]
        assert answers(container) == expected


@pytest.mark.needs_root
@pytest.mark.parametrize("rules", [[NOTHING, KMSG], [{"allow": True, "access": "rwm"}]], ids=["one", "all"])
def test_devices_are_put_back(runtime: Runtime, kmsg: Bundle, rules: list[Any]) -> None:
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(waiting(kmsg, "open /area/kmsg r", "open /dev/null rw")) as container:
        container.says("first")
        obstacle(container)
        with_json(container, {"devices": rules}).fails("save", "config.json", "is a directory")
        assert answers(container) == [{"errno": "EPERM"}, 0] * 2


@pytest.mark.needs_root
def test_devices_after_a_kill(runtime: Runtime, kmsg: Bundle, folder: Path) -> None:
    """Whoever asks for the former rules again gets them, though the saved configuration has never had others."""
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    file = folder / "resources.json"
    file.write_text(json.dumps({"devices": [NOTHING, KMSG]}))
    with runtime.running(waiting(kmsg, "open /area/kmsg r")) as container:
        container.says("first")
        fifo = runtime.root / container.id / ".config.json.new"
        os.mkfifo(fifo)  # where it waits for a reader, the rules in place, the configuration not saved
        killed = runtime.spawn("update", "-r", str(file), container.id)
        wchan = Path(f"/proc/{killed.process.pid}/wchan")
        wait_for(lambda: wchan.read_text() in ("wait_for_partner", "fifo_open"))
        killed.process.kill()
        killed.process.wait()
        fifo.unlink()
        with_json(container, {"devices": [NOTHING]}).ok()
        assert answers(container) == [{"errno": "EPERM"}] * 2


@pytest.mark.needs_root
def test_devices_at_no_moment(runtime: Runtime, kmsg: Bundle) -> None:
    """While the rules change this way and that, /dev/null can always be opened, and memory never."""
    os.mknod(kmsg.rootfs / "area" / "mem", 0o20666, os.makedev(1, 1))
    kmsg.process["capabilities"]["effective"] = kmsg.process["capabilities"]["permitted"] = ["CAP_SYS_RAWIO"]
    kmsg.process["capabilities"]["bounding"] = ["CAP_SYS_RAWIO"]
    kmsg.shell(
        "exec 2>/dev/zero; echo up; while :; do true < /area/mem && echo memory; done & "
        "while :; do true < /dev/null || echo no null; done"
    )
    mem = {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "rwm"}
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(kmsg) as container:
        container.says("up")
        for _ in range(5):
            for rules in ([NOTHING, KMSG], [{"allow": True, "access": "rwm"}, mem], [NOTHING]):
                with_json(container, {"devices": rules}).ok()
        assert container.out == "up\n"


@only_v1  # nobody can add to a device program
@pytest.mark.needs_root
def test_devices_that_somebody_else_has_allowed(runtime: Runtime, kmsg: Bundle) -> None:
    """An engine that sends all resources again, the rules unchanged, does not take them away."""
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(waiting(kmsg, "open /area/kmsg r")) as container:
        container.says("first")
        (container.cgroup("devices") / "devices.allow").write_text("c 1:11 r")
        with_json(container, {"devices": [NOTHING], "pids": {"limit": 50}}).ok()
        assert answers(container) == [{"errno": "EPERM"}, 0]


@pytest.mark.needs_root
def test_huge_pages(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        change = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * M}]}
        outcome = with_json(container, change)
        if not V2 and not os.path.exists("/sys/fs/cgroup/hugetlb"):
            unified = Path("/sys/fs/cgroup/unified/cgroup.controllers")
            if not unified.exists() or "hugetlb" not in unified.read_text():
                outcome.fails("linux.resources.hugepageLimits", "not available")
                return
        outcome.ok()
        home = container.cgroup("hugetlb" if os.path.exists("/sys/fs/cgroup/hugetlb") else "")
        if not home.exists():  # the second hierarchy of a host with both
            home = Path("/sys/fs/cgroup/unified", *home.parts[4:])
        (file,) = [
            path for path in home.iterdir() if path.name in ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
        ]
        assert file.read_text() == f"{4 * M}\n"
