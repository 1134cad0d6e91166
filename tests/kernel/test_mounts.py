"""Mounts made for real by pyrunc-init: what the container sees, what it says when the kernel refuses."""

from __future__ import annotations

import os
from errno import EINVAL, ELOOP, ENODEV, ENOTDIR, EPERM
from pathlib import Path
from typing import Any

import pytest

from tests.support import scratch
from tests.support.interpreter import (
    ALL,
    DEV,
    PROC,
    PTS,
    SYS,
    compile_root,
    config_of,
    execute,
    host_of,
    make_image,
    problems,
    run,
)

MOUNTS = "cat /proc/self/mountinfo"
USER: dict[str, Any] = {
    "namespaces": (*ALL, "user"),
    "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
}


def own(bundle: Path, uid: int = 100000) -> None:
    """Give the image to the root of the user namespace."""
    for directory, _, names in os.walk(bundle / "rootfs"):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            os.chown(path, uid, uid, follow_symlinks=False)


def table(lines: list[str]) -> dict[str, list[str]]:
    """Mount point → [mount options, optional fields..., type, source, superblock options] (last one on top)."""
    found = {}
    for line in lines:
        words = line.split()
        dash = words.index("-")
        found[words[4]] = [words[5], " ".join(words[6:dash]), *words[dash + 1 :]]
    return found


def options(lines: list[str], point: str) -> set[str]:
    return set(table(lines)[point][0].split(","))


def test_the_file_systems_of_a_common_container(bundle: Path) -> None:
    shm = {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    }
    queue = {
        "destination": "/dev/mqueue",
        "type": "mqueue",
        "source": "mqueue",
        "options": ["nosuid", "noexec"],
    }
    outcome = run(config_of(PROC, DEV, PTS, shm, queue, SYS), bundle, MOUNTS)
    assert outcome.failure == ""
    found = table(outcome.lines)
    assert [
        found[point][2] for point in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys")
    ] == [
        "proc",
        "tmpfs",
        "devpts",
        "tmpfs",
        "mqueue",
        "sysfs",
    ]
    assert found["/dev/shm"][3] == "shm"
    assert found["/dev/shm"][4].removesuffix(",inode64") == "rw,size=65536k"
    assert options(outcome.lines, "/sys") == {"ro", "nosuid", "nodev", "noexec", "relatime"}
    assert found["/sys"][4] == "rw", "a read-only superblock would be shared with the whole network namespace"
    assert options(outcome.lines, "/dev") == {"rw", "nosuid"}, "strictatime"


def test_each_bind_gets_the_flags_it_asks_for_and_no_others(bundle: Path) -> None:
    (bundle / "tree").mkdir()
    # A bind mount without a word about it has the access times of its source.
    atime = "noatime" if os.statvfs(bundle).f_flag & os.ST_NOATIME else "relatime"
    cases = {
        "/plain": (["bind"], {"rw", atime}),
        "/all": (
            ["bind", "ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"],
            {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"},
        ),
        "/later": (["bind", "ro", "noexec", "rw", "exec"], {"rw", atime}),
        "/strict": (["rbind", "strictatime"], {"rw"}),
        "/recursive": (["rbind", "rro", "rnosuid", "rnoatime"], {"ro", "nosuid", "noatime"}),
        "/both": (["rbind", "rro", "rw"], {"rw", atime}),
    }
    mounts = [
        {"destination": point, "source": "tree", "options": words} for point, (words, _) in cases.items()
    ]
    outcome = run(config_of(PROC, *mounts), bundle, MOUNTS)
    assert outcome.failure == ""
    for point, (words, expected) in cases.items():
        assert options(outcome.lines, point) == expected, words


def test_rbind_ro_leaves_mounts_below_writable_and_rro_does_not(bundle: Path) -> None:
    outer = {"destination": "/outer", "type": "tmpfs", "source": "outer"}
    inner = {"destination": "/outer/inner", "type": "tmpfs", "source": "inner"}
    base = bundle / "rootfs"
    again = [
        {"destination": "/ro", "source": str(base / "outer"), "options": ["rbind", "ro"]},
        {"destination": "/rro", "source": str(base / "outer"), "options": ["rbind", "rro"]},
        {"destination": "/flat", "source": str(base / "outer"), "options": ["bind"]},
    ]
    (base / "outer").mkdir()
    outcome = run(config_of(PROC, outer, inner, *again), bundle, MOUNTS)
    assert outcome.failure == ""
    assert "ro" in options(outcome.lines, "/ro") and "rw" in options(outcome.lines, "/ro/inner")
    assert "ro" in options(outcome.lines, "/rro") and "ro" in options(outcome.lines, "/rro/inner")
    assert "/flat/inner" not in table(outcome.lines)


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("shared", "shared:"),
        ("private", ""),
        ("slave", ""),
        ("unbindable", "unbindable"),
        ("rshared", "shared:"),
    ],
)
def test_propagation_of_a_mount(bundle: Path, word: str, field: str) -> None:
    volume = {"destination": "/v", "type": "tmpfs", "source": "v", "options": [word]}
    outcome = run(config_of(PROC, volume), bundle, MOUNTS)
    assert outcome.failure == ""
    assert table(outcome.lines)["/v"][1].startswith(field) and bool(table(outcome.lines)["/v"][1]) == bool(
        field
    )


