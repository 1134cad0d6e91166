"""cgroup v2: what the files say, what it cannot hold, and cgroups that are delegated to an ordinary user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.limits import V2, limited
from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.skipif(not V2, reason="this host has cgroup v1")
#: An ordinary user, who needs no entry in passwd.
UID = GID = 47110


@pytest.mark.cgroupfs
@pytest.mark.parametrize(
    "resources,expected",
    [
        ({"memory": {"limit": 64 << 20}}, {"memory.max": str(64 << 20), "memory.swap.max": "max"}),
        ({"memory": {"reservation": 32 << 20}}, {"memory.low": str(32 << 20), "memory.max": "max"}),
        ({"memory": {"limit": 64 << 20, "swap": 96 << 20}}, {"memory.swap.max": str(32 << 20)}),
        ({"memory": {"limit": 64 << 20, "swap": 64 << 20}}, {"memory.swap.max": "0"}),
        ({"memory": {"limit": 64 << 20, "swap": -1}}, {"memory.swap.max": "max"}),
        ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
        ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 512}}, {"cpu.weight": "59"}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "100"}),
        ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}),
        ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
        ({"cpu": {"quota": 20000, "period": 50000}}, {"cpu.max": "20000 50000"}),
        ({"cpu": {"quota": 20000}}, {"cpu.max": "20000 100000"}),
        ({"cpu": {"period": 50000}}, {"cpu.max": "max 50000"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}),
        (
            {"cpu": {"quota": 20000, "period": 50000, "burst": 10000}},
            {"cpu.max": "20000 50000", "cpu.max.burst": "10000"},
        ),
        ({"cpu": {"cpus": "0", "mems": "0"}}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
        ({"cpu": {"burst": 0}}, {"cpu.max.burst": "0"}),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]},
            {"hugetlb.2MB.max": str(4 << 20), "hugetlb.2MB.rsvd.max": str(4 << 20)},
        ),
        ({"pids": {"limit": 0}}, {"pids.max": "1"}),
        ({"pids": {"limit": 17}}, {"pids.max": "17"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}),
        (
            {"pids": {"limit": 17}, "unified": {"pids.max": "18", "memory.high": str(32 << 20)}},
            {"pids.max": "18", "memory.high": str(32 << 20)},
        ),
    ],
)
def test_values_of_v2(runtime: Runtime, resources: dict[str, Any], expected: dict[str, str]) -> None:
    """In a nested cgroup, so that the controllers have to be handed down through new parents."""
    bundle = limited(runtime, **resources)
    container = runtime.container(bundle)
    parent = Path(f"/sys/fs/cgroup/{runtime.tag}-parent")
    bundle.linux["cgroupsPath"] = f"/{parent.name}/deep/{container.id}"
    container.create().ok()
    home = parent / "deep" / container.id
    assert {name: (home / name).read_text().strip() for name in expected} == expected
    container.delete("--force").ok()
    assert not parent.exists()


@pytest.mark.parametrize(
    "resources,word",
    [
        ({"memory": {"swappiness": 5}}, "linux.resources.memory.swappiness"),
        (
            {"memory": {"limit": 64 << 20, "disableOOMKiller": True}},
            "linux.resources.memory.disableOOMKiller",
        ),
        ({"memory": {"kernel": 1 << 20}}, "linux.resources.memory.kernel"),
        ({"memory": {"kernelTCP": 1 << 20}}, "linux.resources.memory.kernelTCP"),
        ({"memory": {"useHierarchy": False}}, "linux.resources.memory.useHierarchy"),
        ({"blockIO": {"leafWeight": 10}}, "linux.resources.blockIO.leafWeight"),
        ({"network": {"classID": 1}}, "linux.resources.network.classID"),
        (
            {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
            "linux.resources.network.priorities",
        ),
        ({"hugepageLimits": [{"pageSize": "4MB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
        ({"unified": {"nosuch.max": "1"}}, 'the cgroup controller "nosuch" is not available'),
        ({"cpu": {"realtimeRuntime": 5000}}, "linux.resources.cpu.realtimeRuntime"),
        ({"unified": {"memory.nosuch": "1"}}, "memory.nosuch"),
        ({"unified": {"memory.max": "x"}}, 'write "x" to memory.max'),
    ],
)
def test_what_v2_cannot_hold(runtime: Runtime, resources: dict[str, Any], word: str) -> None:
    bundle = limited(runtime, **resources)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(word)
    before.assert_unchanged()


@pytest.mark.cgroupfs
def test_cgroup_whose_children_have_controllers(runtime: Runtime) -> None:
    """No Internal Process Constraint: the kernel puts no process there, and the message says why."""
    home = Path(f"/sys/fs/cgroup/{runtime.tag}-inner")
    home.mkdir()
    (home / "cgroup.subtree_control").write_text("+memory")
    bundle = runtime.bundle()
    bundle.linux["cgroupsPath"] = f"/{home.name}"
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(f"enter cgroup {home}", "busy", "cannot hold processes")
    before.assert_unchanged()


@pytest.mark.cgroupfs
def test_cpus_that_the_parent_lacks(runtime: Runtime) -> None:
    """The kernel would take them, and let the container run on others instead."""
    parent = Path(f"/sys/fs/cgroup/{runtime.tag}-parent")
    parent.mkdir()
    (parent / "cpuset.cpus").write_text("0")
    bundle = limited(runtime, cpu={"cpus": "1"})
    bundle.linux["cgroupsPath"] = f"/{parent.name}/box"
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.resources.cpu.cpus: 1 became 0", "parents")
    before.assert_unchanged()


def test_unified_bites(runtime: Runtime) -> None:
    """What cgroup v1 has no word for: tasks by the file's name, and memory that is slowed down, not killed."""
    bundle = limited(runtime, pids={"limit": 50}, unified={"pids.max": "10"})
    assert runtime.ask(bundle, "forks 50")["forks 50"] == {"made": 9, "errno": "EAGAIN"}
    bundle = limited(runtime, unified={"memory.high": str(8 << 20)})
    with runtime.running(bundle.ask("eat 200")) as container:
        home = Path(f"/sys/fs/cgroup{Path(f'/proc/{container.pid}/cgroup').read_text().strip()[3:]}")
        wait_for(lambda: "\nhigh 0\n" not in (home / "memory.events").read_text(), say="slowing down")
        assert container.status == "running"


