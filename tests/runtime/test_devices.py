"""Devices, the default ones and those of the configuration, and the links beside them (config-linux.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

pytestmark = pytest.mark.needs_root

DEFAULT = {"null": [1, 3], "zero": [1, 5], "full": [1, 7], "random": [1, 8], "urandom": [1, 9], "tty": [5, 0]}


@pytest.mark.parametrize("user_namespace", [False, True], ids=["host-ids", "mapped"])
def test_default_devices(runtime: Runtime, user_namespace: bool) -> None:
    bundle = runtime.bundle()
    if user_namespace:
        bundle.map_ids()
    said = runtime.ask(
        bundle, *(f"stat /dev/{name}" for name in DEFAULT), "write /dev/null x", "open /dev/zero r"
    )
    for name, rdev in DEFAULT.items():
        status = said[f"stat /dev/{name}"]
        assert (status["type"], status["mode"], status["rdev"]) == ("char", 0o666, rdev), name
    assert said["write /dev/null x"] == 1 and said["open /dev/zero r"] == 0


def test_links(runtime: Runtime) -> None:
    links = {
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
    }
    said = runtime.ask(
        runtime.bundle(), *(f"readlink {link}" for link in links), "stat /dev/ptmx", "stat /dev/console"
    )
    assert {link: said[f"readlink {link}"] for link in links} == links
    assert said["stat /dev/ptmx"]["rdev"] == [5, 2]
    assert said["stat /dev/console"] == {"errno": "ENOENT"}


def test_existing_names_are_left(runtime: Runtime) -> None:
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    (bundle.rootfs / "dev" / "stdin").write_text("mine")
    assert runtime.ask(bundle, "read /dev/stdin")["read /dev/stdin"] == "mine"


def test_bound_dev_is_left_alone(runtime: Runtime) -> None:
    """A /dev of the host that was bound must not get devices and links."""
    place = runtime.folder / "devices"
    place.mkdir()
    os.mknod(place / "null", 0o20666, os.makedev(1, 3))
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm").bind(place, "/dev")
    runtime.ask(bundle, "pid")
    assert [entry.name for entry in place.iterdir()] == ["null"]


def test_devices(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/deep/er/disk", "type": "b", "major": 7, "minor": 3},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3},
        {"path": "/run/outside-dev", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
    ]
    said = runtime.ask(
        bundle,
        *(
            f"stat {p}"
            for p in (
                "/dev/fuse",
                "/dev/deep/er/disk",
                "/dev/pipe",
                "/dev/unbuffered",
                "/run/outside-dev",
                "/dev/null",
            )
        ),
    )
    fuse = said["stat /dev/fuse"]
    assert (fuse["type"], fuse["mode"], fuse["rdev"], fuse["uid"], fuse["gid"]) == (
        "char",
        0o640,
        [10, 229],
        7,
        8,
    )
    disk = said["stat /dev/deep/er/disk"]
    assert (disk["type"], disk["mode"], disk["rdev"]) == ("block", 0o666, [7, 3])
    assert (said["stat /dev/pipe"]["type"], said["stat /dev/pipe"]["mode"]) == ("fifo", 0o622)
    assert (said["stat /dev/unbuffered"]["type"], said["stat /dev/unbuffered"]["rdev"]) == ("char", [1, 3])
    assert said["stat /run/outside-dev"]["rdev"] == [1, 3]
    assert said["stat /dev/null"]["mode"] == 0o600  # a device of the configuration wins over the default one


@pytest.mark.parametrize(
    "device",
    [
        {"path": "/dev/x", "type": "q", "major": 1, "minor": 3},
        {"path": "dev/x", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/x", "type": "c"},
        {"path": "/dev/x", "type": "c", "major": -1, "minor": 3},
        {"path": "/dev/x", "type": "c", "major": "one", "minor": 3},
    ],
    ids=["type", "relative", "no-numbers", "negative", "text"],
)
def test_bad_devices(runtime: Runtime, device: dict[str, Any]) -> None:
    bundle = runtime.bundle()
    bundle.linux["devices"] = [device]
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("devices[0]")
    before.assert_unchanged()


def with_zero(runtime: Runtime, mapped: bool) -> tuple[Bundle, Path]:
    """A bundle that lists /dev/zero, on the /dev of its image; where that is."""
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    bundle.linux["devices"] = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}]
    if mapped:
        bundle.map_ids().give_rootfs(200000, 200000)
    return bundle, bundle.rootfs / "dev" / "zero"


@pytest.mark.parametrize("mapped", [False, True], ids=["host-ids", "mapped"])
@pytest.mark.parametrize("kind", ["file", "other-device", "fifo", "link", "directory"])
def test_another_file_at_the_path(runtime: Runtime, kind: str, mapped: bool) -> None:
    """config-linux.md: a different file at the path MUST fail (runc and crun take any)."""
    bundle, place = with_zero(runtime, mapped)
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to("/dev/null")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        os.mknod(place, 0o20666, os.makedev(1, 3))
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(
        "make the device /dev/zero (character device 1:5): a different file", "remove it from the image"
    )
    before.assert_unchanged()


@pytest.mark.parametrize("mapped", [False, True], ids=["host-ids", "mapped"])
def test_the_same_device_at_the_path(runtime: Runtime, mapped: bool) -> None:
    bundle, place = with_zero(runtime, mapped)
    os.mknod(place, 0o20666, os.makedev(1, 5))
    assert runtime.ask(bundle, "open /dev/zero r")["open /dev/zero r"] == 0


def test_an_empty_file_is_a_mount_point_for_a_mapped_device(runtime: Runtime) -> None:
    """Where nodes are bind-mounted, engines that unpack images without privileges leave one for each."""
    bundle, place = with_zero(runtime, True)
    place.touch()
    assert runtime.ask(bundle, "stat /dev/zero")["stat /dev/zero"]["rdev"] == [1, 5]


def test_a_device_of_the_image_is_covered_only_by_the_same_one(runtime: Runtime) -> None:
    """The default devices of a user namespace are held to the same."""
    bundle, place = with_zero(runtime, True)
    del bundle.linux["devices"]
    os.mknod(place, 0o20666, os.makedev(1, 3))
    runtime.run(bundle).fails("/dev/zero (character device 1:5): a different file")


@pytest.mark.parametrize("mapped", [False, True], ids=["host-ids", "mapped"])
def test_a_mount_in_place_of_a_default_device(runtime: Runtime, mapped: bool) -> None:
    """`docker run -v /dev/urandom:/dev/random`: what the configuration mounts there is what the container has."""
    bundle = runtime.bundle().bind("/dev/urandom", "/dev/random")
    if mapped:
        bundle.map_ids()
    assert runtime.ask(bundle, "stat /dev/random")["stat /dev/random"]["rdev"] == [1, 9]


def test_mapped_owner_of_a_device(runtime: Runtime) -> None:
    """`uid` and `gid` of a device are ids of the container; bound devices keep the host's owner, unchanged."""
    bundle = runtime.bundle().map_ids()
    bundle.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "uid": 0, "gid": 0}
    ]
    if not os.path.exists("/dev/fuse"):
        bundle.linux["devices"][0] |= {"path": "/dev/full", "major": 1, "minor": 7}
    path = bundle.linux["devices"][0]["path"]
    before = os.stat(path)
    assert runtime.ask(bundle, f"stat {path}")[f"stat {path}"]["type"] == "char"
    after = os.stat(path)
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