def test_missing_mount_points_are_made(bundle: Path) -> None:
    (bundle / "file").write_text("content\n")
    mounts: list[dict[str, Any]] = [
        {"destination": "/a/b/c", "source": str(bundle / "file"), "options": ["bind"]},
        {"destination": "/a/b/d/e", "type": "tmpfs", "source": "t"},
        {"destination": "a/relative", "type": "tmpfs", "source": "t"},
        {"destination": "/a//b/./x/../y/", "type": "tmpfs", "source": "t"},
    ]
    outcome = run(config_of(PROC, *mounts), bundle, f"{MOUNTS}; cat /a/b/c")
    assert outcome.failure == ""
    assert outcome.lines[-1] == "content"
    assert {"/a/b/c", "/a/b/d/e", "/a/relative", "/a/b/y"} <= set(table(outcome.lines[:-1]))
    assert (bundle / "rootfs/a/b/d").stat().st_mode & 0o7777 == 0o755


def test_mount_points_in_earlier_mounts_are_made_there(bundle: Path) -> None:
    mounts: list[dict[str, Any]] = [
        {"destination": "/v/x", "type": "tmpfs", "source": "one"},
        {"destination": "/v", "type": "tmpfs", "source": "two"},
        {"destination": "/v/x/deep", "type": "tmpfs", "source": "three"},
    ]
    outcome = run(config_of(PROC, *mounts), bundle, MOUNTS)
    assert outcome.failure == ""
    assert table(outcome.lines)["/v/x/deep"][3] == "three"
    assert not (bundle / "rootfs/v/x/deep").exists(), "it belongs into the tmpfs, not into the image"


def test_tmpfs_takes_over_the_mode_of_its_mount_point(bundle: Path) -> None:
    (bundle / "rootfs/there").mkdir()
    os.chmod(bundle / "rootfs/there", 0o2751)
    mounts: list[dict[str, Any]] = [
        {"destination": "/there", "type": "tmpfs", "source": "t"},
        {"destination": "/made", "type": "tmpfs", "source": "t"},
        {"destination": "/said", "type": "tmpfs", "source": "t", "options": ["mode=700"]},
    ]
    outcome = run(config_of(*mounts), bundle, "/bin/busybox stat -c %a /there /made /said")
    assert outcome.lines == ["2751", "1777", "700"]


def test_read_only_tmpfs_and_dev_are_filled_first(bundle: Path) -> None:
    dev = {**DEV, "options": [*DEV["options"], "ro"]}
    tmp = {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["ro"]}
    inner = {"destination": "/t/inner", "type": "tmpfs", "source": "t"}
    outcome = run(config_of(PROC, dev, PTS, tmp, inner), bundle, f"{MOUNTS}; test -c /dev/null && echo null")
    assert outcome.failure == ""
    assert outcome.lines[-1] == "null"
    assert "ro" in options(outcome.lines[:-1], "/dev") and "ro" in options(outcome.lines[:-1], "/t")
    assert "rw" in options(outcome.lines[:-1], "/t/inner")


@pytest.mark.parametrize(
    "kind,words,expected",
    [
        ("tmpfs", ["rro"], {"ro", "relatime"}),
        ("tmpfs", ["rro", "rw"], {"rw", "relatime"}),
        ("tmpfs", ["rnoatime", "strictatime", "rnosuid"], {"rw", "nosuid"}),
        ("mqueue", ["rro"], {"ro", "relatime"}),
        ("mqueue", ["rw", "rro", "rnoatime"], {"rw", "noatime"}),
    ],
)
def test_recursive_options_of_a_new_file_system(
    bundle: Path, kind: str, words: list[str], expected: set[str]
) -> None:
    """It is a tree of one mount; what is said of the mount itself goes before what is said of all."""
    mount = {"destination": "/t", "type": kind, "source": kind, "options": words}
    outcome = run(config_of(PROC, mount), bundle, MOUNTS)
    assert outcome.failure == ""
    assert options(outcome.lines, "/t") == expected