@pytest.mark.cgroupfs
def test_container_below_a_threaded_cgroup(runtime: Runtime) -> None:
    """It is threaded itself: limits of processors and tasks hold, one of memory is refused by name."""
    parent = Path(f"/sys/fs/cgroup/{runtime.tag}-parent")
    (parent / "sibling").mkdir(parents=True)
    (parent / "sibling" / "cgroup.type").write_text("threaded")
    bundle = limited(runtime, cpu={"shares": 512}, pids={"limit": 10})
    bundle.linux["cgroupsPath"] = f"/{parent.name}/box"
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    home = parent / "box"
    assert (home / "cgroup.type").read_text() == "threaded\n"
    assert (home / "cpu.weight").read_text() == "59\n"
    assert (home / "pids.max").read_text() == "10\n"
    assert (home / "cgroup.threads").read_text() == f"{container.pid}\n"
    container.delete("--force").ok()
    before.assert_unchanged()
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    runtime.run(bundle).fails("linux.resources.memory.limit", '"memory" does not work in the threaded cgroup')
    before.assert_unchanged()


# -- cgroups that belong to the container ----------------------------------------------------------------


@pytest.mark.parametrize("options", [["rw"], ["ro"]], ids=["rw", "ro"])
def test_delegation(runtime: Runtime, options: list[str]) -> None:
    """config-linux.md "Cgroup ownership": the directory and its files for delegation, never the limits."""
    bundle = limited(runtime, pids={"limit": 10}).map_ids()
    bundle.linux["namespaces"].append({"type": "cgroup"})
    bundle.give_rootfs(200000, 200000)
    bundle.without_mount("/sys/fs/cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", *options)
    mine = options == ["rw"]
    questions = ("mkdir /sys/fs/cgroup/own", "open /sys/fs/cgroup/pids.max w", "ls /sys/fs/cgroup")
    with runtime.running(bundle.ask(*questions, "sleep")) as container:
        container.says("ready")
        said = container.testimony
        home = Path(f"/sys/fs/cgroup{Path(f'/proc/{container.pid}/cgroup').read_text().strip()[3:]}")
        owned = {path.name for path in home.iterdir() if path.is_file() and path.stat().st_uid == 200000}
        assert home.stat().st_uid == (200000 if mine else 0)
    assert said[questions[0]] == (0 if mine else {"errno": "EROFS"})
    assert said[questions[1]] == {"errno": "EACCES"}
    listed = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert owned == (listed & set(said[questions[2]]) if mine else set())


