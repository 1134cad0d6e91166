"""Device nodes, links, and stdio on the null device, made for real."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOENT, ENOTEMPTY
from pathlib import Path

import pytest

from tests.kernel.test_mounts import MOUNTS, USER, options, own, table
from tests.support import scratch
from tests.support.interpreter import (
    DEV,
    PROC,
    PTS,
    compile_root,
    config_of,
    execute,
    host_of,
    problems,
    run,
)

STAT = "/bin/busybox stat -c '%n %F %a %u %g %t:%T'"
DEFAULTS = ("null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0")


def test_default_devices_and_links(bundle: Path) -> None:
    script = f"cd /dev; {STAT} null zero full random urandom tty; "
    script += "for link in fd stdin stdout stderr ptmx; do /bin/busybox readlink $link; done"
    outcome = run(config_of(PROC, DEV, PTS), bundle, script)
    assert outcome.failure == ""
    expected = [f"{entry.split()[0]} character special file 666 0 0 {entry.split()[1]}" for entry in DEFAULTS]
    assert outcome.lines[:6] == expected
    assert outcome.lines[6:] == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_the_umask_is_not_that_of_the_device_nodes(bundle: Path) -> None:
    outcome = run(config_of(PROC, DEV), bundle, "umask")
    assert outcome.lines == ["0022"]


def test_devices_of_the_config(bundle: Path) -> None:
    devices = [
        {
            "type": "c",
            "path": "/dev/net/tun",
            "major": 10,
            "minor": 200,
            "fileMode": 0o20640,
            "uid": 7,
            "gid": 8,
        },
        {"type": "b", "path": "/dev/disk", "major": 7, "minor": 300000, "fileMode": 0o600},
        {"type": "p", "path": "/else/where/fifo", "fileMode": 0o622, "uid": 9},
        {"type": "u", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 0o444},
    ]
    outcome = run(
        config_of(PROC, DEV, devices=devices),
        bundle,
        f"{STAT} /dev/net/tun /dev/disk /else/where/fifo /dev/null",
    )
    assert outcome.failure == ""
    assert outcome.lines == [
        "/dev/net/tun character special file 640 7 8 a:c8",
        "/dev/disk block special file 600 0 0 7:493e0",
        "/else/where/fifo fifo 622 9 0 0:0",
        "/dev/null character special file 444 0 0 1:3",
    ]


def test_the_same_node_may_be_there_already(bundle: Path) -> None:
    os.mknod(bundle / "rootfs/dev/null", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    device = {"type": "c", "path": "/dev/x", "major": 1, "minor": 5, "uid": 5}
    os.mknod(bundle / "rootfs/dev/x", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    outcome = run(config_of(devices=[device]), bundle, f"{STAT} /dev/null /dev/x")
    assert outcome.failure == ""
    assert outcome.lines[0] == "/dev/null character special file 640 0 0 1:3"


@pytest.mark.parametrize("kind", ["file", "directory", "link", "number", "block", "fifo"])
@pytest.mark.parametrize("owner", [0, 5])
def test_a_different_file_is_an_error(bundle: Path, kind: str, owner: int) -> None:
    path = bundle / "rootfs/dev/x"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(
            path, stat.S_IFBLK if kind == "block" else stat.S_IFCHR, os.makedev(1, 5 + (kind == "number"))
        )
    device = {"type": "c", "path": "/dev/x", "major": 1, "minor": 5, "uid": owner}
    outcome = run(config_of(devices=[device]), bundle)
    assert outcome.number == EEXIST
    assert outcome.failure == "make the device /dev/x (character device 1:5): a different file"
    assert outcome.path == "linux.devices[0]"


def test_a_block_device_is_not_a_character_device(bundle: Path) -> None:
    os.mknod(bundle / "rootfs/dev/x", stat.S_IFCHR, os.makedev(7, 0))
    outcome = run(config_of(devices=[{"type": "b", "path": "/dev/x", "major": 7, "minor": 0}]), bundle)
    assert "block device 7:0): a different file" in outcome.failure
    os.unlink(bundle / "rootfs/dev/x")
    os.mknod(bundle / "rootfs/dev/x", stat.S_IFBLK, os.makedev(7, 0))
    assert (
        run(config_of(devices=[{"type": "b", "path": "/dev/x", "major": 7, "minor": 0}]), bundle).failure
        == ""
    )


@pytest.mark.parametrize("target", ["absolute", "up"])
def test_dev_as_a_link_of_the_image(bundle: Path, target: str) -> None:
    prize = scratch.make("pyrunc-test-prize")
    try:
        (bundle / "rootfs/dev").rmdir()
        (bundle / "rootfs/dev").symlink_to(prize if target == "absolute" else f"../../../../..{prize}")
        device = {"type": "c", "path": "/dev/x", "major": 1, "minor": 5, "uid": 5}
        outcome = run(config_of(devices=[device]), bundle)
        assert (outcome.failure, outcome.number) == ("open /dev", ENOENT), "a dangling link"
        (bundle / f"rootfs{prize}").mkdir(parents=True)
        outcome = run(config_of(devices=[device]), bundle, f"ls {prize}")
        assert outcome.failure == ""
        assert {"null", "ptmx", "fd", "x"} <= set(outcome.lines), "inside the image, where the link leads"
        outcome = run(config_of(PROC, DEV, PTS, devices=[device]), bundle, f"{MOUNTS}; ls {prize}")
        assert outcome.failure == ""
        assert list(prize.iterdir()) == []
    finally:
        scratch.remove(prize)


def test_a_bind_mounted_dev_belongs_to_whoever_made_it(bundle: Path) -> None:
    (bundle / "mydev").mkdir()
    mount = {"destination": "/dev", "source": "mydev", "options": ["bind", "ro"]}
    outcome = run(config_of(PROC, mount), bundle, f"ls -a /dev; {MOUNTS}")
    assert outcome.lines[:2] == [".", ".."] and "/proc" in outcome.output
    assert list((bundle / "mydev").iterdir()) == []
    assert "ro" in options(outcome.lines[2:], "/dev")


def test_ptmx_of_the_image_is_replaced(bundle: Path) -> None:
    place = bundle / "rootfs/dev/ptmx"
    makes: tuple[Callable[[], None], ...] = (
        lambda: os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(5, 2)),
        lambda: place.symlink_to("/dev/null"),
        place.touch,
        place.mkdir,
    )
    for make in makes:
        make()
        outcome = run(config_of(PROC), bundle, "/bin/busybox readlink /dev/ptmx")
        assert (outcome.failure, outcome.lines) == ("", ["pts/ptmx"])
        place.unlink()
    place.mkdir()
    (place / "file").touch()
    outcome = run(config_of(PROC), bundle)
    assert (outcome.failure, outcome.number) == ("link /dev/ptmx to pts/ptmx", ENOTEMPTY)


def test_in_a_user_namespace_the_hosts_nodes_are_bound_and_left_as_they_are(bundle: Path) -> None:
    own(bundle)
    before = [os.stat(f"/dev/{entry.split()[0]}") for entry in DEFAULTS]
    devices = [
        {"type": "c", "path": "/dev/net/fuse", "major": 10, "minor": 229, "uid": 5, "fileMode": 0o600},
        {"type": "p", "path": "/dev/fifo", "uid": 6},
    ]
    config = config_of(PROC, DEV, devices=devices[1:], **USER)
    script = f"{MOUNTS}; {STAT} /dev/null /dev/fifo; echo x > /dev/null && echo written"
    outcome = run(config, bundle, script)
    assert outcome.failure == ""
    mounts = [line for line in outcome.lines if " - " in line]
    for entry in DEFAULTS:
        assert {"nosuid", "noexec"} <= options(mounts, f"/dev/{entry.split()[0]}")
    assert table(mounts)["/dev/null"][2] == table_of_host("/dev")
    assert outcome.lines[-3:] == [
        "/dev/null character special file 666 65534 65534 1:3",
        "/dev/fifo fifo 666 6 0 0:0",
        "written",
    ]
    after = [os.stat(f"/dev/{entry.split()[0]}") for entry in DEFAULTS]
    assert [(s.st_mode, s.st_uid, s.st_gid) for s in before] == [
        (s.st_mode, s.st_uid, s.st_gid) for s in after
    ]


def table_of_host(point: str) -> str:
    """The type of the file system on the host's `point`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = table(lines)
    return found[point][2] if point in found else found["/"][2]


