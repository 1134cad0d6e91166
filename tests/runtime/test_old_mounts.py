"""Where the mount calls of Linux 5.2 to 5.12 are missing, the same mounts are made by mount(2)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime

UID = GID = 1000
FILTER = [sys.executable, str(REPOSITORY / "tests/support/old_calls.py")]


@pytest.fixture(params=["ENOSYS", "EPERM"])
def old(runtime: Runtime, request: pytest.FixtureRequest) -> Runtime:
    """The runtime without the newer calls."""
    return without_new_calls(runtime, request.param)


def without_new_calls(runtime: Runtime, refusal: str = "ENOSYS") -> Runtime:
    twin = runtime.like()
    twin.prefix = [*FILTER, refusal]
    return twin


def shown(text: str) -> list[tuple[Any, ...]]:
    """What mountinfo says of each mount, in order, without numbers that differ from run to run."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split()
        tags = sorted(word.split(":")[0] for word in words[6:])
        found.append((words[4], words[3], sorted(words[5].split(",")), tags, right.split()))
    return sorted(found, key=lambda mount: str(mount[0]))  # by point, what is on top last


def volumes(bundle: Bundle, folder: Path) -> None:
    (folder / "volume" / "sub").mkdir(parents=True)
    (folder / "file").write_text("x")
    bundle.bind(folder / "volume", "/area/rw", "rbind", "rw")
    bundle.bind(folder / "volume", "/area/ro", "bind", "ro", "nosuid", "nodev")
    bundle.bind(folder / "file", "/etc/file", "rbind", "ro", "rprivate")
    bundle.bind(folder / "volume", "/area/rslave", "rbind", "rslave", "noatime", "nodiratime", "nosymfollow")
    bundle.bind(bundle.rootfs / "bin", "/area/rw/sub", "bind", "ro")
    bundle.bind("/dev", "/area/dev", "rbind", "noexec", "strictatime")


def file_systems(bundle: Bundle, folder: Path) -> None:
    bundle.mount(
        "/area", "tmpfs", "source", "ro", "size=1m", "mode=1750", "sync", "dirsync", "lazytime", "noexec"
    )
    bundle.mount("/area/in", "tmpfs", "in", "nosuid", "noatime", "shared")
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    bundle.mount("/area/copied", "tmpfs", "tmpfs", "unbindable", "strictatime")
    bundle.mount_of("/dev")["options"].append("ro")


def remounts(bundle: Bundle, folder: Path) -> None:
    bundle.bind(folder, "/area", "bind", "nosuid").bind(folder, "/area", "bind", "remount", "ro", "noexec")
    bundle.mount("/tmp", "tmpfs", "t", "nosuid").mount("/tmp", "tmpfs", "t", "remount", "size=4k", "noexec")


def cgroups(bundle: Bundle, folder: Path) -> None:
    bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    bundle.linux["cgroupsPath"] = f"/{bundle.tag}-old"


def cgroup2(bundle: Bundle, folder: Path) -> None:
    bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup2", "cgroup", "nosuid", "noexec", "nodev", "ro")


def cgroup2_of_a_user_namespace(bundle: Bundle, folder: Path) -> None:
    """Which may not have it without a cgroup namespace."""
    bundle.map_ids(host=300000, size=65536).give_rootfs(300000, 300000)
    bundle.mount("/sys/fs/cgroup", "cgroup2", "cgroup", "nosuid", "noexec", "nodev")
    bundle.linux["cgroupsPath"] = f"/{bundle.tag}-old"


def readonly_root(bundle: Bundle, folder: Path) -> None:
    bundle.config["root"]["readonly"] = True
    bundle.linux["rootfsPropagation"] = "rprivate"
    bundle.linux["maskedPaths"] += ["/proc/interrupts", "/proc/bus", "/bin/testify2", "/etc"]
    bundle.linux["readonlyPaths"] += ["/proc/bus", "/area", "/bin/busybox"]


def user_namespace(bundle: Bundle, folder: Path) -> None:
    volumes(bundle, folder)
    bundle.mount_of("/area/rslave")["options"] = ["rbind", "rslave", "nosymfollow"]  # access times are locked
    bundle.mount_of("/area/dev")["options"] = ["rbind", "noexec"]
    bundle.map_ids(host=300000, size=65536).give_rootfs(300000, 300000)
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "file").write_text("x")
    bundle.bind(folder / "closed" / "file", "/etc/closed", "rbind", "ro")


def another_root(bundle: Bundle, folder: Path) -> None:
    bundle.mount("/", "bind", str(bundle.rootfs), "rbind", "nodev", first=True)


def nothing_more(bundle: Bundle, folder: Path) -> None:
    pass


