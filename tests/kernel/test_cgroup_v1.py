"""cgroup v1 on the hierarchies of this host, each test in a sub-tree of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import files, tree
from pyrunc.linux.cgroups.layout import Layout, layout
from pyrunc.linux.cgroups.manager import choose, restore
from pyrunc.linux.cgroups.v1 import freezer
from tests.support.cgroups import enter

HOST = layout()
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root"),
    pytest.mark.skipif(HOST.pure_v2 or not HOST.v1, reason="this host has no cgroup v1"),
]
COUNT = itertools.count()
SLEEP = ("/bin/sleep", "1000")


def below_cgroups(path: str) -> list[str]:
    """Every directory `path` of a test, in whichever hierarchy."""
    hierarchies = [*HOST.v1, *([HOST.v2] if HOST.v2 else [])]
    return [mount for mount in (h.mount + path for h in hierarchies) if os.path.isdir(mount)]


@pytest.fixture
def top() -> Iterator[str]:
    """A place of one's own; whatever is in it at the end is killed and removed."""
    path = f"/pyrunc-test-{os.getpid()}-{next(COUNT)}"
    yield path
    left = below_cgroups(path)
    for directory in left:
        if "freezer" in directory:
            freezer.thaw_all(directory)
        for pid in tree.pids(directory):
            os.kill(pid, signal.SIGKILL)
    for directory in left:
        tree.remove(directory)


@pytest.fixture
def make(top: str) -> Iterator[Callable[..., Any]]:
    """Make a manager with its cgroups, one for each call."""
    made = []

    def make(resources: dict[str, Any] | None = None, name: str = "box") -> Any:
        config: Any = {"linux": {"resources": resources or {}, "cgroupsPath": f"{top}/{name}"}}
        manager = choose(config, "id", HOST, rootless=False)
        manager.create()
        made.append(manager)
        manager.apply(resources or {})
        return manager

    yield make
    for manager in made:
        manager.kill()
        manager.remove()


def held(manager: Any, controller: str, name: str) -> str:
    return files.read(manager.paths()[controller], name)


def test_layout_is_that_of_mountinfo() -> None:
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] in ("cgroup", "cgroup2"):
            mounts[words[4]] = words[-1]
    for hierarchy in HOST.v1:
        assert set(hierarchy.controllers) <= set(mounts[hierarchy.mount].split(","))
    assert len(HOST.v1) == len([mount for mount in mounts if mount != "/sys/fs/cgroup/unified"])


def test_a_layout_elsewhere_is_found_in_mountinfo(folder: Path) -> None:
    # Nothing is mounted at the conventional places below this folder.
    assert {h.mount for h in layout(str(folder)).v1} == {h.mount for h in HOST.v1}


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


def test_no_delegation(top: str) -> None:
    """config-linux.md "Cgroup ownership": not on cgroup v1, where that is not secure."""
    linux = {
        "cgroupsPath": f"{top}/box",
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        "namespaces": [{"type": "cgroup"}],
    }
    mounts = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
    config: Any = {"linux": linux, "mounts": mounts, "process": {"user": {"uid": 5, "gid": 0}}}
    manager = choose(config, "id", HOST, rootless=False)
    manager.create()
    try:
        for path in manager.paths().values():
            assert {os.stat(f"{path}/{name}").st_uid for name in (".", *os.listdir(path))} == {0}
    finally:
        manager.remove()


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


