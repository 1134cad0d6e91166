"""`update`: values that depend on each other are written in the order that the kernel takes, up and down."""

from __future__ import annotations

import pytest

from tests.support.limits import SWAP, V2, M, held, limited, only_v1
from tests.support.runtime import Runtime
from tests.support.updating import limits_of, update


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