@pytest.mark.needs_root
@pytest.mark.parametrize("uid", [0, UID], ids=["root", "user"])
def test_delegation_without_a_user_namespace(runtime: Runtime, uid: int) -> None:
    """The spec asks for none: an ordinary user makes cgroups inside his own, and moves there; no limit is his."""
    bundle = runtime.bundle().namespace("cgroup")
    bundle.process["user"] = {"uid": uid, "gid": uid}
    bundle.without_mount("/sys/fs/cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    top = "/sys/fs/cgroup"
    questions = (f"mkdir {top}/own", f"open {top}/own/cgroup.procs w", f"open {top}/cgroup.max.depth w")
    with runtime.running(bundle.ask(*questions, "sleep")) as container:
        container.says("ready")
        said = container.testimony
        home = container.cgroup()
        assert home.stat().st_uid == (home / "cgroup.procs").stat().st_uid == uid
        assert (home / "cgroup.freeze").stat().st_uid == 0
    assert [said[question] for question in questions] == [0, 0, {"errno": "EACCES"} if uid else 0]


# -- cgroups of an ordinary user -------------------------------------------------------------------------


@pytest.fixture
def delegated(runtime: Runtime) -> Path:
    """A cgroup v2 that belongs to the ordinary user, with one inside for the processes of his session."""
    top = Path(f"/sys/fs/cgroup/{runtime.tag}-delegated")
    (top / "session").mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    names = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
    for path in (
        top,
        top / "session",
        *(top / name for name in names),
        *(top / "session" / n for n in names),
    ):
        os.chown(path, UID, GID)
    return top


@pytest.mark.needs_root
def test_rootless_limits_in_a_delegated_cgroup(runtime: Runtime, delegated: Path) -> None:
    """Without cgroupsPath the container's cgroup lies beside that of the caller."""
    enter = f'echo $$ > {delegated}/session/cgroup.procs; exec "$@"'
    user = runtime.as_user(UID, GID, "sh", "-c", enter, "sh")
    bundle = limited(runtime, pids={"limit": 10}, memory={"limit": 64 << 20}, cpu={"shares": 512})
    before = runtime.footprint(bundle)
    container = user.container(bundle.rootless(UID, GID))
    container.create().ok()
    home = delegated / container.id
    assert (home / "pids.max").read_text() == "10\n"
    assert (home / "memory.max").read_text() == f"{64 << 20}\n"
    assert (home / "cpu.weight").read_text() == "59\n"
    assert int((home / "cgroup.procs").read_text()) == container.pid
    container.start().ok()
    container.delete("--force").ok()
    before.skip = (*before.skip, runtime.folder / f"user-{UID}")
    before.before["files"] = before.look()["files"]  # the user's own run-time directory may stay
    before.assert_unchanged()


@pytest.mark.needs_root
def test_rootless_from_outside_of_the_delegated_cgroup(runtime: Runtime, delegated: Path) -> None:
    """The kernel lets nobody but root move a process into a delegated cgroup from elsewhere."""
    user = runtime.as_user(UID, GID)
    bundle = limited(runtime, pids={"limit": 10}).rootless(UID, GID)
    bundle.linux["cgroupsPath"] = f"/{delegated.name}/box"
    words = (f"enter cgroup {delegated}/box", "permission denied", "delegated to you")
    user.run(bundle).fails(*words)
    assert not (delegated / "box").exists()
