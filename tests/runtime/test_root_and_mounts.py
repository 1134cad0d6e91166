"""`root` and `mounts`: what is mounted where, with which flags (config.md, config-linux.md)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime


class Mount:
    """One line of mountinfo."""

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        words, tail = left.split(), right.split()
        self.root, self.point = words[3], words[4]
        self.options = set(words[5].split(","))
        self.tags = {word.split(":")[0] for word in words[6:]}
        self.type, self.source = tail[0], tail[1]
        self.data = set(tail[2].split(","))


def table(text: str) -> dict[str, Mount]:
    """The topmost mount on each mount point."""
    return {mount.point: mount for mount in map(Mount, text.splitlines())}


def mounts(runtime: Runtime, bundle: Bundle) -> dict[str, Mount]:
    """What is mounted in a container of this bundle."""
    return table(runtime.ask(bundle, "mounts")["mounts"])


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


@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_root(runtime: Runtime, readonly: bool) -> None:
    bundle = runtime.bundle()
    bundle.config["root"]["readonly"] = readonly
    said = runtime.ask(bundle, "write /file x", "write /dev/shm/file x", "mounts")
    assert said["write /file x"] == ({"errno": "EROFS"} if readonly else 1)
    assert said["write /dev/shm/file x"] == 1
    assert ("ro" in table(said["mounts"])["/"].options) == readonly


def test_absolute_root(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    elsewhere = runtime.folder / "elsewhere"
    bundle.rootfs.rename(elsewhere)
    bundle.config["root"]["path"] = str(elsewhere)
    assert runtime.ask(bundle, "pid")["pid"] == 1


def test_root_of_any_name(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    name = 'a "b" \\c,d:e ü'
    bundle.rootfs.rename(bundle.path / name)
    bundle.config["root"]["path"] = name
    assert runtime.ask(bundle, "pid")["pid"] == 1


def test_no_pivot(runtime: Runtime) -> None:
    outcome = runtime.run(runtime.bundle().ask("ls /", "mounts"), "--no-pivot")
    said = outcome.ok().testimony
    assert "bin" in said["ls /"] and "area" in said["ls /"]


def test_without_mount_namespace_hosts_files_are_not_reached(runtime: Runtime) -> None:
    """Without a mount namespace there would be mounts on the host: refused, or contained."""
    bundle = runtime.bundle().without_namespace("mount")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("mount")
    before.assert_unchanged()


def test_order_of_mounts(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle()
    bundle.mount("/area", "tmpfs", "first", "size=1m").mount("/area/inner", "tmpfs", "second")
    seen = mounts(runtime, bundle)
    assert (seen["/area"].source, seen["/area/inner"].source) == ("first", "second")


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


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "options,present,absent",
    [
        (["ro"], {"ro"}, {"rw"}),
        (["rw"], {"rw"}, {"ro"}),
        (["ro", "rw"], {"rw"}, {"ro"}),
        (["rw", "ro"], {"ro"}, {"rw"}),
        (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}, set()),
        (["nosuid", "suid"], set(), {"nosuid"}),
        (["noatime"], {"noatime"}, {"relatime"}),
        (["nodiratime"], {"nodiratime"}, set()),
        (["strictatime"], set(), {"relatime", "noatime"}),
        (["relatime"], {"relatime"}, set()),
        (["nosymfollow"], {"nosymfollow"}, set()),
        (["defaults"], {"rw"}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("what", ["tmpfs", "bind"])
def test_flags(
    runtime: Runtime, what: str, options: list[str], present: set[str], absent: set[str], folder: Path
) -> None:
    bundle = runtime.bundle()
    if what == "tmpfs":
        bundle.mount("/area", "tmpfs", "tmpfs", *options)
    else:
        bundle.bind(folder, "/area", "bind", *options)
    seen = mounts(runtime, bundle)["/area"]
    assert present <= seen.options and not absent & seen.options, seen.options


@pytest.mark.parametrize("option,word", [("sync", "sync"), ("dirsync", "dirsync"), ("lazytime", "lazytime")])
def test_flags_of_the_file_system(runtime: Runtime, option: str, word: str) -> None:
    assert word in mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))["/area"].data


@pytest.mark.parametrize(
    "option",
    [
        "async",
        "atime",
        "diratime",
        "dev",
        "exec",
        "suid",
        "norelatime",
        "nostrictatime",
        "nolazytime",
        "silent",
        "loud",
        "iversion",
        "noiversion",
        "nomand",
        "symfollow",
    ],
)
def test_options_that_are_known(runtime: Runtime, option: str) -> None:
    """They must be accepted, and never reach the file system as unknown data (tmpfs refuses that)."""
    assert "/area" in mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))


@pytest.mark.needs_root
def test_unknown_option_is_data(runtime: Runtime) -> None:
    seen = mounts(
        runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", "size=128k", "mode=1750", "uid=7")
    )
    assert {"size=128k", "mode=1750", "uid=7"} <= seen["/area"].data


def test_bad_data(runtime: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "nosuchoption=1")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("/area", "invalid argument")
    before.assert_unchanged()


def test_data_on_a_bind_mount(runtime: Runtime, folder: Path) -> None:
    runtime.run(runtime.bundle().bind(folder, "/area", "bind", "size=1m")).fails("mounts[5]", "size=1m")


def test_unknown_file_system(runtime: Runtime) -> None:
    runtime.run(runtime.bundle().mount("/area", "nosuchfs", "none")).fails("nosuchfs", "no such device")


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "options,effect",
    [
        (["rro"], "ro"),
        (["rnosuid"], "nosuid"),
        (["rnodev"], "nodev"),
        (["rnoexec"], "noexec"),
        (["rnoatime"], "noatime"),
        (["rnodiratime"], "nodiratime"),
        (["rnosymfollow"], "nosymfollow"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_recursive_flags(runtime: Runtime, options: list[str], effect: str) -> None:
    bundle = runtime.bundle().without_mount("/sys")
    bundle.bind("/dev", "/area", "rbind", *options)
    seen = mounts(runtime, bundle)
    below = [point for point in seen if point.startswith("/area/")]
    assert below
    for point in ("/area", *below):
        assert effect in seen[point].options, point


def test_ro_alone_is_not_recursive(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area", "rbind", "ro"))
    assert "ro" in seen["/area"].options and "rw" in seen["/area/pts"].options


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "option",
    [
        "rrw",
        "rsuid",
        "rdev",
        "rexec",
        "ratime",
        "rdiratime",
        "rrelatime",
        "rnorelatime",
        "rstrictatime",
        "rnostrictatime",
        "rsymfollow",
    ],
)
def test_recursive_flags_that_clear(runtime: Runtime, folder: Path, option: str) -> None:
    assert "/area" in mounts(runtime, runtime.bundle().bind(folder, "/area", "rbind", option))


@pytest.mark.needs_root
def test_bind_without_recursion(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area"))
    assert not [point for point in seen if point.startswith("/area/")]


def test_remount(runtime: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "nosuid")
    bundle.mount("/area", "tmpfs", "tmpfs", "remount", "ro", "nosuid")
    assert {"ro", "nosuid"} <= mounts(runtime, bundle)["/area"].options


def test_remount_of_a_bind_mount(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle().bind(folder, "/area").bind(folder, "/area", "bind", "remount", "ro")
    assert "ro" in mounts(runtime, bundle)["/area"].options


@pytest.mark.parametrize(
    "option,tags",
    [
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("private", set()),
        ("rprivate", set()),
        ("unbindable", {"unbindable"}),
    ],
)
def test_propagation_of_a_mount(runtime: Runtime, option: str, tags: set[str]) -> None:
    assert mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))["/area"].tags == tags


def in_shared_mounts(runtime: Runtime) -> Runtime:
    """The runtime called where all mounts are shared, as on a host with systemd; nothing reaches this host."""
    twin = runtime.like()
    twin.prefix = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        'mount --make-rshared /; exec "$@"',
        "sh",
    ]
    return twin


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "propagation,tags",
    [
        (None, {"master"}),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("private", set()),
        ("rprivate", set()),
        ("shared", {"shared"}),
        ("unbindable", {"unbindable"}),
    ],
)
def test_rootfs_propagation(runtime: Runtime, propagation: str | None, tags: set[str]) -> None:
    bundle = runtime.bundle()
    if propagation:
        bundle.linux["rootfsPropagation"] = propagation
    seen = mounts(in_shared_mounts(runtime), bundle)["/"]
    if propagation is None:
        assert "shared" not in seen.tags  # what is not asked for must not reach back to the host
    elif tags == {"master"}:
        assert "shared" not in seen.tags and "unbindable" not in seen.tags
    else:
        assert tags <= seen.tags and ("shared" in seen.tags) == ("shared" in tags)


def test_unknown_rootfs_propagation(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["rootfsPropagation"] = "loud"
    runtime.run(bundle).fails("rootfsPropagation")


@pytest.mark.needs_root
def test_container_mounts_do_not_reach_a_shared_host(runtime: Runtime) -> None:
    twin = runtime.like()
    list_after = 'mount --make-rshared /; "$@" >/dev/null; exec cat /proc/self/mountinfo'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", list_after, "sh"]
    bundle = runtime.bundle().mount("/area", "tmpfs", "marker-of-the-test")
    assert "marker-of-the-test" not in twin.run(bundle).ok().out


@pytest.mark.needs_root
def test_slave_receives_mounts_of_the_host(runtime: Runtime, folder: Path) -> None:
    """rslave bind: what the host mounts later appears inside."""
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    bundle = runtime.bundle().bind(source, "/area", "rbind", "rslave")
    bundle.shell("echo ready; while ! [ -e /area/sub/token ]; do sleep 0.02; done; echo seen")
    bundle.linux["rootfsPropagation"] = "slave"
    twin = runtime.like()
    script = (
        f'mount -t tmpfs t {source} && mkdir {source}/sub && mount --make-rshared {source}; "$@" & '
        f"sleep 0.5; mount -t tmpfs late {source}/sub; touch {source}/sub/token; wait $!"
    )
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    id = runtime.new_id()
    going = twin.spawn("run", "--bundle", twin.put(bundle, id), id)
    going.says("seen")
    assert going.wait().status == 0


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


def test_masked_paths(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "dir").mkdir()
    (bundle.rootfs / "area" / "dir" / "secret").write_text("x")
    (bundle.rootfs / "area" / "file").write_text("secret")
    bundle.linux["maskedPaths"] = ["/area/dir", "/area/file", "/area/missing", "/proc/interrupts"]
    said = runtime.ask(
        bundle,
        "ls /area/dir",
        "write /area/dir/x y",
        "read /area/file",
        "stat /area/file",
        "read /proc/interrupts",
    )
    assert said["ls /area/dir"] == []
    assert said["write /area/dir/x y"]["errno"] in ("EROFS", "EACCES")
    assert said["read /area/file"] == "" and said["read /proc/interrupts"] == ""
    assert said["stat /area/file"]["rdev"] == [1, 3]


def test_readonly_paths(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "file").write_text("x")
    bundle.linux["readonlyPaths"] = ["/area/file", "/proc/sys", "/missing", "/tmp"]
    said = runtime.ask(
        bundle,
        "append /area/file y",
        "write /area/other y",
        "write /proc/sys/kernel/hostname z",
        "write /tmp/x y",
    )
    assert said["append /area/file y"] == {"errno": "EROFS"}
    assert said["write /area/other y"] == 1
    assert said["write /proc/sys/kernel/hostname z"] == {"errno": "EROFS"}
    assert said["write /tmp/x y"] == {"errno": "EROFS"}


@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_relative_path_is_refused(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle()
    bundle.linux[name] = ["area"]
    runtime.run(bundle).fails(name)


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


def test_many_mounts(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for number in range(300):
        bundle.mount(f"/area/{number}", "tmpfs", "tmpfs", "size=4k")
    assert len([point for point in mounts(runtime, bundle) if point.startswith("/area/")]) == 300


# -- a joined mount namespace ------------------------------------------------------------------------------


def test_a_joined_mount_namespace_gets_the_containers_root(runtime: Runtime, folder: Path) -> None:
    """As with runc and crun: pivot_root(2) changes the root of all who are in it, and nothing of before is left."""
    script = f"mkdir {folder}/m; mount -t tmpfs marker-of-the-test {folder}/m; echo ready; exec sleep 60"
    around = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    keeper = subprocess.Popen(around, stdout=subprocess.PIPE)
    try:
        assert keeper.stdout
        with keeper.stdout as ready:
            assert ready.readline() == b"ready\n"
        bundle = runtime.bundle().namespace("mount", f"/proc/{keeper.pid}/ns/mnt")
        said = runtime.ask(bundle.mount("/area", "tmpfs", "of-the-container"), "mounts", "ls /", "namespaces")
        assert "marker-of-the-test" not in said["mounts"] and table(said["mounts"])["/area"].type == "tmpfs"
        assert said["namespaces"]["mnt"] == os.readlink(f"/proc/{keeper.pid}/ns/mnt")
        assert sorted(os.listdir(f"/proc/{keeper.pid}/root")) == sorted(said["ls /"])
    finally:
        keeper.kill()
        keeper.wait()


def test_the_hosts_own_mount_namespace_is_not_joined(runtime: Runtime) -> None:
    """The host's root would be exchanged. In a namespace of the test's own, lest it should happen."""
    twin = runtime.like()
    twin.prefix = ["unshare", "--mount", "--propagation", "private"]
    bundle = runtime.bundle().namespace("mount", "/proc/self/ns/mnt")
    twin.run(bundle).fails("linux.namespaces", "own", "leave its path out")


# -- the table of options ----------------------------------------------------------------------------------

ATIME = {"noatime", "relatime"}


@pytest.mark.parametrize(
    ("option", "before", "present", "absent"),
    [
        ("ro", "rw", {"ro"}, {"rw"}),
        ("rw", "ro", {"rw"}, {"ro"}),
        ("nosuid", "suid", {"nosuid"}, set()),
        ("suid", "nosuid", set(), {"nosuid"}),
        ("nodev", "dev", {"nodev"}, set()),
        ("dev", "nodev", set(), {"nodev"}),
        ("noexec", "exec", {"noexec"}, set()),
        ("exec", "noexec", set(), {"noexec"}),
        ("nosymfollow", "symfollow", {"nosymfollow"}, set()),
        ("symfollow", "nosymfollow", set(), {"nosymfollow"}),
        ("nodiratime", "diratime", {"nodiratime"}, set()),
        ("diratime", "nodiratime", set(), {"nodiratime"}),
        ("noatime", "strictatime", {"noatime"}, {"relatime"}),
        ("atime", "noatime", {"relatime"}, {"noatime"}),
        ("relatime", "noatime", {"relatime"}, {"noatime"}),
        ("norelatime", "relatime", {"relatime"}, {"noatime"}),
        ("strictatime", "noatime", set(), ATIME),
        ("nostrictatime", "strictatime", {"relatime"}, {"noatime"}),
        ("defaults", "ro", {"ro"}, {"rw"}),
    ],
)
@pytest.mark.parametrize("scope", ["new", "bind", "below"])
def test_every_flag_of_a_mount_after_its_opposite(
    runtime: Runtime, folder: Path, option: str, before: str, present: set[str], absent: set[str], scope: str
) -> None:
    """The later word wins; of an r word on all mounts below."""
    if scope == "below" and option == "defaults":
        return
    bundle = runtime.bundle()
    if scope == "new":
        bundle.mount("/area", "tmpfs", "tmpfs", before, option)
    elif scope == "bind":
        bundle.bind(folder, "/area", "bind", before, option)
    else:
        bundle.bind("/dev", "/area", "rbind", f"r{before}", f"r{option}")
    seen = mounts(runtime, bundle)
    points = [point for point in seen if point == "/area" or point.startswith("/area/")]
    assert len(points) > (2 if scope == "below" else 0)
    for point in points:
        assert present <= seen[point].options and not absent & seen[point].options, (
            point,
            seen[point].options,
        )


@pytest.mark.parametrize("option", ["ro", "noatime", "nosuid", "nosymfollow"])
def test_a_flag_with_rbind_is_not_recursive(runtime: Runtime, option: str) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area", "rbind", option))
    assert (
        option in seen["/area"].options
        and option
        not in seen["/area/pts"].options - table(Path("/proc/self/mountinfo").read_text())["/dev/pts"].options
    )


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        (["async", "sync"], {"sync"}, set()),
        (["sync", "async"], set(), {"sync"}),
        (["dirsync"], {"dirsync"}, set()),
        (["nolazytime", "lazytime"], {"lazytime"}, set()),
        (["lazytime", "nolazytime"], set(), {"lazytime"}),
        (["mand", "nomand"], set(), {"mand"}),
        (["iversion", "sync"], {"sync"}, set()),
        (["noiversion"], {"rw"}, set()),
        (["silent", "lazytime", "dirsync"], {"lazytime", "dirsync"}, set()),
        (["silent", "loud"], {"rw"}, set()),
        (["ro"], {"rw"}, {"ro"}),  # of the mount, not of a file system that others may share
    ],
    ids=lambda words: "-".join(words if isinstance(words, list) else sorted(words)),  # xdist wants one order
)
def test_every_flag_of_a_file_system(
    runtime: Runtime, options: list[str], present: set[str], absent: set[str]
) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", *options, "size=1m")
    seen = mounts(runtime, bundle)
    assert present | {"size=1024k"} <= seen["/area"].data and not absent & seen["/area"].data
    assert seen["/"].type != "tmpfs", "the stage for mount(2) is gone"


def test_mand_is_told_to_the_kernel(runtime: Runtime) -> None:
    """Kernels since 5.15 know it as a word only: accepted, and without effect."""
    assert mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", "mand"))["/area"].data


# -- bind sources and destinations as config.md has them ---------------------------------------------------


@pytest.mark.parametrize("destination", ["area/in", "./area//in/", "area/../area/in"])
def test_any_relative_destination_is_relative_to_the_root(runtime: Runtime, destination: str) -> None:
    bundle = runtime.bundle().mount(destination, "tmpfs", "here")
    bundle.process["cwd"] = "/tmp"
    assert mounts(runtime, bundle)["/area/in"].source == "here"


def test_a_later_mount_covers_an_earlier_one(runtime: Runtime) -> None:
    """Listed order, also where it hides what came first."""
    bundle = runtime.bundle().mount("/area/in", "tmpfs", "first").mount("/area", "tmpfs", "second")
    said = runtime.ask(bundle, "ls /area", "mounts")
    assert said["ls /area"] == []
    points = [
        Mount(line).source for line in said["mounts"].splitlines() if Mount(line).point.startswith("/area")
    ]
    assert points == ["first", "second"]


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
