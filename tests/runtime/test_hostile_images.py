"""Images that try to reach the host: links where the runtime mounts, makes or opens something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

INSIDE = "/area/inside"


@pytest.fixture
def victim(folder: Path) -> Path:
    """A folder of the host that must not change."""
    victim = folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("untouched")
    return victim


def unharmed(victim: Path) -> None:
    """Nothing was made, written or mounted there."""
    assert sorted(os.listdir(victim)) == ["file"] and (victim / "file").read_text() == "untouched"
    with open("/proc/self/mountinfo") as file:
        assert str(victim) not in file.read()


def link(bundle: Bundle, path: str, target: str) -> None:
    """Let the image have a link at `path`."""
    place = bundle.rootfs / path.lstrip("/")
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


TARGETS = ["absolute", "dots", "chain", "magic-root", "magic-cwd", "magic-fd"]


def target(kind: str, victim: Path) -> str:
    """What the link says."""
    return {
        "absolute": str(victim),
        "dots": "../" * 20 + str(victim),
        "chain": "/tmp/one",
        "magic-root": f"/proc/1/root{victim}",
        "magic-cwd": f"/proc/self/cwd/../../../../../..{victim}",
        "magic-fd": "/proc/self/fd/3",
    }[kind]


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("what", ["tmpfs", "bind-dir", "bind-file"])
def test_mount_destination_through_a_link(
    runtime: Runtime, victim: Path, folder: Path, kind: str, what: str
) -> None:
    """It lands inside the root (or is refused); never outside."""
    bundle = runtime.bundle()
    link(bundle, "/evil", target(kind, victim))
    if kind == "chain":
        (bundle.rootfs / "tmp" / "one").symlink_to("two")
        (bundle.rootfs / "tmp" / "two").symlink_to(str(victim))
    (folder / "source").mkdir()
    (folder / "source-file").write_text("x")
    if what == "tmpfs":
        bundle.mount("/evil/deep", "tmpfs", "tmpfs")
    elif what == "bind-dir":
        bundle.bind(folder / "source", "/evil/deep")
    else:
        bundle.bind(folder / "source-file", "/evil/file-of-config")
    before = runtime.footprint(bundle)
    outcome = runtime.run(bundle.ask("mounts"))
    unharmed(victim)
    before.assert_unchanged()
    if outcome.status:
        outcome.fails("mounts[5].destination" if "mounts[5]" in outcome.err else "/evil")
    else:
        # the same path, below the container's root; links of /proc mean nothing there
        assert "magic" in kind or f"{victim}/" in outcome.testimony["mounts"]


@pytest.mark.parametrize("destination", ["/../../../tmp/x", "../../x", "/area/../../../../x", "/./area//x/"])
def test_dots_in_a_destination(runtime: Runtime, destination: str) -> None:
    bundle = runtime.bundle().mount(destination, "tmpfs", "marker-of-the-test")
    before = runtime.footprint(bundle)
    said = runtime.ask(bundle, "mounts")["mounts"]
    assert "marker-of-the-test" in said
    assert not os.path.exists("/x")
    before.assert_unchanged()


@pytest.mark.needs_root
@pytest.mark.parametrize("destination", ["/proc", "/sys"])
@pytest.mark.parametrize("kind", ["elsewhere", "host"])
def test_proc_and_sys_as_links(runtime: Runtime, victim: Path, destination: str, kind: str) -> None:
    """CVE-2023-27561: they must be real directories."""
    bundle = runtime.bundle()
    link(bundle, destination, INSIDE if kind == "elsewhere" else str(victim))
    (bundle.rootfs / "area" / "inside").mkdir()
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(destination)
    before.assert_unchanged()
    unharmed(victim)


def test_dev_as_a_link(runtime: Runtime, victim: Path) -> None:
    """CVE-2026-41579, CVE-2026-47766: no devices, links or mounts on the host."""
    bundle = runtime.bundle()
    link(bundle, "/dev", str(victim))
    outcome = runtime.run(bundle.ask("mounts"))
    unharmed(victim)
    if outcome.status:
        outcome.fails("/dev")


def test_dev_as_a_link_without_a_mount(runtime: Runtime, victim: Path) -> None:
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    link(bundle, "/dev", str(victim))
    outcome = runtime.run(bundle.ask("pid"))
    unharmed(victim)
    if outcome.status:
        outcome.fails("/dev")


@pytest.mark.parametrize("name", ["null", "zero", "tty", "ptmx", "fd", "stdin", "console"])
def test_entries_of_dev_as_links(runtime: Runtime, victim: Path, name: str) -> None:
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    link(bundle, f"/dev/{name}", str(victim / "file"))
    link(bundle, "/dev/core", str(victim / "new"))
    outcome = runtime.run(bundle.ask("pid"))
    unharmed(victim)
    if outcome.status:
        outcome.fails("/dev")


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("path", ["/evil", "/evil/device"])
def test_device_through_a_link(runtime: Runtime, victim: Path, kind: str, path: str) -> None:
    bundle = runtime.bundle()
    link(bundle, "/evil", target(kind, victim))
    bundle.linux["devices"] = [{"path": path, "type": "c", "major": 1, "minor": 3, "uid": 12, "gid": 12}]
    outcome = runtime.run(bundle.ask("pid"))
    unharmed(victim)
    assert (victim / "file").stat().st_uid == 0
    if outcome.status:
        outcome.fails("/evil")


@pytest.mark.parametrize("property", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("kind", TARGETS)
def test_paths_through_a_link(runtime: Runtime, victim: Path, property: str, kind: str) -> None:
    bundle = runtime.bundle()
    link(bundle, "/evil", target(kind, victim))
    bundle.linux[property] = ["/evil", "/evil/file"]
    outcome = runtime.run(bundle.ask("pid"))
    unharmed(victim)
    if outcome.status:
        outcome.fails("/evil")


@pytest.mark.needs_root
@pytest.mark.parametrize("what", ["regular", "link", "zero", "fifo"])
def test_dev_null_that_is_none(runtime: Runtime, victim: Path, what: str) -> None:
    """CVE-2025-31133: what masks a file is the real null device, not what the image calls /dev/null."""
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    null = bundle.rootfs / "dev" / "null"
    if what == "regular":
        null.write_text("secret")
    elif what == "link":
        null.symlink_to("/proc/sys/kernel/core_pattern")
    elif what == "zero":
        os.mknod(null, 0o20666, os.makedev(1, 5))
    else:
        os.mkfifo(null)
    bundle.linux["maskedPaths"] = ["/etc/passwd"]
    outcome = runtime.run(bundle.ask("read /etc/passwd", "stat /etc/passwd"))
    if outcome.status:
        outcome.fails("/dev/null")
    else:
        assert outcome.testimony["read /etc/passwd"] == ""
        assert outcome.testimony["stat /etc/passwd"]["rdev"] == [1, 3]


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/7", "/proc/self/fd/7/../../..", "/proc/self/cwd", "/proc/1/root", "/evil"]
)
def test_cwd_outside(runtime: Runtime, victim: Path, cwd: str) -> None:
    """CVE-2024-21626: the working directory is inside, whatever descriptors the runtime or its caller have."""
    bundle = runtime.bundle()
    link(bundle, "/evil", "/proc/self/fd/7")
    bundle.process["cwd"] = cwd

    def open_many() -> None:
        for fd in range(3, 20):
            os.dup2(os.open("/", os.O_RDONLY), fd)

    outcome = runtime.run(bundle.ask("cwd", "ls ."), preexec_fn=open_many, close_fds=False)
    if outcome.status:
        assert ("Traceback" not in outcome.err and "cwd" in outcome.err) or cwd in outcome.err, repr(outcome)
    else:
        assert "lost+found" not in outcome.testimony["ls ."] and "boot" not in outcome.testimony["ls ."]
        assert not str(outcome.testimony["cwd"]).startswith("(unreachable)")


def test_cwd_made_through_a_link(runtime: Runtime, victim: Path) -> None:
    bundle = runtime.bundle()
    link(bundle, "/evil", str(victim))
    bundle.process["cwd"] = "/evil/new"
    runtime.run(bundle.ask("cwd"))
    unharmed(victim)


@pytest.mark.parametrize("how", ["rootfs-link", "part-link"])
def test_rootfs_that_is_a_link(runtime: Runtime, victim: Path, how: str) -> None:
    """The bundle's owner is the caller, but the last component must be a real directory."""
    bundle = runtime.bundle()
    moved = runtime.folder / "moved"
    bundle.rootfs.rename(moved)
    bundle.rootfs.symlink_to(moved if how == "rootfs-link" else victim)
    before = runtime.footprint()
    runtime.run(bundle).fails("rootfs")
    before.assert_unchanged()


