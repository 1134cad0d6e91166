"""checkpoint and restore: namespaces of others, an empty one, and a user namespace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.checkpointed import counting, goes_on, mounted
from tests.support.netns import NetworkNamespace
from tests.support.runtime import Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def test_a_joined_network_namespace(runtime: Runtime, images: Path) -> None:
    """It is outside of the images: the restored container joins the one that its bundle names, with what is in it."""
    first, second = NetworkNamespace(), NetworkNamespace()
    try:
        bundle = runtime.bundle().namespace("network", first.path)
        container = counting(runtime, bundle)
        container.checkpoint(images).ok()
        second.ip("link", "add", "veth-test", "type", "veth")
        bundle.namespace("network", second.path)
        container.restore(images).ok()
        goes_on(container)
        assert os.stat(f"/proc/{container.pid}/ns/net").st_ino == os.stat(second.path).st_ino
        assert "veth-test" in second.names()
    finally:
        first.end()
        second.end()


def test_a_pod(runtime: Runtime, images: Path) -> None:
    """Namespaces of another container: process ids, host name, IPC and network."""
    # Its first process collects the orphans: as long as one is there, the number of its session is in use.
    with runtime.running(runtime.bundle().shell("while :; do sleep 0.1; done")) as first:
        bundle = runtime.bundle()
        for kind, name in (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("network", "net")):
            bundle.namespace(kind, f"/proc/{first.pid}/ns/{name}")
        bundle.config.pop("hostname")
        container = counting(runtime, bundle)
        container.checkpoint(images).ok()
        assert first.status == "running"
        footprint.reap()
        wait_for(lambda: not [pid for pid in footprint.descendants() if "Z" in footprint.stat_of(pid)[1]])  # type: ignore[index]
        container.restore(images).ok()
        goes_on(container)
        for name in ("pid", "ipc", "uts", "net"):
            assert os.readlink(f"/proc/{container.pid}/ns/{name}") == os.readlink(
                f"/proc/{first.pid}/ns/{name}"
            )
        container.kill("KILL").ok()
        container.stops()
        container.delete().ok()


def test_a_joined_namespace_that_criu_cannot_join(runtime: Runtime, images: Path) -> None:
    with runtime.running(runtime.bundle().sleeper()) as first:
        container = counting(runtime, runtime.bundle().namespace("cgroup", f"/proc/{first.pid}/ns/cgroup"))
        container.checkpoint(images).fails("cgroup namespace", "cannot be checkpointed")
        goes_on(container)


def test_an_empty_network_namespace(runtime: Runtime, images: Path) -> None:
    flags = ["--empty-ns", "network", "--tcp-established", "--tcp-skip-in-flight", "--network-lock", "skip"]
    container = counting(runtime)
    container.checkpoint(images, *flags, "--link-remap", "--ext-unix-sk", "--file-locks").ok()
    assert not list(images.glob("netdev-*.img"))
    container.restore(images, "--empty-ns", "network", "--tcp-close", "--ext-unix-sk", "--file-locks").ok()
    goes_on(container)
    lines = Path(f"/proc/{container.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines if "lo:" not in line] in ([], ["tunl0"], ["sit0"])


def test_a_user_namespace(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000)
    container = counting(runtime, bundle)
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert Path(f"/proc/{container.pid}/uid_map").read_text().split() == ["0", "200000", "65536"]
    assert os.stat(f"/proc/{container.pid}").st_uid == 200000
    assert mounted(container.pid) == before
