"""`mounts`: what is mounted where, in which order, from which source (config.md, config-linux.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mountinfo import Mount, mounts, table
from tests.support.runtime import Runtime


@pytest.mark.needs_root
def test_default_mounts(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle())
    assert seen["/proc"].type == "proc"
    assert seen["/dev"].type == "tmpfs" and {"nosuid", "rw"} <= seen["/dev"].options
    assert {"size=65536k", "mode=755"} <= seen["/dev"].data
    assert seen["/dev/pts"].type == "devpts"
    assert {"nosuid", "noexec"} <= seen["/dev/pts"].options
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= seen["/dev/pts"].data
    assert {"nosuid", "noexec", "nodev"} <= seen["/dev/shm"].options
    assert {"ro", "nosuid", "noexec", "nodev"} <= seen["/sys"].options
    assert "/" in seen


@pytest.mark.needs_root
def test_nothing_of_the_host_is_mounted(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle())
    expected = {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"}
    assert {p for p in seen if not p.startswith(("/proc/", "/sys/"))} == expected
    assert not any("shared" in mount.tags for mount in seen.values())


def test_order_of_mounts(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle()
    bundle.mount("/area", "tmpfs", "first", "size=1m").mount("/area/inner", "tmpfs", "second")
    seen = mounts(runtime, bundle)
    assert (seen["/area"].source, seen["/area/inner"].source) == ("first", "second")


def test_many_mounts(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for number in range(300):
        bundle.mount(f"/area/{number}", "tmpfs", "tmpfs", "size=4k")
    assert len([point for point in mounts(runtime, bundle) if point.startswith("/area/")]) == 300


def test_a_later_mount_covers_an_earlier_one(runtime: Runtime) -> None:
    """Listed order, also where it hides what came first."""
    bundle = runtime.bundle().mount("/area/in", "tmpfs", "first").mount("/area", "tmpfs", "second")
    said = runtime.ask(bundle, "ls /area", "mounts")
    assert said["ls /area"] == []
    points = [
        Mount(line).source for line in said["mounts"].splitlines() if Mount(line).point.startswith("/area")
    ]
    assert points == ["first", "second"]


# -- destinations ------------------------------------------------------------------------------------------


def test_mount_points_are_made(runtime: Runtime, folder: Path) -> None:
    (folder / "file").write_text("content")
    (folder / "dir").mkdir()
    bundle = runtime.bundle()
    bundle.bind(folder / "file", "/new/place/file").bind(folder / "dir", "/new/dir")
    said = runtime.ask(bundle, "read /new/place/file", "stat /new/dir", "stat /new/place")
    assert said["read /new/place/file"] == "content"
    assert said["stat /new/place"]["mode"] == 0o755


def test_relative_destination_is_below_the_root(runtime: Runtime) -> None:
    assert "/area" in mounts(runtime, runtime.bundle().mount("area", "tmpfs", "tmpfs"))


@pytest.mark.parametrize("destination", ["area/in", "./area//in/", "area/../area/in"])
def test_any_relative_destination_is_relative_to_the_root(runtime: Runtime, destination: str) -> None:
    bundle = runtime.bundle().mount(destination, "tmpfs", "here")
    bundle.process["cwd"] = "/tmp"
    assert mounts(runtime, bundle)["/area/in"].source == "here"


@pytest.mark.parametrize(
    "destination", ["/proc/meminfo", "/proc/uptime", "/proc/stat", "/proc/sys/kernel/ns_last_pid"]
)
def test_files_of_proc_that_may_be_covered(runtime: Runtime, folder: Path, destination: str) -> None:
    (folder / "fake").write_text("fake")
    bundle = runtime.bundle().bind(folder / "fake", destination)
    bundle.linux["readonlyPaths"] = []
    assert runtime.ask(bundle, f"read {destination}")[f"read {destination}"] == "fake"


@pytest.mark.parametrize(
    "destination", ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/net/dev", "/area/../proc/sys"]
)
def test_the_rest_of_proc_may_not(runtime: Runtime, folder: Path, destination: str) -> None:
    (folder / "fake").mkdir()
    bundle = runtime.bundle().bind(folder / "fake", destination)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("/proc")
    before.assert_unchanged()


def test_bind_on_proc_that_is_no_procfs(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle()
    bundle.mount_of("/proc").update(type="bind", source=str(folder), options=["bind"])
    runtime.run(bundle).fails("/proc")


# -- sources -----------------------------------------------------------------------------------------------


def test_relative_bind_source_is_below_the_bundle(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.path / "data").mkdir()
    (bundle.path / "data" / "x").write_text("here")
    bundle.bind("data", "/area")
    assert runtime.ask(bundle, "read /area/x")["read /area/x"] == "here"


@pytest.mark.needs_root
def test_a_source_that_root_may_not_look_at(runtime: Runtime, folder: Path) -> None:
    """As a file system that a user has mounted; here root has not the capabilities that open every directory."""
    source = folder / "closed" / "volume"
    source.mkdir(parents=True)
    os.chown(source.parent, 1000, 1000)
    source.parent.chmod(0o700)
    runtime.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    runtime.globals, runtime.auto_cgroup = ["--cgroup-manager", "disabled"], False
    runtime.run(runtime.bundle().bind(source, "/v").sleeper()).fails(
        f"bind-mount {source} on /v", "permission denied"
    )


@pytest.mark.parametrize("kind", ["bind", "none", "", "ext4"])
def test_type_of_a_bind_mount_is_a_dummy(runtime: Runtime, folder: Path, kind: str) -> None:
    (folder / "x").write_text("here")
    bundle = runtime.bundle().mount("/area", kind, str(folder), "bind")
    if not kind:
        del bundle.mount_of("/area")["type"]
    assert runtime.ask(bundle, "read /area/x")["read /area/x"] == "here"


# -- file systems ------------------------------------------------------------------------------------------


def test_unknown_file_system(runtime: Runtime) -> None:
    runtime.run(runtime.bundle().mount("/area", "nosuchfs", "none")).fails("nosuchfs", "no such device")


def test_tmpfs_takes_the_mode_of_its_mount_point(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area").chmod(0o1701)
    bundle.mount("/area", "tmpfs", "tmpfs")
    assert runtime.ask(bundle, "stat /area")["stat /area"]["mode"] == 0o1701


@pytest.mark.needs_root
def test_tmpcopyup(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    work = bundle.rootfs / "area"
    (work / "deep" / "er").mkdir(parents=True)
    (work / "deep" / "er" / "file").write_text("copied")
    (work / "deep" / "er" / "file").chmod(0o644)
    os.chown(work / "deep" / "er" / "file", 12, 34)
    (work / "link").symlink_to("deep/er/file")
    bundle.mount("/area", "tmpfs", "tmpfs", "tmpcopyup")
    said = runtime.ask(
        bundle,
        "read /area/link",
        "stat /area/deep/er/file",
        "readlink /area/link",
        "write /area/new x",
        "mounts",
    )
    assert said["read /area/link"] == "copied"
    status = said["stat /area/deep/er/file"]
    assert (status["mode"], status["uid"], status["gid"]) == (0o644, 12, 34)
    assert said["readlink /area/link"] == "deep/er/file"
    assert table(said["mounts"])["/area"].type == "tmpfs"
    assert not (work / "new").exists()


def test_cgroup_mount(runtime: Runtime) -> None:
    """On cgroup v1 a tmpfs with one mount per hierarchy, each showing the container's own."""
    bundle = runtime.bundle().mount(
        "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"
    )
    said = runtime.ask(
        bundle, "mounts", "ls /sys/fs/cgroup", "write /sys/fs/cgroup/memory/memory.limit_in_bytes 1"
    )
    seen = table(said["mounts"])
    if os.path.isdir("/sys/fs/cgroup/memory"):
        assert seen["/sys/fs/cgroup/memory"].type == "cgroup"
        assert {"memory", "pids", "devices", "freezer", "cpu"} <= set(said["ls /sys/fs/cgroup"])
    else:
        assert seen["/sys/fs/cgroup"].type == "cgroup2"
    assert isinstance(said["write /sys/fs/cgroup/memory/memory.limit_in_bytes 1"], dict)