def test_a_mount_on_the_root_itself(bundle: Path) -> None:
    other = bundle / "other"
    other.mkdir()
    make_image(other)
    (other / "rootfs/here").write_text("other\n")
    mount = {"destination": "/", "source": "other/rootfs", "options": ["bind", "ro"]}
    outcome = run(config_of(mount, PROC, DEV), bundle, f"{MOUNTS}; cat /here; ls /dev/null")
    assert outcome.failure == ""
    assert outcome.lines[-2:] == ["other", "/dev/null"]
    assert "ro" in options(outcome.lines[:-2], "/")


def test_remount_changes_what_is_there(bundle: Path) -> None:
    (bundle / "tree").mkdir()
    mounts: list[dict[str, Any]] = [
        {"destination": "/m", "source": "tree", "options": ["bind"]},
        {"destination": "/m", "options": ["bind", "remount", "ro", "nosuid"]},
        {"destination": "/t", "type": "tmpfs", "source": "t"},
        {"destination": "/t", "type": "tmpfs", "options": ["remount", "size=4k", "noexec"]},
    ]
    outcome = run(config_of(PROC, *mounts), bundle, MOUNTS)
    assert outcome.failure == ""
    assert {"ro", "nosuid"} <= options(outcome.lines, "/m")
    assert "noexec" in options(outcome.lines, "/t")
    assert table(outcome.lines)["/t"][4].removesuffix(",inode64") == "rw,size=4k"


def test_settings_of_the_superblock(bundle: Path) -> None:
    words = ["sync", "dirsync", "lazytime", "silent", "iversion", "defaults", "size=1m,nr_inodes=9"]
    mount = {"destination": "/t", "type": "tmpfs", "source": "t", "options": words}
    outcome = run(config_of(PROC, mount), bundle, MOUNTS)
    assert outcome.failure == ""
    assert {"sync", "dirsync", "lazytime", "size=1024k", "nr_inodes=9"} <= set(
        table(outcome.lines)["/t"][4].split(",")
    )


@pytest.mark.parametrize("count", [2, 60, 400], ids=["short", "a page", "more than a page"])
def test_an_overlay_of_many_layers(bundle: Path, count: int) -> None:
    """Engines give all layers in one option; each way for them to the kernel (filesystem.way_of)."""
    base = scratch.make("pyrunc-test-layers")
    upper, work = base / "upper", base / "work"
    for folder in (upper, work, *(base / f"layer-{index}" for index in range(count))):
        folder.mkdir()
        (folder / folder.name).touch()
    (work / "work").unlink()
    layers = ":".join([str(base / f"layer-{index}") for index in range(count)])
    words = ["nodev", f"lowerdir={layers}", f"upperdir={upper}", f"workdir={work}"]
    mount = {"destination": "/o", "type": "overlay", "source": "overlay", "options": words}
    try:
        outcome = run(config_of(PROC, mount), bundle, f"{MOUNTS}; ls /o; ls /..")
    finally:
        scratch.remove(base)
    assert outcome.failure == ""
    lines = [line for line in outcome.lines if line.startswith("layer-")]
    assert len(lines) == count and "upper" in outcome.lines
    assert "nodev" in options([line for line in outcome.lines if " - " in line], "/o")


@pytest.mark.parametrize(
    ("mount", "number", "detail", "remedy"),
    [
        ({"type": "tmpfs", "options": ["size=much"]}, EINVAL, "tmpfs: Bad value for 'size'", "option"),
        ({"type": "tmpfs", "options": ["nonsense"]}, EINVAL, "tmpfs: Unknown parameter 'nonsense'", "option"),
        ({"type": "nosuchfs"}, ENODEV, "", "/proc/filesystems"),
        ({"type": "ext4", "source": "/dev/zero"}, 15, "/dev/zero: Can't lookup blockdev", ""),
    ],
)
def test_a_refused_file_system_says_why(
    bundle: Path, mount: dict[str, Any], number: int, detail: str, remedy: str
) -> None:
    outcome = run(config_of({"destination": "/t", **mount}), bundle)
    assert (outcome.failure, outcome.number, outcome.path) == (
        f"mount {mount['type']} on /t",
        number,
        "mounts[0]",
    )
    assert outcome.detail == detail
    assert remedy in outcome.remedy
    assert outcome.status == 1