def test_program_through_a_link_to_the_host(runtime: Runtime, victim: Path) -> None:
    """An absolute link in the image is the image's, so the host's program cannot be started."""
    script = victim.parent / "script"
    script.write_text("#!/bin/sh\necho escaped\n")
    script.chmod(0o755)
    bundle = runtime.bundle()
    link(bundle, "/bin/evil", str(script))
    bundle.process["args"] = ["evil"]
    outcome = runtime.run(bundle)
    assert outcome.status != 0 and "escaped" not in outcome.out


def test_sys_fs_cgroup_as_a_link(runtime: Runtime, victim: Path) -> None:
    bundle = runtime.bundle().without_mount("/sys")
    link(bundle, "/sys/fs/cgroup", str(victim))
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    outcome = runtime.run(bundle.ask("pid"))
    unharmed(victim)
    if outcome.status:
        outcome.fails("/sys/fs/cgroup")


@pytest.mark.needs_root
def test_tmpcopyup_does_not_follow_links(runtime: Runtime, victim: Path) -> None:
    """What is copied up is the image's, also where the image has links, devices and sockets."""
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "link").symlink_to(victim / "file")
    os.mkfifo(bundle.rootfs / "area" / "fifo")
    os.mknod(bundle.rootfs / "area" / "null", 0o20666, os.makedev(1, 3))
    link(bundle, "/evil", str(victim))
    bundle.mount("/area", "tmpfs", "tmpfs", "tmpcopyup")
    said = runtime.ask(bundle, "readlink /area/link", "lstat /area/fifo", "lstat /area/null")
    assert said["readlink /area/link"] == str(victim / "file")
    assert said["lstat /area/fifo"]["type"] == "fifo"
    unharmed(victim)


def test_setuid_of_stdio_owner_never_touches_dev_null(runtime: Runtime) -> None:
    """A user that gets its stdio must not become the owner of the host's /dev/null."""
    before = os.stat("/dev/null")
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container = runtime.container(bundle.ask("write /dev/null x"))
    with open("/dev/null", "r+b") as null:
        runtime.into(null, null).verb("run", "--bundle", runtime.put(bundle, container.id), container.id)
    after = os.stat("/dev/null")
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


def test_container_cannot_reach_the_state_directory(runtime: Runtime) -> None:
    """Mounts of the runtime's own folders are the caller's affair; by itself nothing of them is inside."""
    said = runtime.ask(runtime.bundle(), "mounts", "fds")
    assert str(runtime.root) not in said["mounts"]
    assert all(str(runtime.root) not in name for name in said["fds"].values())