def test_without_an_ipc_namespace_mqueue_is_explained(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    bundle.without_namespace("ipc").mount("/dev/mqueue", "mqueue", "mqueue")
    runtime.run(bundle).fails("mount mqueue on /dev/mqueue", "operation not permitted", "IPC namespace")


@pytest.mark.parametrize("who", ["user namespace", "ordinary user"])
def test_what_only_mount_2_makes_in_a_user_namespace(runtime: Runtime, who: str) -> None:
    """Also a read-only one, a long option, and one on another."""
    bundle, user = runtime.bundle(), runtime
    if who == "user namespace":
        bundle.map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    else:
        bundle.rootless(1000, 1000).give_rootfs(1000, 1000)
        user = runtime.as_user(1000, 1000)
    bundle.mount("/area", "tmpfs", "s" * 300, "silent", "size=1m", "ro", "noexec")
    bundle.mount("/area/in", "tmpfs", "in", "iversion", "mode=700")
    said = user.run(bundle.ask("mounts", "ls /..", "ls /area", "write /area/x y")).ok().testimony
    seen = table(said["mounts"])
    assert seen["/area"].source == "s" * 300 and {"ro", "noexec"} <= seen["/area"].options
    assert seen["/area/in"].source == "in" and "rw" in seen["/area/in"].options
    assert said["ls /area"] == ["in"] and "etc" in said["ls /.."]
    assert said["write /area/x y"] == {"errno": "EROFS"}