def test_a_directory_on_a_file_is_refused(bundle: Path) -> None:
    (bundle / "rootfs/file").touch()
    outcome = run(config_of({"destination": "/file", "source": "/usr", "options": ["bind"]}), bundle)
    assert outcome.number in (EINVAL, ENOTDIR)
    assert "both be directories or both files" in outcome.remedy


def test_not_even_a_bind_takes_the_place_of_proc(bundle: Path) -> None:
    (bundle / "fake").mkdir()
    outcome = run(config_of({"destination": "/proc", "source": "fake", "options": ["bind"]}), bundle)
    assert "not of type proc" in outcome.failure
    mount = {"destination": "/proc", "source": "/proc", "options": ["rbind"]}
    outcome = run(config_of(mount), bundle, "ls /proc/self/fd")
    assert outcome.failure == ""


# -- hostile images ------------------------------------------------------------------------------------


@pytest.fixture
def prize() -> Any:
    """A folder of the host that a hostile image wants written to."""
    path = scratch.make("pyrunc-test-prize")
    yield path
    scratch.remove(path)


@pytest.mark.parametrize("depth", ["", "/../../../../../.."])
def test_symbolic_links_stay_inside(bundle: Path, prize: Path, depth: str) -> None:
    (bundle / "rootfs/link").symlink_to(f"{depth}{prize}" if not depth else f"..{depth}{prize}")
    mounts: list[dict[str, Any]] = [
        {"destination": "/link/sub/point", "type": "tmpfs", "source": "t"},
        {"destination": "/link/file", "source": "/etc/hosts", "options": ["bind"]},
        {"destination": "/link", "type": "tmpfs", "source": "t"},
    ]
    for mount in mounts:
        outcome = run(config_of(PROC, mount), bundle, MOUNTS)
        assert outcome.failure == ""
        assert list(prize.iterdir()) == []
        assert any(point.startswith(str(prize)) for point in table(outcome.lines)), "inside the image instead"


