"""Values and places: conversions, where a cgroup lies, what is refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.kernel.mountinfo import mounts
from pyrunc.linux.cgroups import resources as res
from pyrunc.linux.cgroups.layout import Hierarchy, Layout, _below, _find
from pyrunc.linux.cgroups.manager import choose, restore
from pyrunc.linux.cgroups.place import place
from pyrunc.linux.cgroups.v2 import io
from pyrunc.linux.cgroups.v2.conversion import cpu_weight, io_weight, maximum, swap_max
from pyrunc.linux.cgroups.v2.limits import numbers
from pyrunc.validate.report import Report

V1 = Layout(
    (
        Hierarchy("/cg/cpu,cpuacct", ("cpu", "cpuacct"), "/"),
        Hierarchy("/cg/memory", ("memory",), "/own/box"),
        Hierarchy("/cg/systemd", ("name=systemd",), "/"),
    ),
    None,
)
V2 = Layout((), Hierarchy("/cg", ("cpu", "memory", "pids"), "/user.slice/session"))

#: What docker and podman send when nothing is asked for.
NOTHING = {
    "devices": [{"allow": False, "access": "rwm"}],
    "memory": {"disableOOMKiller": False, "swappiness": None, "limit": 0},
    "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "realtimePeriod": 0},
    "pids": {"limit": -1},
    "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": [], "throttleReadBpsDevice": None},
    "hugepageLimits": [],
    "network": {"classID": 0, "priorities": []},
    "rdma": {},
    "unified": {},
}


def config(resources: dict[str, Any], **linux: Any) -> Any:
    return {"linux": {"resources": resources, **linux}}


def problems(resources: dict[str, Any], **linux: Any) -> list[str]:
    report = Report()
    res.check(config(resources, **linux), None, report)  # type: ignore[arg-type]
    return [problem.path for problem in report.problems]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        (0, 0),
        (1, 1),
        (2, 1),
        (10, 4),
        (100, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262144, 10000),
        (1 << 40, 10000),
    ],
)
def test_cpu_weight(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_cpu_weight_grows() -> None:
    weights = [cpu_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert set(weights) <= set(range(1, 10001))


@pytest.mark.parametrize(
    ("limit", "swap", "result"),
    [
        (-1, 0, -1),
        (0, 0, None),
        (100, 0, None),
        (100, -1, -1),
        (100, 300, 200),
        (100, 100, 0),
        (0, -1, -1),
    ],
)
def test_swap(limit: int, swap: int, result: int | None) -> None:
    assert swap_max(limit, swap) == result


@pytest.mark.parametrize(("limit", "swap"), [(0, 100), (-1, 100), (200, 100)])
def test_swap_that_cannot_be(limit: int, swap: int) -> None:
    with pytest.raises(PyruncError):
        swap_max(limit, swap)
    assert problems({"memory": {"limit": limit, "swap": swap}}) == ["linux.resources.memory.swap"]


def test_maximum() -> None:
    assert [maximum(value) for value in (-1, 0, 5)] == ["max", "0", "5"]


@pytest.mark.parametrize(
    ("path", "version", "result"),
    [
        ("", 1, "/own/box/id"),
        ("sub/x", 1, "/own/box/sub/x"),
        ("/a//b/./c/", 1, "/a/b/c"),
        ("/a/x/../b/../../../c", 1, "/c"),
        ("../../../c", 1, "/own/box/c"),
        ("../c", 2, "/own/c"),
        ("", 2, "/own/id"),
        ("sub", 2, "/own/sub"),
        ("/a/b", 2, "/a/b"),
    ],
)
def test_place(path: str, version: int, result: str) -> None:
    assert place(path, "id", Hierarchy("/cg", (), "/own/box"), version) == result


@pytest.mark.parametrize("path", ["..", "/", "//.", "/a/..", "/a\nb", "a\0", "/a" * 400])
def test_hostile_places(path: str) -> None:
    assert problems({}, cgroupsPath=path) == ["linux.cgroupsPath"]
    with pytest.raises(PyruncError):
        place(path, "id", Hierarchy("/cg", (), "/"), 1)


def test_paths_of_joined_hierarchies() -> None:
    manager = choose(config({}), "box1", V1, rootless=False)
    assert manager.paths() == {
        "cpu": "/cg/cpu,cpuacct/box1",
        "cpuacct": "/cg/cpu,cpuacct/box1",
        "memory": "/cg/memory/own/box/box1",
        "name=systemd": "/cg/systemd/box1",
    }
    assert restore(manager.record() or {}).paths() == manager.paths()
    assert choose(config({}), "box1", V2, rootless=False).paths() == {"": "/cg/user.slice/box1"}


def test_nothing_asked_for_is_accepted() -> None:
    assert problems(NOTHING) == []
    assert res.needed(NOTHING) == {}
    assert res.needed(dict.fromkeys(NOTHING)) == {}
    assert problems(dict.fromkeys(NOTHING)) == []


def test_every_limit_needs_its_controller() -> None:
    """What no controller holds is refused, never dropped: each property that asks for something is in the table."""
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("blkio", "io", {"blockIO": {"weight": 10}}),
        ("blkio", "io", {"blockIO": {"leafWeight": 10}}),
        ("blkio", "io", {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}),
        *[
            ("blkio", "io", {"blockIO": {name: [{"major": 8, "minor": 0, "rate": 1}]}})
            for name in res.THROTTLES
        ],
        ("net_cls", "net_cls", {"network": {"classID": 5}}),
        ("net_prio", "net_prio", {"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
        ("rdma", "rdma", {"rdma": {"mlx": {"hcaHandles": 0}}}),
        ("hugetlb", "hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
    ]
    for v1, v2, resources in asked:
        assert list(res.needed(resources, 1)) == [v1]
        assert list(res.needed(resources)) == [v2]
        (key,) = resources
        assert res.needed(resources)[v2].startswith(f"linux.resources.{key}")
        assert res.part(resources, {v1}) == resources
        assert res.part(resources, res.CONTROLLERS - {v1}) == {}


def test_part_divides_what_two_controllers_hold() -> None:
    resources = {
        "cpu": {"shares": 5, "cpus": "0", "mems": None},
        "pids": {"limit": 1},
        "unified": {"a.b": "1"},
    }
    assert res.part(resources, {"cpuset"}) == {"cpu": {"cpus": "0", "mems": None}}
    assert res.part(resources, {"cpu"}) == {"cpu": {"shares": 5}}
    whole = {"cpu": resources["cpu"], "pids": {"limit": 1}}
    assert res.part(resources, res.CONTROLLERS) == whole


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"memory": {"swappiness": 101}}, "memory.swappiness"),
        ({"memory": {"limit": -2}}, "memory.limit"),
        ({"memory": {"limit": 5, "swap": -3}}, "memory.swap"),
        ({"memory": {"reservation": -2}}, "memory.reservation"),
        ({"unified": {"a/b": "1"}}, "unified"),
        ({"unified": {"..": "1"}}, "unified"),
        ({"devices": [{"allow": True, "access": "q"}]}, "devices[0]"),
        ({"cpu": {"quota": 1000, "burst": 1001}}, "cpu.burst"),
        ({"cpu": {"idle": 2}}, "cpu.idle"),
        ({"blockIO": {"weight": 1001}}, "blockIO.weight"),
        ({"blockIO": {"leafWeight": 1001}}, "blockIO.leafWeight"),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}, "blockIO.weightDevice[0]"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 2000}]}},
            "blockIO.weightDevice[0].leafWeight",
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}},
            "blockIO.throttleReadBpsDevice[0].rate",
        ),
        ({"network": {"priorities": [{"name": "a b", "priority": 1}]}}, "network.priorities[0].name"),
        ({"network": {"priorities": [{"name": "a\n", "priority": 1}]}}, "network.priorities[0].name"),
        ({"rdma": {"mlx": {}}}, "rdma['mlx']"),
        ({"rdma": {"m x": {"hcaObjects": 1}}}, "rdma['m x']"),
    ],
)
def test_values_that_no_kernel_holds(resources: dict[str, Any], path: str) -> None:
    assert problems(resources) == [f"linux.resources.{path}"]


def test_a_weight_that_io_weight_cannot_hold() -> None:
    with pytest.raises(
        PyruncError, match=r"blockIO.weight: is 9, which io.weight cannot hold \(use 10 to 1000\)"
    ):
        io._weight(9, False, "weight")
    assert io._weight(9, True, "weight") == 9, "BFQ counts as cgroup v1 does"


@pytest.mark.parametrize(("weight", "result"), [(10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_io_weight(weight: int, result: int) -> None:
    assert io_weight(weight) == result


@pytest.mark.parametrize(
    ("text", "result"), [("", set()), ("0", {0}), ("0-2,8", {0, 1, 2, 8}), ("4,1-1", {1, 4})]
)
def test_lists_of_cpus(text: str, result: set[int]) -> None:
    assert numbers(text) == result


@pytest.mark.parametrize(
    ("resources", "controller"),
    [
        ({"cpu": {"shares": 2}}, "cpu"),
        ({"cpu": {"quota": 1000}}, "cpu"),
        ({"cpu": {"idle": 1}}, "cpu"),
        ({"cpu": {"mems": "0"}}, "cpuset"),
        ({"memory": {"swap": 5}}, "memory"),
        ({"memory": {"swappiness": 0}}, "memory"),
        ({"memory": {"disableOOMKiller": True}}, "memory"),
        ({"pids": {"limit": 0}}, "pids"),
        ({"unified": {"io.max": "8:0 rbps=1"}}, "io"),
    ],
)
def test_controllers_that_limits_need(resources: dict[str, Any], controller: str) -> None:
    assert list(res.needed(resources)) == [controller]


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"kernel": 1}},
        {"memory": {"kernelTCP": 1}},
        {"memory": {"swappiness": 0}},
        {"memory": {"disableOOMKiller": True}},
        {"cpu": {"realtimeRuntime": 5}},
        {"cpu": {"realtimePeriod": 5}},
        {"memory": {"useHierarchy": False}},
        {"blockIO": {"leafWeight": 10}},
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}},
        {"network": {"classID": 1}},
        {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
    ],
)
def test_values_that_v2_cannot_hold(resources: dict[str, Any]) -> None:
    with pytest.raises(PyruncError, match="cgroup v2 cannot hold linux.resources."):
        choose(config(resources), "x", V2, rootless=False)
    choose(config(resources), "x", V1, rootless=False)


def test_values_that_v1_cannot_hold() -> None:
    with pytest.raises(PyruncError, match="linux.resources.unified: this host has cgroup v1"):
        choose(config({"unified": {"memory.high": "5"}}), "x", V1, rootless=False)


def test_swappiness_of_go_callers() -> None:
    assert problems({"memory": {"swappiness": (1 << 64) - 1}}) == []
    assert res.swappiness({"swappiness": (1 << 64) - 1}) is None


def test_pids_limit_of_zero_is_a_limit() -> None:
    assert res.pids_limit({"pids": {"limit": 0}}) == 1
    assert res.pids_limit({"pids": {"limit": -1}}) == -1
    assert res.pids_limit({}) is None


def test_host_without_cgroups() -> None:
    with pytest.raises(PyruncError, match="no cgroup hierarchy is mounted"):
        choose(config({}), "x", Layout((), None), rootless=False)
    assert choose(config({}), "x", Layout((), None), rootless=True).paths() == {}


def test_delegation_goes_to_the_host_user_of_the_container() -> None:
    linux = {
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        "namespaces": [{"type": "cgroup"}],
    }
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}
    full = {"linux": linux, "mounts": [mount], "process": {"user": {"uid": 7, "gid": 0}}}
    assert choose(full, "x", V2, rootless=False).owner == 100007  # type: ignore[arg-type, attr-defined]
    for change in (
        {"options": ["ro"]},
        {"options": ["nosuid", "rro"]},
        {"options": ["ro", "rw"]},
        {"source": "cgroup2"},
        {"destination": "/cgroup"},
        {"type": "bind", "options": ["bind"]},
    ):
        full["mounts"] = [{**mount, **change}]
        assert choose(full, "x", V2, rootless=False).owner == -1, change  # type: ignore[arg-type, attr-defined]


@pytest.mark.parametrize(
    ("uid", "namespaces", "owner"),
    [
        (7, [{"type": "cgroup"}], 7),
        (0, [{"type": "cgroup"}], -1),
        (7, [], -1),
        (7, [{"type": "cgroup", "path": "/proc/1/ns/cgroup"}], -1),
        (7, [{"type": "cgroup"}, {"type": "user", "path": "/proc/9/ns/user"}], -1),
    ],
    ids=["user", "root", "no cgroup namespace", "a joined one", "joined user namespace"],
)
def test_delegation_without_id_mappings(uid: int, namespaces: list[dict[str, str]], owner: int) -> None:
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup"}
    user = {"user": {"uid": uid, "gid": 0}}
    full: Any = {"linux": {"namespaces": namespaces}, "mounts": [mount], "process": user}
    assert choose(full, "x", V2, rootless=False).owner == owner  # type: ignore[attr-defined]
    assert choose(full, "x", V2, rootless=True).owner == -1  # type: ignore[attr-defined]
    full["mounts"] = [{**mount, "options": ["ro"]}]
    assert choose(full, "x", V2, rootless=False).owner == -1  # type: ignore[attr-defined]


def test_mount_that_shows_part_of_a_hierarchy() -> None:
    assert _below("/docker/1/x", "/docker/1") == "/x"
    assert _below("/docker/1", "/docker/1") == "/"
    assert _below("/docker/12", "/docker/1") == "/"
    assert _below("/../x", "/") == "/"
    line = rb"33 31 0:31 /docker/1 /odd\040place/cpu ro - cgroup cgroup rw,xattr,cpu,cpuacct"
    assert _find(mounts(table=line), ("cpu", "cpuacct")) == ("/odd place/cpu", "/docker/1")
    assert _find(mounts(table=line), ()) is None