CASES: list[Callable[[Bundle, Path], None]] = [
    nothing_more,
    volumes,
    file_systems,
    remounts,
    cgroups,
    cgroup2,
    cgroup2_of_a_user_namespace,
    readonly_root,
    user_namespace,
    another_root,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_container_sees_the_same(
    runtime: Runtime, old: Runtime, folder: Path, case: Callable[[Bundle, Path], None]
) -> None:
    bundle = runtime.bundle()
    case(bundle, folder)
    bundle.ask("mounts", "ls /..", "cwd", "fds", "ls /dev")
    new = runtime.run(bundle).ok().testimony
    before = runtime.footprint(bundle)
    said = old.run(bundle).ok().testimony
    before.assert_unchanged()
    assert shown(said["mounts"]) == shown(new["mounts"])
    assert set(said["fds"]) == set(new["fds"])
    for question in ("ls /..", "cwd", "ls /dev"):
        assert said[question] == new[question]


def test_without_pivot_root(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().ask("mounts", "ls /")
    new = runtime.run(bundle, "--no-pivot").ok().testimony
    said = old.run(bundle, "--no-pivot").ok().testimony
    assert said["ls /"] == new["ls /"]
    assert shown(said["mounts"])[-8:] == shown(new["mounts"])[-8:]


def test_copied_content_and_a_terminal(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "tmpcopyup", "ro")
    (bundle.rootfs / "area" / "file").write_text("copied")
    assert old.run(bundle.ask("read /area/file")).ok().testimony["read /area/file"] == "copied"


def test_hooks_find_the_root_and_write_nothing_to_the_host(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs").ask("read /area/made")
    bundle.hook("createContainer", "echo -n hook > area/made")
    assert old.run(bundle).ok().testimony["read /area/made"] == "hook"
    assert not (bundle.rootfs / "area" / "made").exists()


def test_create_and_start(runtime: Runtime, old: Runtime) -> None:
    with old.running(runtime.bundle().sleeper()) as container:
        container.says("ready")


def test_sysctl(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().ask("read /proc/sys/kernel/domainname")
    bundle.linux["sysctl"] = {"kernel.domainname": "by-sysctl"}
    assert old.run(bundle).ok().testimony["read /proc/sys/kernel/domainname"].strip() == "by-sysctl"


def test_hostile_links_lead_nowhere(runtime: Runtime, old: Runtime, folder: Path) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "link").symlink_to(folder)
    bundle.mount("/link/x", "tmpfs", "tmpfs")
    seen = {mount[0] for mount in shown(old.run(bundle.ask("mounts")).ok().testimony["mounts"])}
    assert f"{folder}/x" in seen and not (folder / "x").exists()


def test_links_of_the_image_with_too_many_dots_lead_to_its_root(runtime: Runtime, old: Runtime) -> None:
    """`..` from `/` would lead onto a stage above it, and the path would not be hidden."""
    bundle = runtime.bundle()
    (bundle.rootfs / "hidden").symlink_to("../../../../etc")
    (bundle.rootfs / "kept").symlink_to("../../../../home")
    bundle.linux["maskedPaths"] += ["/hidden"]
    bundle.linux["readonlyPaths"] += ["/kept"]
    said = old.run(bundle.ask("ls /etc", "write /home/x y", "ls /..")).ok().testimony
    assert said["ls /etc"] == [] and said["write /home/x y"] == {"errno": "EROFS"}
    assert "etc" in said["ls /.."]


def test_read_only_paths_with_what_is_mounted_below(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().mount("/area/in", "tmpfs", "tmpfs")
    bundle.linux["readonlyPaths"] += ["/area"]
    said = old.run(bundle.ask("write /area/x y", "write /area/in/x y")).ok().testimony
    assert said["write /area/x y"] == said["write /area/in/x y"] == {"errno": "EROFS"}


def test_without_proc_in_the_container(runtime: Runtime, old: Runtime) -> None:
    """Masks are mounted through the host's /proc; an image's own is not believed."""
    bundle = runtime.bundle().without_mount("/proc")
    (bundle.rootfs / "proc" / "self" / "fd").mkdir(parents=True)
    bundle.linux["maskedPaths"] = ["/etc"]
    bundle.linux["readonlyPaths"] = ["/home"]
    said = old.run(bundle.ask("ls /etc", "write /home/x y", "ls /proc/self/fd")).ok().testimony
    assert said["ls /etc"] == [] and said["write /home/x y"] == {"errno": "EROFS"}
    assert said["ls /proc/self/fd"] == []


def test_without_root(runtime: Runtime) -> None:
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID).ask("mounts")
    user = runtime.as_user(UID, GID)
    new = user.run(bundle).ok().testimony
    said = runtime.as_user(UID, GID, *FILTER, "ENOSYS").run(bundle).ok().testimony
    assert shown(said["mounts"]) == shown(new["mounts"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b, f: b.bind(f, "/area", "rbind", "rro"), ("mounts[5].options", "mounts below", "seccomp")),
        (
            lambda b, f: b.bind(f, "/area", "bind", "idmap"),
            ("mounts[5].options", "idmap needs", "Linux 5.12"),
        ),
        (
            lambda b, _: b.mount("/area", "overlay", "o", "lowerdir=" + ":".join(["/x" * 50] * 50)),
            ("mounts[5].options", "page of 4095 bytes"),
        ),
        (lambda b, _: b.linux.update(rootfsPropagation="shared"), ("rootfsPropagation", "use slave")),
    ],
)
def test_what_old_calls_cannot_do_is_said(
    runtime: Runtime, folder: Path, change: Callable[[Bundle, Path], None], words: tuple[str, ...]
) -> None:
    bundle = runtime.bundle()
    change(bundle, folder)
    without_new_calls(runtime).run(bundle).fails(*words)


def test_a_single_mount_has_nothing_below(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle().bind(folder, "/area", "bind", "rro", "rnosuid").ask("mounts")
    text = without_new_calls(runtime).run(bundle).ok().testimony["mounts"]
    seen = {mount[0]: mount[2] for mount in shown(text)}
    assert {"ro", "nosuid"} <= set(seen["/area"])


def test_a_refused_file_system_is_named(runtime: Runtime, old: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "nosuchfs", "none")
    before = runtime.footprint(bundle)
    old.run(bundle).fails("nosuchfs on /area", "no such device")
    before.assert_unchanged()
