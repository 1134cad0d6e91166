"""`mounts add` and `mounts remove`: mounts into and out of a container that runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.mounts_verb import (
    add,
    bind,
    entry,
    flags,
    inside,
    line,
    maps,
    mounts,
    points,
    recorded,
    remove,
    table,
    tmpfs,
)
from tests.support.runtime import Container, Runtime


def test_add_and_remove(sleeper: Container, volume: Path) -> None:
    before = table(sleeper)
    entries = [bind(volume, "/new/data"), bind(volume / "file", "/etc/one")]
    add(sleeper, *entries).ok()
    assert inside(sleeper, "/new/data/file").read_text() == "of the host"
    assert inside(sleeper, "/etc/one").read_text() == "of the host"
    assert recorded(sleeper) == ["/new/data", "/etc/one"]
    remove(sleeper, *entries).ok()
    assert table(sleeper) == before
    assert recorded(sleeper) == []


def test_the_containers_process_sees_it(runtime: Runtime, volume: Path) -> None:
    script = "echo ready; while ! test -e /area/file; do sleep 0.05; done; cat /area/file"
    with runtime.running(runtime.bundle().shell(script)) as container:
        container.says("ready")
        add(container, bind(volume, "/area")).ok()
        container.says("of the host")


def test_from_a_file(sleeper: Container, volume: Path) -> None:
    file = volume / "mounts.json"
    file.write_text(json.dumps([bind(volume, "/data")]))
    sleeper.runtime.verb("mounts", "add", sleeper.id, str(file)).ok()
    assert "/data" in points(sleeper)


def test_an_empty_list_changes_nothing(sleeper: Container) -> None:
    before = table(sleeper)
    add(sleeper).ok()
    remove(sleeper).ok()
    assert table(sleeper) == before


def test_source_relative_to_the_bundle(sleeper: Container) -> None:
    (sleeper.bundle.path / "beside").mkdir()
    add(sleeper, bind("beside", "/data")).ok()
    assert line(sleeper, "/data")[3].endswith("/beside")


def test_options_of_a_bind_mount(sleeper: Container, volume: Path) -> None:
    # When files were last read is the host's to decide, where it owns the mount.
    options = ["ro", "nosuid", "nodev", "noexec"] + ["noatime"] * (os.geteuid() == 0)
    add(sleeper, bind(volume, "/a", *options)).ok()
    assert set(options) <= flags(sleeper, "/a")
    with pytest.raises(OSError, match="Read-only"):
        inside(sleeper, "/a/new").write_text("x")
    assert "rw" in line(sleeper, "/")[5]


@pytest.mark.needs_root
@pytest.mark.parametrize(("options", "shown"), [(("ro",), "rw"), (("rro",), "ro")])
def test_mounts_below_the_source(
    sleeper: Container, volume: Path, options: tuple[str, ...], shown: str
) -> None:
    (volume / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", volume / "sub"], check=True)
    add(sleeper, entry("/r", "none", volume, "rbind", *options), bind(volume, "/b")).ok()
    assert shown in flags(sleeper, "/r/sub")
    assert "/b/sub" not in points(sleeper)
    remove(sleeper, bind("", "/r")).ok()
    assert not [point for point in points(sleeper) if point.startswith("/r")]


def test_tmpfs(sleeper: Container) -> None:
    place = sleeper.bundle.rootfs / "place"
    place.mkdir()
    place.chmod(0o1711)
    add(sleeper, tmpfs("/place"), tmpfs("/new", "size=64k"), tmpfs("/own", "mode=0700")).ok()
    modes = [stat.S_IMODE(inside(sleeper, path).stat().st_mode) for path in ("/place", "/new", "/own")]
    assert modes == [0o1711, 0o1777, 0o700]
    assert "size=64k" in line(sleeper, "/new")[-1]


def test_tmpfs_with_what_is_there(sleeper: Container) -> None:
    add(sleeper, tmpfs("/etc", "tmpcopyup")).ok()
    passwd = "etc/passwd"
    assert inside(sleeper, f"/{passwd}").read_text() == (sleeper.bundle.rootfs / passwd).read_text()
    inside(sleeper, f"/{passwd}").write_text("changed")
    assert "root" in (sleeper.bundle.rootfs / passwd).read_text()


def test_a_place_in_an_earlier_mount(sleeper: Container, volume: Path) -> None:
    entries = [
        tmpfs("/t", "ro"),
        tmpfs("/t/in"),
        bind(volume / "file", "/t/in/file"),
        bind(volume, "/t/v", "ro"),
    ]
    add(sleeper, *entries).ok()
    assert "ro" in flags(sleeper, "/t") and "rw" in flags(sleeper, "/t/in")
    assert inside(sleeper, "/t/in/file").read_text() == "of the host"
    remove(sleeper, *entries).ok()
    assert not [point for point in points(sleeper) if point.startswith("/t")]


def test_file_systems_of_the_containers_namespaces(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        kinds = [entry("/p", "proc", "proc"), entry("/q", "mqueue", "mqueue")]
        if os.geteuid() == 0:  # else the test's network namespace is the host's
            kinds.append(entry("/s", "sysfs", "sysfs", "ro"))
        add(container, *kinds).ok()
        processes = [name for name in os.listdir(inside(container, "/p")) if name.isdigit()]
        assert processes == ["1"]  # the container's own, and nobody who has stayed there
        if os.geteuid() == 0:
            assert os.listdir(inside(container, "/s/class/net")) == ["lo"]
        remove(container, *kinds).ok()


@pytest.mark.needs_root
def test_message_queues_are_the_containers(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper().mount("/dev/mqueue", "mqueue", "mqueue")
    with runtime.running(bundle) as container:
        container.says("ready")
        inside(container, "/dev/mqueue/one").touch()
        add(container, entry("/q", "mqueue", "mqueue")).ok()
        assert os.listdir(inside(container, "/q")) == ["one"]


@pytest.mark.needs_root
def test_ids_are_mapped(sleeper: Container, volume: Path) -> None:
    add(sleeper, bind(volume, "/m", "idmap", uidMappings=maps(0, 1000), gidMappings=maps(0, 2000))).ok()
    status = inside(sleeper, "/m/file").stat()
    assert (status.st_uid, status.st_gid) == (1000, 2000)
    assert (volume / "file").stat().st_uid == 0


@pytest.mark.parametrize(
    ("word", "tags"), [("rprivate", set()), ("rshared", {"shared"}), ("unbindable", {"unbindable"})]
)
def test_propagation(sleeper: Container, volume: Path, word: str, tags: set[str]) -> None:
    add(sleeper, bind(volume, "/v", word), tmpfs("/t", word)).ok()
    for point in ("/v", "/t"):
        words = line(sleeper, point)
        found = {tag.partition(":")[0] for tag in words[6 : words.index("-")]}
        assert found - {"master"} == tags


def test_status(runtime: Runtime, volume: Path) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    add(container, bind(volume, "/created")).ok()
    container.start().ok()
    container.says("ready")
    assert "/created" in points(container)
    container.kill("KILL").ok()
    container.stops()
    for what in ("add", "remove"):
        mounts(container, what, tmpfs("/a")).fails("container not running")
    file = volume / "mounts.json"
    file.write_text("[]")
    runtime.verb("mounts", "add", runtime.new_id(), str(file)).fails("does not exist")


@pytest.mark.needs_root
def test_paused(sleeper: Container, volume: Path) -> None:
    sleeper.runtime.verb("pause", sleeper.id).ok()
    add(sleeper, bind(volume, "/a"), entry("/p", "proc", "proc")).ok()
    add(sleeper, tmpfs("/etc", "tmpcopyup")).fails("paused", "resume")
    remove(sleeper, bind(volume, "/a")).ok()
    sleeper.runtime.verb("resume", sleeper.id).ok()
    assert "/p" in points(sleeper) and "/a" not in points(sleeper)


# -- mounts upon and in mounts -----------------------------------------------------------------------------


def test_one_upon_the_other(sleeper: Container, volume: Path) -> None:
    add(sleeper, tmpfs("/a"), bind(volume, "/a")).ok()
    add(sleeper, tmpfs("/a", "size=8k")).ok()
    assert points(sleeper).count("/a") == 3
    remove(sleeper, tmpfs("/a")).ok()
    assert inside(sleeper, "/a/file").exists()
    remove(sleeper, tmpfs("/a"), tmpfs("/a")).ok()
    assert "/a" not in points(sleeper)


def test_with_a_mount_goes_what_is_mounted_in_it(sleeper: Container) -> None:
    add(sleeper, tmpfs("/a"), tmpfs("/a/b"), tmpfs("/ab")).ok()
    remove(sleeper, tmpfs("/a")).ok()
    assert recorded(sleeper) == ["/ab"]


def test_one_in_the_other_in_any_order(sleeper: Container) -> None:
    before = table(sleeper)
    add(sleeper, tmpfs("/a"), tmpfs("/a/b"), tmpfs("/c")).ok()
    remove(sleeper, tmpfs("/c"), tmpfs("/a/b"), tmpfs("/a")).ok()
    assert table(sleeper) == before and recorded(sleeper) == []


def test_a_mount_of_the_configuration_can_be_removed(sleeper: Container) -> None:
    add(sleeper, tmpfs("/dev/shm/in"), tmpfs("/dev/shmem")).ok()
    remove(sleeper, tmpfs("/dev/shm")).ok()
    assert "/dev/shm" not in points(sleeper)
    assert recorded(sleeper) == ["/dev/shmem"]