@pytest.mark.skipif(HOST.v2 is None, reason="this host has no unified hierarchy")
def test_devices_and_freezer_without_their_v1_hierarchies(top: str, start: Callable[..., Any]) -> None:
    """Where these are not mounted, the unified hierarchy of a hybrid host does the same."""
    v1 = tuple(h for h in HOST.v1 if not {"devices", "freezer"} & set(h.controllers))
    config: Any = {"linux": {"cgroupsPath": f"{top}/box"}}
    manager: Any = choose(config, "id", Layout(v1, HOST.v2), rootless=False)
    manager.create()
    try:
        manager.apply({})
        process = start(manager, "/bin/sh", "-c", ": < /dev/null; : < /dev/kmsg", stderr=subprocess.PIPE)
        assert b"/dev/kmsg: Operation not permitted" in process.stderr.read()
        process = start(manager, *SLEEP)
        manager.freeze()
        assert manager.frozen()
        assert files.read(manager.paths()[""], "cgroup.freeze") == "1"
        manager.thaw()
        assert not manager.frozen()
        manager.kill()
        assert process.wait() == -signal.SIGKILL
    finally:
        manager.remove()


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


def test_denied_device_bites(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": False, "access": "rwm"}]})
    for device, works in (
        ("/dev/null", True),
        ("/dev/urandom", True),
        ("/dev/kmsg", False),
        ("/dev/fuse", False),
    ):
        if os.path.exists(device):
            process = start(manager, "/bin/sh", "-c", f": < {device}", stderr=subprocess.PIPE)
            word = process.stderr.read()
            assert (process.wait() == 0) == works, (device, word)
            assert works or b"not permitted" in word
    assert "c 1:3 rwm" in held(manager, "devices", "devices.list")


def test_device_list_is_updated_without_a_gap(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    extra = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}
    manager = make({"devices": [extra]})
    start(manager, *SLEEP)
    os.mkdir(manager.paths()["devices"] + "/inner")
    assert "c 1:11 rwm" in held(manager, "devices", "devices.list")
    manager = restore(json.loads(json.dumps(manager.record())))
    manager.apply({"devices": []})
    assert "c 1:11" not in held(manager, "devices", "devices.list")
    assert "c 1:3 rwm" in held(manager, "devices", "devices.list")


def test_privileged_allows_every_device(make: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": True, "access": "rwm"}]})
    assert held(manager, "devices", "devices.list") == "a *:* rwm"
    manager.apply({"devices": []})
    assert "a " not in held(manager, "devices", "devices.list")


def test_join_and_pids_in_every_hierarchy(
    make: Callable[..., Any], top: str, start: Callable[..., Any]
) -> None:
    manager = make()
    process = start(manager, *SLEEP)
    assert manager.pids() == [process.pid]
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    v1 = [line for line in lines if not line.startswith("0::")]
    assert all(line.endswith(f":{top}/box") for line in v1), lines
    if HOST.v2:
        assert lines[-1] == f"0::{top}/box"


def test_a_process_enters_by_itself(make: Callable[..., Any], top: str) -> None:
    from pyrunc.plan.program import Program

    manager = make()
    program = Program()
    manager.plan_entry(program)
    entrances = manager.entrances()
    assert set(entrances) == set(program.slots)
    pid = os.fork()
    if pid == 0:
        for descriptor in entrances.values():
            os.write(descriptor, b"0")
        signal.pause()
        os._exit(0)
    for descriptor in entrances.values():
        os.close(descriptor)
    until = time.monotonic() + 5
    while manager.pids() != [pid] and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.01)
    text = Path(f"/proc/{pid}/cgroup").read_text()
    assert text.count(f":{top}/box\n") == len(HOST.v1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_freeze_and_thaw(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make()
    process = start(manager, "/bin/sh", "-c", "while :; do :; done")
    assert not manager.frozen()
    manager.freeze()
    assert manager.frozen()

    def used() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().split()[13]

    before = used()
    time.sleep(0.1)
    assert used() == before
    manager.thaw()
    assert not manager.frozen()


@pytest.mark.parametrize("paused", [False, True])
def test_kill_and_remove_with_cgroups_inside(make: Callable[..., Any], top: str, paused: bool) -> None:
    manager = make()
    outer = subprocess.Popen(SLEEP)
    inner = subprocess.Popen(SLEEP)
    try:
        enter(manager, outer.pid)
        for path in set(manager.paths().values()):
            os.makedirs(f"{path}/a/b")
        for name in ("cpus", "mems"):
            for part in ("a", "a/b"):
                value = held(manager, "cpuset", f"cpuset.{name}")
                files.write(manager.paths()["cpuset"] + f"/{part}", f"cpuset.{name}", value)
        for path in set(manager.paths().values()):
            files.write(f"{path}/a/b", "cgroup.procs", str(inner.pid))
        assert sorted(manager.pids()) == sorted([outer.pid, inner.pid])
        if paused:
            manager.freeze()
        manager.kill()
        manager.remove()
        assert below_cgroups(f"{top}/box") == []
        assert below_cgroups(top) == [], "the parents made for it are gone too"
    finally:
        for process in (outer, inner):
            process.kill() if process.poll() is None else None
            assert process.wait() == -signal.SIGKILL


def test_remove_says_what_keeps_it(
    make: Callable[..., Any], start: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(tree, "TRIES", 3)
    manager = make()
    process = start(manager, *SLEEP)
    with pytest.raises(
        KernelError, match=rf"device or resource busy .*such as {process.pid}: kill them first"
    ):
        manager.remove()


def test_remove_of_what_is_gone_is_fine(make: Callable[..., Any]) -> None:
    manager = make()
    manager.remove()
    manager.remove()
    manager.kill()
    assert manager.pids() == []
    assert not manager.frozen()
    assert manager.oom_kills() == 0


def test_a_used_cgroup_is_refused_and_left_alone(
    make: Callable[..., Any], top: str, start: Callable[..., Any]
) -> None:
    first = make()
    start(first, *SLEEP)
    before = below_cgroups(f"{top}/box")
    with pytest.raises(PyruncError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        make()
    assert below_cgroups(f"{top}/box") == before


def test_a_frozen_cgroup_is_refused(make: Callable[..., Any]) -> None:
    first = make()
    files.write(first.paths()["freezer"], "freezer.state", "FROZEN")
    with pytest.raises(PyruncError, match="container's cgroup unexpectedly frozen"):
        make()
    first.thaw()


def test_undo_removes_what_was_made_and_nothing_else(top: str) -> None:
    os.mkdir(f"/sys/fs/cgroup/pids{top}")
    os.mkdir(f"/sys/fs/cgroup/pids{top}/box")
    manager = choose({"linux": {"cgroupsPath": f"{top}/box"}}, "id", HOST, rootless=False)  # type: ignore[typeddict-item]
    manager.create()
    manager.remove()
    assert below_cgroups(top) == [f"/sys/fs/cgroup/pids{top}"]
    assert os.path.isdir(f"/sys/fs/cgroup/pids{top}/box")


def test_oom_kill_is_counted(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"memory": {"limit": 8 << 20, "swap": 8 << 20}})
    assert manager.oom_kills() == 0
    process = start(manager, "/usr/bin/python3", "-c", "x = b'x' * (64 << 20)")
    assert process.wait() == -signal.SIGKILL
    assert manager.oom_kills() >= 1


def as_user(action: Callable[[], None]) -> str:
    """Run `action` in a child of uid 65534; the text of its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            action()
            os.write(writer, b"done")
        except PyruncError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


def test_rootless_goes_without_only_if_nothing_is_asked(top: str) -> None:
    def attempt(config: Any) -> Callable[[], None]:
        def action() -> None:
            manager = choose(config, f"pyrunc-test-{os.getpid()}", HOST, rootless=True)
            manager.create()
            manager.apply(config["linux"].get("resources", {}))
            assert manager.paths() == {}
            assert manager.entrances() == {}

        return action

    assert as_user(attempt({"linux": {"resources": {"pids": {"limit": -1}}}})) == "done"
    for linux in ({"resources": {"pids": {"limit": 5}}}, {"cgroupsPath": top}):
        text = as_user(attempt({"linux": linux}))
        assert text.startswith("make cgroup /sys/fs/cgroup/")
        assert "permission denied" in text
        assert "delegated" in text
