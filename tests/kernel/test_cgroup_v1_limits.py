"""cgroup v1 on the hierarchies of this host: limits that are written, that bite, and that are refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import files
from pyrunc.linux.cgroups.manager import restore
from tests.support.cgroup_v1 import HOST, NEEDS_V1, SLEEP, held

pytestmark = NEEDS_V1


def test_limits_are_written(make: Callable[..., Any]) -> None:
    manager = make(
        {
            "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 128 << 20, "swappiness": 30},
            "pids": {"limit": 17},
        }
    )
    assert held(manager, "cpu", "cpu.shares") == "512"
    assert held(manager, "cpu", "cpu.cfs_quota_us") == "20000"
    assert held(manager, "cpu", "cpu.cfs_period_us") == "50000"
    assert held(manager, "cpu", "cpu.cfs_burst_us") == "1000"
    assert held(manager, "cpuset", "cpuset.cpus") == "0"
    assert held(manager, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert held(manager, "memory", "memory.soft_limit_in_bytes") == str(32 << 20)
    assert held(manager, "memory", "memory.memsw.limit_in_bytes") == str(128 << 20)
    assert held(manager, "memory", "memory.swappiness") == "30"
    assert held(manager, "pids", "pids.max") == "17"


def test_limits_move_both_ways(make: Callable[..., Any]) -> None:
    manager = make({"memory": {"limit": 64 << 20, "swap": 64 << 20}})
    for size in (256 << 20, 16 << 20):
        manager.apply(
            {"memory": {"limit": size, "swap": size}, "cpu": {"period": size >> 11, "quota": size >> 12}}
        )
        assert held(manager, "memory", "memory.limit_in_bytes") == str(size)
        assert held(manager, "memory", "memory.memsw.limit_in_bytes") == str(size)
        assert held(manager, "cpu", "cpu.cfs_quota_us") == str(size >> 12)
    manager.apply({"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}})
    assert int(held(manager, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60
    assert held(manager, "cpu", "cpu.cfs_quota_us") == "-1"
    assert held(manager, "pids", "pids.max") == "max"


def test_memory_above_the_limit_with_swap_says_so(make: Callable[..., Any]) -> None:
    """Raised alone it cannot be: the one with swap has to grow with it."""
    manager = make({"memory": {"limit": 64 << 20, "swap": 64 << 20}})
    with pytest.raises(
        KernelError, match=rf"memory.limit: write .* .the limits are now {64 << 20} for memory and"
    ):
        manager.apply({"memory": {"limit": 128 << 20}})
    manager.apply({"memory": {"limit": 128 << 20, "swap": 128 << 20}})
    assert held(manager, "memory", "memory.limit_in_bytes") == str(128 << 20)


def test_idle_and_shares(make: Callable[..., Any]) -> None:
    manager = make({"cpu": {"shares": 300, "idle": 1}})
    assert held(manager, "cpu", "cpu.idle") == "1"
    manager.apply({"cpu": {"shares": 400, "idle": 0}})
    assert held(manager, "cpu", "cpu.shares") == "400"


@pytest.mark.parametrize(
    ("resources", "texts"),
    [
        ({"cpu": {"cpus": "0-9999"}}, ('write "0-9999" to cpuset.cpus in /', "its parent")),
        ({"cpu": {"shares": 1}}, ("cpu.shares: the kernel made 2 of 1",)),
        ({"cpu": {"period": 1}}, ('write "1" to cpu.cfs_period_us in /', "invalid argument")),
        ({"memory": {"kernel": 1 << 20}}, ("memory.kernel",)),
        ({"unified": {"misc.max": "1"}}, ("unified",)),
    ],
)
def test_refused_values_name_file_and_value(
    make: Callable[..., Any], top: str, resources: dict[str, Any], texts: tuple[str, ...]
) -> None:
    with pytest.raises(PyruncError) as caught:
        make(resources)
    for text in texts:
        assert text in str(caught.value)


NO_DISK = [{"major": 254, "minor": 4095, "rate": 1, "weight": 10}]


@pytest.mark.parametrize(
    ("resources", "texts"),
    [
        (
            {"blockIO": {"throttleReadBpsDevice": NO_DISK}},
            ("throttleReadBpsDevice[0]: write", "no such device"),
        ),
        ({"blockIO": {"weightDevice": NO_DISK}}, ("weightDevice[0].weight: write", "blkio.", "lsblk")),
        (
            {"blockIO": {"leafWeight": 10}},
            ('blockIO.leafWeight: write "10" to blkio.leaf_weight', 'offers no "blkio.leaf_weight"'),
        ),
        ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, ("linux.resources.rdma",)),
        ({"unified": {"memory.high": "1"}}, ("unified", "memory.high", '"memory" is bound to cgroup v1')),
        ({"unified": {"nosuch.max": "1"}}, ("unified", '"nosuch" is not available')),
        ({"memory": {"useHierarchy": False}}, ("memory.useHierarchy", "invalid argument")),
        ({"cpu": {"realtimeRuntime": 10**6}}, ("cpu.realtimeRuntime", "invalid argument", "its parent")),
    ],
)
def test_what_this_host_cannot_hold(
    make: Callable[..., Any], top: str, resources: dict[str, Any], texts: tuple[str, ...]
) -> None:
    if "leafWeight" in str(resources) and os.path.exists("/sys/fs/cgroup/blkio/blkio.leaf_weight"):
        pytest.skip("the kernel has leaf weights")
    with pytest.raises(PyruncError) as caught:
        make(resources)
    for text in ("linux.resources.", *texts):
        assert text in str(caught.value)


def test_block_limits(make: Callable[..., Any]) -> None:
    disk = {"major": 254, "minor": 0}
    for name in os.listdir("/sys/block"):
        disk["major"], disk["minor"] = map(int, Path(f"/sys/block/{name}/dev").read_text().split(":"))
    words = ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
    limits = {f"throttle{word}Device": [{**disk, "rate": rate}] for rate, word in enumerate(words, 1000)}
    manager = make({"blockIO": {"weight": 50, **limits}})
    home = manager.paths()["blkio"]
    (weight,) = [n for n in ("blkio.weight", "blkio.bfq.weight") if os.path.exists(f"{home}/{n}")]
    assert files.read(home, weight) == "50"
    name = f"{disk['major']}:{disk['minor']}"
    for file, rate in (("read_bps", 1000), ("write_bps", 1001), ("read_iops", 1002), ("write_iops", 1003)):
        assert files.read(home, f"blkio.throttle.{file}_device") == f"{name} {rate}"
    manager.apply({"blockIO": {"throttleReadBpsDevice": [{**disk, "rate": 0}]}})
    assert files.read(home, "blkio.throttle.read_bps_device") == "", "a rate of 0 takes the limit away"


@pytest.mark.skipif(
    HOST.v2 is None or "hugetlb" not in HOST.v2.controllers,
    reason="this host has no hugetlb controller in a unified hierarchy",
)
def test_a_controller_of_the_unified_hierarchy(make: Callable[..., Any], top: str) -> None:
    """On a hybrid host limits go where their controller is."""
    pages = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}
    manager = make(
        {**pages, "unified": {"hugetlb.1GB.max": "0", "cgroup.max.depth": "3"}, "pids": {"limit": 5}}
    )
    assert held(manager, "", "hugetlb.2MB.max") == str(4 << 20)
    assert held(manager, "", "hugetlb.2MB.rsvd.max") == str(4 << 20)
    assert held(manager, "", "hugetlb.1GB.max") == "0"
    assert held(manager, "", "cgroup.max.depth") == "3"
    assert held(manager, "pids", "pids.max") == "5"
    again = restore(json.loads(json.dumps(manager.record())))
    again.apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})
    assert held(manager, "", "hugetlb.2MB.rsvd.max") == "0"


def test_real_time_runtime_bites(make: Callable[..., Any], top: str, start: Callable[..., Any]) -> None:
    if not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        pytest.skip("the kernel has no real-time scheduling by cgroup")
    script = (
        "/usr/bin/python3",
        "-c",
        "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    )
    without = start(make(), *script, stderr=subprocess.PIPE)
    assert b"not permitted" in without.stderr.read()
    limit = {"cpu": {"realtimeRuntime": 4000, "realtimePeriod": 100000}}
    with pytest.raises(KernelError, match=rf"its parent /.*{top} has 0 of 1000000 µs"):
        make(limit, name="real-time")
    files.write(f"/sys/fs/cgroup/cpu{top}", "cpu.rt_runtime_us", "700000")
    manager = make(limit, name="real-time-too")
    assert held(manager, "cpu", "cpu.rt_runtime_us") == "4000"
    assert start(manager, *script).wait() == 0
    manager.apply({"cpu": {"realtimeRuntime": 2000, "realtimePeriod": 3000}})
    assert held(manager, "cpu", "cpu.rt_period_us") == "3000"


def test_memory_limit_below_usage_says_so(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make()
    # Without swap, what a process has written to its memory cannot be taken from it.
    hold = "import time; held = bytearray(b'x' * (32 << 20)); print(flush=True); time.sleep(99)"
    process = start(manager, "/usr/bin/python3", "-c", hold, stdout=subprocess.PIPE)
    process.stdout.readline()
    with pytest.raises(
        KernelError, match=r"unable to set memory limit to 1048576 \(current usage: \d+, peak"
    ):
        manager.apply({"memory": {"limit": 1 << 20}})


def test_cpuset_below_an_empty_parent(make: Callable[..., Any], top: str, start: Callable[..., Any]) -> None:
    os.mkdir(f"/sys/fs/cgroup/cpuset{top}")
    manager = make(name="a/b")
    assert held(manager, "cpuset", "cpuset.mems") == files.read("/sys/fs/cgroup/cpuset", "cpuset.mems")
    start(manager, *SLEEP)


def test_pids_limit_bites(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"pids": {"limit": 3}})
    script = "sleep 9 & sleep 9 & sleep 9 & sleep 9 & wait"
    process = start(manager, "/bin/sh", "-c", script, stderr=subprocess.PIPE)
    assert b"fork" in process.stderr.readline()
