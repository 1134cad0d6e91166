"""`update`: each option and --resources, in each status of a container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.limits import SWAP, V2, M, held, limited, only_v1, only_v2
from tests.support.runtime import Runtime
from tests.support.updating import limits_of, saved, update, with_json

# -- each option -------------------------------------------------------------------------------------------


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
            file
            for file in files
            if (container.cgroup(os.path.dirname(file)) / os.path.basename(file)).exists()
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


# -- --resources -------------------------------------------------------------------------------------------


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


# -- in each status ----------------------------------------------------------------------------------------


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


# -- what the peers cannot change --------------------------------------------------------------------------


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
