"""`mounts add` and `mounts remove` in a user namespace: whose the mounts are, and what stays forbidden there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts_verb import (
    add,
    bind,
    entry,
    flags,
    hostile,
    inside,
    maps,
    points,
    recorded,
    remove,
    tmpfs,
)
from tests.support.runtime import Container, Runtime

UID = GID = 1000


@pytest.fixture
def mapped(runtime: Runtime) -> Iterator[Container]:
    """A container in a user namespace, whose process has all rights there."""
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    hostile(bundle, "SYS_ADMIN", "DAC_OVERRIDE")
    script = 'echo ready; while read line; do sh -c "$line" 2>&1 || echo failed; done < /fifo; sleep 1000'
    bundle.shell(script)
    os.mkfifo(bundle.rootfs / "fifo")
    with runtime.running(bundle) as container:
        container.says("ready")
        yield container


@pytest.mark.needs_root
def test_in_a_user_namespace(mapped: Container, volume: Path) -> None:
    entries = [
        bind(volume, "/a", "ro"),
        bind(volume, "/own", "idmap"),
        bind(volume, "/m", uidMappings=maps(0, 300007), gidMappings=maps(0, 300008)),
        tmpfs("/t"),
        entry("/p", "proc", "proc"),
        entry("/s", "sysfs", "sysfs"),
        tmpfs("/etc", "tmpcopyup"),
    ]
    add(mapped, *entries).ok()
    owners = {path: inside(mapped, path).stat().st_uid for path in ("/a/file", "/own/file", "/m/file", "/t")}
    assert owners == {"/a/file": 0, "/own/file": 300000, "/m/file": 300007, "/t": 300000}
    assert inside(mapped, "/etc/passwd").stat().st_uid == 300000
    assert (mapped.bundle.rootfs / "t").stat().st_uid == 300000  # made by the container's root
    remove(mapped, *entries).ok()
    assert recorded(mapped) == []


@pytest.mark.needs_root
def test_a_source_that_only_the_host_may_reach(mapped: Container, folder: Path) -> None:
    source = folder / "closed" / "volume"
    source.mkdir(parents=True)
    source.parent.chmod(0o700)
    add(mapped, bind(source, "/v")).ok()
    assert "/v" in points(mapped)


@pytest.mark.needs_root
def test_what_the_hosts_mount_forbids_stays_forbidden(mapped: Container, volume: Path) -> None:
    """The container's root, with CAP_SYS_ADMIN in its namespace, cannot take it away; its own options it can."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,nosuid,nodev", "t", volume], check=True)
    add(mapped, bind(volume, "/locked"), bind(mapped.bundle.path, "/free", "ro")).ok()
    with open(mapped.bundle.rootfs / "fifo", "w") as commands:
        commands.writelines(
            f"mount -o remount,bind,rw {path} && echo {path} changed\n" for path in ("/locked", "/free")
        )
        commands.write("echo tried\n")
    mapped.says("tried")
    assert "/locked changed" not in mapped.out and "/free changed" in mapped.out
    assert {"ro", "nosuid", "nodev"} <= flags(mapped, "/locked") and "rw" in flags(mapped, "/free")


@pytest.mark.needs_root
def test_rootless(runtime: Runtime, volume: Path) -> None:
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID).sleeper()
    os.chown(bundle.path, UID, GID)
    with runtime.as_user(UID, GID).running(bundle) as container:
        container.says("ready")
        entries = [
            bind(volume, "/a", "ro"),
            tmpfs("/t"),
            entry("/p", "proc", "proc"),
            tmpfs("/etc", "tmpcopyup"),
        ]
        add(container, *entries).ok()
        assert inside(container, "/a/file").read_text() == "of the host"
        assert (bundle.rootfs / "a").stat().st_uid == UID
        mapping = {"uidMappings": maps(0, 5), "gidMappings": maps(0, 5)}
        add(container, bind(volume, "/m", **mapping)).fails("host's root only")
        remove(container, *entries).ok()
        assert "/a" not in points(container)
        add(container, tmpfs("/b"), tmpfs("/bin/busybox/x")).fails("not a directory")
        assert "/b" not in points(container)
