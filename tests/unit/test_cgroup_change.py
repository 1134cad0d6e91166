"""What `update` makes of resources: what holds afterwards, what has to be written, what puts a file back."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.change import due, merged, touched
from pyrunc.linux.cgroups.former import line
from pyrunc.linux.cgroups.systemd.properties import in_order, of_change

M = 1 << 20
ONLY_NULL = [{"allow": False, "access": "rwm"}]
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}


def rates(*entries: tuple[int, int]) -> list[dict[str, int]]:
    return [{"major": 8, "minor": minor, "rate": rate} for minor, rate in entries]


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        pytest.param({}, {}, {}, id="nothing"),
        pytest.param(
            {"memory": {"limit": 64 * M, "swap": 96 * M}, "pids": {"limit": 5}},
            {"memory": {"limit": 80 * M}},
            {"memory": {"limit": 80 * M, "swap": 96 * M}, "pids": {"limit": 5}},
            id="missing keys stay",
        ),
        pytest.param(
            {"memory": {"limit": 64 * M, "swappiness": 7, "disableOOMKiller": True}, "cpu": {"cpus": "0"}},
            {
                "memory": {"limit": 0, "swappiness": 0, "disableOOMKiller": False},
                "cpu": {"shares": 0, "cpus": "", "quota": None, "burst": 0, "idle": 0},
                "pids": {"limit": 0},
                "blockIO": {"weight": 0},
                "unified": {},
                "devices": [],
                "network": None,
            },
            {
                "memory": {"limit": 64 * M, "swappiness": 0, "disableOOMKiller": False},
                "cpu": {"cpus": "0", "burst": 0, "idle": 0},
                "pids": {"limit": 0},
            },
            id="which zeros are values",
        ),
        pytest.param(
            {"pids": {"limit": 5}},
            {"nosuch": 7, "another": {"limit": 9}, "pids": {"limit": 6}},
            {"pids": {"limit": 6}},
            id="what the specification does not know",
        ),
        pytest.param(
            {"memory": {"limit": 64 * M, "swap": 96 * M}},
            {"memory": {"limit": -1}},
            {"memory": {"limit": -1}},
            id="no limit of memory, none of both",
        ),
        pytest.param(
            {"blockIO": {"weight": 10, "throttleReadBpsDevice": rates((0, 1), (16, 2))}},
            {"blockIO": {"throttleReadBpsDevice": rates((16, 3), (32, 4))}},
            {"blockIO": {"weight": 10, "throttleReadBpsDevice": rates((0, 1), (16, 3), (32, 4))}},
            id="rates by device",
        ),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]}},
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 30}]}},
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 30}]}},
            id="weights of one device",
        ),
        pytest.param(
            {
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}],
                "rdma": {"mlx5_0": {"hcaHandles": 1, "hcaObjects": 2}},
                "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            },
            {
                "hugepageLimits": [{"pageSize": "2MB", "limit": 3}],
                "rdma": {"mlx5_0": {"hcaHandles": 5}, "mlx5_1": {"hcaObjects": 6}},
                "network": {"priorities": [{"name": "eth0", "priority": 2}, {"name": "lo", "priority": 3}]},
            },
            {
                "hugepageLimits": [{"pageSize": "2MB", "limit": 3}, {"pageSize": "1GB", "limit": 2}],
                "rdma": {"mlx5_0": {"hcaHandles": 5, "hcaObjects": 2}, "mlx5_1": {"hcaObjects": 6}},
                "network": {
                    "classID": 1,
                    "priorities": [{"name": "lo", "priority": 3}, {"name": "eth0", "priority": 2}],
                },
            },
            id="lists with a key",
        ),
        pytest.param(
            {"devices": [*ONLY_NULL, KMSG]}, {"devices": ONLY_NULL}, {"devices": ONLY_NULL}, id="devices"
        ),
        pytest.param(
            {"memory": {"limit": M, "swap": M}, "cpu": {"quota": 5, "period": 6, "burst": 1}},
            {"unified": {"memory.max": "2M", "cpu.max": "max", "memory.high": "1M"}},
            {
                "memory": {"swap": M},
                "cpu": {"burst": 1},
                "unified": {"memory.max": "2M", "cpu.max": "max", "memory.high": "1M"},
            },
            id="a file takes the place of the property",
        ),
        pytest.param(
            {"unified": {"memory.max": "2M", "cpu.max": "5 6", "pids.max": "3", "memory.high": "1M"}},
            {"memory": {"limit": 3 * M}, "cpu": {"period": 7}, "pids": {"limit": -1}},
            {
                "memory": {"limit": 3 * M},
                "cpu": {"period": 7},
                "pids": {"limit": -1},
                "unified": {"memory.high": "1M"},
            },
            id="and the property that of the file",
        ),
    ],
)
def test_what_holds_afterwards(before: dict[str, Any], change: dict[str, Any], after: dict[str, Any]) -> None:
    kept = repr(before), repr(change)
    assert merged(before, change) == after
    assert (repr(before), repr(change)) == kept, "nothing that is given changes"


@pytest.mark.parametrize(
    ("before", "change", "written"),
    [
        pytest.param(
            {"memory": {"limit": M}, "cpu": {"shares": 5}},
            {"pids": {"limit": 3}},
            {"pids": {"limit": 3}},
            id="others",
        ),
        pytest.param(
            {"memory": {"limit": 64 * M, "reservation": M}},
            {"memory": {"swap": 96 * M}},
            {"memory": {"limit": 64 * M, "swap": 96 * M}},
            id="memory with swap",
        ),
        pytest.param(
            {"memory": {"limit": 64 * M, "swap": 96 * M}},
            {"memory": {"reservation": M}},
            {"memory": {"reservation": M}},
            id="neither memory nor swap",
        ),
        pytest.param(
            {"memory": {"limit": 64 * M, "checkBeforeUpdate": True}},
            {"memory": {"limit": M}},
            {"memory": {"limit": M, "checkBeforeUpdate": True}},
            id="check before update",
        ),
        pytest.param(
            {"cpu": {"quota": 5000, "period": 10000, "shares": 5}},
            {"cpu": {"period": 20000}},
            {"cpu": {"quota": 5000, "period": 20000}},
            id="quota and period",
        ),
        pytest.param(
            {"cpu": {"shares": 5, "idle": 1}},
            {"cpu": {"idle": 0}},
            {"cpu": {"shares": 5, "idle": 0}},
            id="not idle any more",
        ),
        pytest.param(
            {"cpu": {"shares": 5}},
            {"cpu": {"shares": 7, "idle": 1}},
            {"cpu": {"idle": 1}},
            id="idle from now on",
        ),
        pytest.param(
            {"devices": [*ONLY_NULL, KMSG]},
            {"devices": [*ONLY_NULL, KMSG, KMSG]},
            {},
            id="the same devices in other words",
        ),
        pytest.param({}, {"devices": ONLY_NULL}, {}, id="the devices that are allowed anyway"),
        pytest.param({"devices": ONLY_NULL}, {"devices": [KMSG]}, {"devices": [KMSG]}, id="other devices"),
        pytest.param(
            {"blockIO": {"throttleReadBpsDevice": rates((0, 1))}},
            {"blockIO": {"throttleReadBpsDevice": rates((16, 0))}},
            {"blockIO": {"throttleReadBpsDevice": rates((16, 0))}},
            id="one device",
        ),
    ],
)
def test_what_is_written(before: dict[str, Any], change: dict[str, Any], written: dict[str, Any]) -> None:
    assert due(before, change) == written


def test_what_is_in_the_controllers_of_a_change() -> None:
    """All of it, other limits of a controller included; nothing of other controllers."""
    held = {
        "memory": {"limit": 64 * M, "reservation": M},
        "cpu": {"shares": 5, "idle": 1, "cpus": "0"},
        "pids": {"limit": 5},
        "unified": {"memory.high": "5", "cpu.weight.nice": "3", "cpuset.mems": "0", "pids.max": "6"},
        "devices": ONLY_NULL,
    }
    assert touched(held, {"memory": {"limit": M}}) == {
        "memory": held["memory"],
        "unified": {"memory.high": "5"},
    }
    assert touched(held, {"unified": {"cpu.max": "5"}}) == {
        "cpu": {"idle": 1, "cpus": "0"},
        "unified": {"cpu.weight.nice": "3"},
    }
    assert touched(held, {"devices": [KMSG]}) == {}


def test_shares_of_an_idle_cgroup_are_refused() -> None:
    with pytest.raises(PyruncError, match=r"cpu\.shares: the cgroup is idle"):
        due({"cpu": {"idle": 1}}, {"cpu": {"shares": 5}})


@pytest.mark.parametrize(
    ("name", "text", "value", "back"),
    [
        ("pids.max", "max", "5", "max"),
        ("memory.limit_in_bytes", "9223372036854771712", "5", "9223372036854771712"),
        ("cpu.max", "max 100000", "5000 10000", "max 100000"),
        ("cpu.max", "5000 20000", "5000 10000", "5000 20000"),
        ("cpuset.cpus", "", "0", ""),
        ("cpuset.cpus", "0-3", "0, 1", "0-3"),
        ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 3", "0", "1"),
        ("io.weight", "default 100\n8:0 50", "200", "default 100"),
        ("io.weight", "default 100\n8:0 50", "8:0 60", "8:0 50"),
        ("io.bfq.weight", "default 100\n8:0 50", "8:16 60", "8:16 default"),
        ("blkio.bfq.weight_device", "default 100\n8:0 50", "8:16 60", "8:16 default"),
        (
            "io.max",
            "8:0 rbps=5 wbps=max riops=max wiops=max",
            "8:0 wbps=6",
            "8:0 rbps=5 wbps=max riops=max wiops=max",
        ),
        ("io.max", "8:0 rbps=5", "8:16 wbps=6", "8:16 rbps=max wbps=max riops=max wiops=max"),
        ("blkio.throttle.read_bps_device", "8:0 5", "8:0 6", "8:0 5"),
        ("blkio.throttle.read_bps_device", "8:0 5", "8:16 6", "8:16 0"),
        (
            "rdma.max",
            "mlx5_0 hca_handle=2 hca_object=max\nmlx5_1 hca_handle=max hca_object=max",
            "mlx5_1 hca_handle=3",
            "mlx5_1 hca_handle=max hca_object=max",
        ),
        ("net_prio.ifpriomap", "lo 0\neth0 5", "eth0 6", "eth0 5"),
        ("cgroup.subtree_control", "cpu io", "+memory", "-memory"),
        ("cgroup.subtree_control", "cpu io", "+memory -io +cpu", "-memory +io +cpu"),
    ],
)
def test_what_puts_a_file_back(name: str, text: str, value: str, back: str) -> None:
    assert line(name, text, value) == back


def test_what_systemd_is_told_of_a_change() -> None:
    assert of_change({"unified": {"memory.oom.group": "1", "memory.high": "5"}}, 257) == {
        "MemoryHigh": ("t", 5)
    }
    unset = ("t", (1 << 64) - 1)
    assert of_change({"cpu": {"idle": 0}}, 257) == {"CPUWeight": unset}
    assert of_change({"cpu": {"idle": 0, "shares": 1024}}, 257) == {"CPUWeight": ("t", 100)}
    assert of_change({"cpu": {"idle": 0}}, 251) == {}


def test_device_rules_replace_those_that_systemd_has() -> None:
    """What is not emptied first would be added to; rates of a device take the place of its own."""
    allowed, rate = ("a(ss)", [("/dev/char/1:3", "r")]), ("a(st)", [("/dev/block/8:0", 5)])
    wanted = {"DevicePolicy": ("s", "strict"), "DeviceAllow": allowed, "IOReadBandwidthMax": rate}
    empty: Any = ("DeviceAllow", ("a(ss)", []))
    policy = ("DevicePolicy", ("s", "strict"))
    told = [policy, empty, ("DeviceAllow", allowed), ("IOReadBandwidthMax", rate)]
    assert in_order(wanted) == told
    # To put back, everything is emptied.
    assert in_order(wanted, wanted) == [*told[:3], ("IOReadBandwidthMax", ("a(st)", [])), told[3]]