@pytest.mark.parametrize("what", ["other", "same", "not-asked"])
def test_what_a_bound_device_keeps_of_the_host(runtime: Runtime, what: str) -> None:
    """What is asked for and cannot be given is told, and nothing else."""
    bundle = runtime.bundle().map_ids()
    device = {"path": "/dev/full", "type": "c", "major": 1, "minor": 7}
    if what == "other":
        device |= {"fileMode": 0o600, "uid": 7, "gid": 8}
    elif what == "same":
        # Also the owner of the host's node is one of the container's ids.
        bundle.linux["uidMappings"].append({"containerID": 65536, "hostID": 0, "size": 1})
        device |= {"fileMode": 0o666, "uid": 65536, "gid": 65536}
    bundle.linux["devices"] = [device]
    done = runtime.run(bundle.ask("stat /dev/full")).ok()
    assert done.testimony["stat /dev/full"]["mode"] == 0o666
    assert done.err.count("level=warning") == (what == "other")
    if what == "other":
        assert (
            "linux.devices[0]: /dev/full keeps mode 0666, uid 0 of the host, gid 0 of the host, instead of mode 0600, "
            "uid 7, gid 8" in done.err
        )


def test_a_mapped_device_that_the_host_has_not(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids()
    bundle.linux["devices"] = [{"path": "/area/odd", "type": "c", "major": 1, "minor": 4000}]
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(
        "linux.devices[0].path: the host has no character device 1:4000 at /area/odd to bind-mount: no such file",
        "the host must have it at that path, or as /dev/char/1:4000",
    )
    before.assert_unchanged()


#: Another /dev, with the links of udev(7); $0 is an empty directory.
UDEV = """
mount -t tmpfs -o mode=755 dev "$0" && mkdir "$0/char" && ln -s ../zero "$0/char/1:5"
for name in null zero full random urandom tty; do touch "$0/$name" && mount --bind "/dev/$name" "$0/$name"; done
mount --rbind "$0" /dev && exec "$@"
"""


def test_a_mapped_device_at_another_path_than_the_hosts(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000)
    bundle.linux["devices"] = [{"path": "/area/nil", "type": "c", "major": 1, "minor": 5}]
    other = folder / "dev"
    other.mkdir()
    runtime.prefix = ["unshare", "--mount", "sh", "-c", UDEV, str(other)]
    assert runtime.ask(bundle, "stat /area/nil")["stat /area/nil"]["rdev"] == [1, 5]


@pytest.mark.parametrize("user", [True, False], ids=["mapped", "host-ids"])
def test_devices_of_a_user_namespace_need_a_mount_namespace(runtime: Runtime, user: bool) -> None:
    bundle = runtime.bundle().without_namespace("mount").without_mount("/dev", "/dev/pts", "/dev/shm")
    if user:
        bundle.map_ids()
    bundle.config["mounts"] = []
    bundle.linux.pop("maskedPaths")
    bundle.linux.pop("readonlyPaths")
    bundle.linux["devices"] = [{"path": "/dev/full", "type": "c", "major": 1, "minor": 7}]
    before = runtime.footprint(bundle)
    done = runtime.run(bundle)
    if user:
        done.fails("linux.devices: bind-mounted in a user namespace", '{"type": "mount"} to linux.namespaces')
        before.assert_unchanged()
    else:
        assert (bundle.rootfs / "dev" / "full").is_char_device()