def test_in_a_user_namespace_the_hosts_node_must_be_that_device(bundle: Path) -> None:
    own(bundle)
    config = config_of(
        PROC, DEV, devices=[{"type": "c", "path": "/dev/null", "major": 1, "minor": 99}], **USER
    )
    host = host_of(config, bundle)
    (problem,) = problems(config, host)
    assert "the host has no character device 1:99 at /dev/null to bind-mount: a different file" in problem
    host.nodes.clear()  # as if it had become another one since
    outcome = execute(config, compile_root(config, host, "true"))
    assert outcome.number == EINVAL
    assert "the host's is not character device 1:99" in outcome.failure


def test_in_a_user_namespace_a_link_is_no_place_for_a_device(bundle: Path) -> None:
    (bundle / "rootfs/dev/null").symlink_to("/etc/passwd")
    own(bundle)
    outcome = run(config_of(PROC, **USER), bundle)
    assert outcome.number == EEXIST
    assert outcome.failure == "make the device /dev/null (character device 1:3): a different file"


def test_stdio_on_the_hosts_null_device_becomes_the_containers(bundle: Path) -> None:
    config = config_of(PROC, DEV)
    program = compile_root(
        config, host_of(config, bundle), "/bin/busybox stat -L -c '%d' /proc/self/fd/0 /dev/null /"
    )
    null = os.open("/dev/null", os.O_RDWR)
    try:
        outcome = execute(config, program, null)
    finally:
        os.close(null)
    assert outcome.failure == ""
    mine, device, _ = outcome.lines
    assert mine == device != str(os.stat("/dev/null").st_dev)