def test_a_dangling_link_to_a_file_gets_its_target_made_inside(bundle: Path) -> None:
    (bundle / "rootfs/etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (bundle / "resolv").write_text("nameserver 192.0.2.1\n")
    mount = {"destination": "/etc/resolv.conf", "source": "resolv", "options": ["rbind", "ro"]}
    outcome = run(config_of(mount), bundle, "/bin/busybox cat /etc/resolv.conf")
    assert outcome.output == "nameserver 192.0.2.1\n"


@pytest.mark.parametrize("target", ["/proc/self/fd/0", "/proc/self/root", "/proc/self/cwd"])
def test_magic_links_are_not_followed(bundle: Path, target: str) -> None:
    # The facts know the text of such a link only, and it must not help either.
    (bundle / "rootfs/link").symlink_to(target)
    config = config_of(PROC, {"destination": "/link/x", "type": "tmpfs", "source": "t"})
    host = host_of(config, bundle)
    assert any("inside /proc" in problem for problem in problems(config, host))
    host.links = {}
    outcome = execute(config, compile_root(config, host, "true"))
    assert outcome.number == ELOOP
    host.rootless = True  # no facts are trusted then: links are followed, inside, and looked at
    outcome = execute(config, compile_root(config, host, "true"))
    assert outcome.number in (ELOOP, EPERM)
    assert "may not be followed" in outcome.remedy or "lead into /proc" in outcome.failure


def test_links_into_proc_are_refused(bundle: Path) -> None:
    (bundle / "rootfs/link").symlink_to("/proc/sys/kernel")
    config = config_of(PROC, {"destination": "/link/hostname", "source": "/etc/hosts", "options": ["bind"]})
    host = host_of(config, bundle)
    assert any("inside /proc" in problem for problem in problems(config, host))
    host.links = {}
    host.rootless = True
    config["linux"]["namespaces"] = [{"type": kind} for kind in ALL]
    outcome = execute(config, compile_root(config, host, "true"))
    assert outcome.number == EPERM
    assert "symbolic links lead into /proc" in outcome.failure


@pytest.mark.parametrize(("name", "mount"), [("proc", PROC), ("sys", SYS)])
def test_a_link_at_proc_or_sys_is_refused(bundle: Path, name: str, mount: dict[str, Any]) -> None:
    (bundle / "rootfs" / name).rmdir()
    (bundle / "rootfs" / name).symlink_to("/tmp")
    config = config_of(mount)
    host = host_of(config, bundle)
    assert any("must be mounted on ordinary directory" in problem for problem in problems(config, host))
    host.links = {}  # exchanged after the look
    outcome = execute(config, compile_root(config, host, "true"))
    assert outcome.number == ELOOP


def test_a_link_exchanged_after_the_look_is_refused(bundle: Path, prize: Path) -> None:
    config = config_of(PROC, {"destination": "/v/x", "type": "tmpfs", "source": "t"})
    host = host_of(config, bundle)
    program = compile_root(config, host, MOUNTS)
    (bundle / f"rootfs{prize}").mkdir(parents=True)
    (bundle / "rootfs/v").symlink_to(prize)
    outcome = execute(config, program)
    assert list(prize.iterdir()) == []
    assert outcome.number == ELOOP


# -- user namespaces -----------------------------------------------------------------------------------


def test_sources_that_only_the_hosts_root_reaches(bundle: Path) -> None:
    own(bundle)
    closed = bundle / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("reached\n")
    mount = {"destination": "/etc/file", "source": str(closed / "file"), "options": ["rbind", "ro"]}
    outcome = run(config_of(PROC, mount, **USER), bundle, "cat /etc/file")
    assert outcome.failure == ""
    assert outcome.output == "reached\n"


def test_locked_flags_may_be_kept_but_not_taken_away(bundle: Path) -> None:
    own(bundle)
    keep = {"destination": "/keep", "source": "/sys", "options": ["rbind", "ro", "noexec"]}
    clear = {"destination": "/clear", "source": "/proc", "options": ["rbind", "suid", "exec", "dev"]}
    outcome = run(config_of(PROC, keep, **USER), bundle, MOUNTS)
    assert outcome.failure == ""
    assert {"ro", "noexec"} <= options(outcome.lines, "/keep")
    with open("/proc/self/mountinfo") as file:
        flags = next(line.split()[5] for line in file if line.split()[4] == "/proc").split(",")
    if not {"nosuid", "nodev", "noexec"} & set(flags):
        # A source with flags of its own, made in a namespace above: the host's /proc has none to take away.
        return
    outcome = run(config_of(PROC, clear, **USER), bundle, MOUNTS)
    assert outcome.number == EPERM
    assert "may not take away" in outcome.remedy


def test_sysfs_without_a_network_namespace_is_explained(bundle: Path) -> None:
    own(bundle)
    kinds = tuple(kind for kind in (*ALL, "user") if kind != "network")
    outcome = run(config_of(SYS, **{**USER, "namespaces": kinds}), bundle)
    assert (outcome.failure, outcome.number) == ("mount sysfs on /sys", EPERM)
    assert "network namespace" in outcome.remedy


def test_proc_without_a_pid_namespace_is_explained(bundle: Path) -> None:
    own(bundle)
    kinds = tuple(kind for kind in (*ALL, "user") if kind != "pid")
    outcome = run(config_of(PROC, **{**USER, "namespaces": kinds}), bundle)
    assert (outcome.failure, outcome.number) == ("mount proc on /proc", EPERM)
    assert "PID namespace" in outcome.remedy


def test_devpts_with_an_unmapped_group(bundle: Path) -> None:
    own(bundle)
    small = [{"containerID": 0, "hostID": 100000, "size": 1}]
    pts = {**PTS, "options": [*PTS["options"], "gid=5"]}
    config = config_of(DEV, pts, **{**USER, "uidMappings": small, "gidMappings": small})
    assert any("unmapped gid" in problem for problem in problems(config, host_of(config, bundle)))
    outcome = execute(config, compile_root(config, host_of(config, bundle), "true"))
    assert outcome.number == EINVAL
    assert "not mapped" in outcome.remedy


def test_a_thousand_mounts_cost_eight_steps_each(bundle: Path) -> None:
    (bundle / "tree").mkdir()

    def program(count: int) -> int:
        mounts = [
            {"destination": f"/v/{index}", "source": "tree", "options": ["rbind", "ro", "rprivate"]}
            for index in range(count)
        ]
        config = config_of(PROC, *mounts)
        outcome = run(config, bundle, "true")
        assert outcome.failure == ""
        return outcome.steps

    assert program(1000) - program(100) == 8 * 900
