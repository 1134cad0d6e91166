"""checkpoint and restore: namespaces of others, an empty one, and a user namespace."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
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


@contextlib.contextmanager
def held(kind: str) -> Iterator[str]:
    """The path of a namespace of this kind, with the process that holds it."""
    holder = subprocess.Popen(["unshare", f"--{kind}", "sleep", "1000"])
    footprint.own_children.add(holder.pid)
    name = {"mount": "mnt", "time": "time_for_children"}.get(kind, kind)
    path = f"/proc/{holder.pid}/ns/{name}"
    try:
        wait_for(lambda: os.readlink(path) != os.readlink(f"/proc/self/ns/{name}"), say=f"a {kind} namespace")
        if kind == "user":
            for ids in ("uid_map", "gid_map"):
                Path(f"/proc/{holder.pid}/{ids}").write_text("0 200000 65536")
        yield path
    finally:
        holder.kill()
        holder.wait()
        footprint.own_children.discard(holder.pid)


@pytest.mark.parametrize(
    ("kind", "why"), [("cgroup", "none to join"), ("mount", "as the host's root"), ("user", "from inside it")]
)
def test_a_joined_namespace_that_no_restore_can_join(
    runtime: Runtime, images: Path, kind: str, why: str
) -> None:
    """Each for a reason of its own; nothing is written, and the container goes on."""
    bundle = runtime.bundle()
    if kind == "user":
        bundle.give_rootfs(200000, 200000)
    with held(kind) as path:
        container = counting(runtime, bundle.namespace(kind, path))
        container.checkpoint(images).fails(f"joined a {kind} namespace cannot be checkpointed", why)
        assert not list(images.iterdir())
        goes_on(container)


def test_a_joined_time_namespace(runtime: Runtime, images: Path) -> None:
    with held("time") as path:
        container = counting(runtime, runtime.bundle().namespace("time", path))
        container.checkpoint(images).ok()
        container.restore(images).ok()
        goes_on(container)
        assert os.readlink(f"/proc/{container.pid}/ns/time") == os.readlink(path)


def test_an_empty_network_namespace(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    container.checkpoint(images, "--empty-ns", "network").ok()
    assert not list(images.glob("netdev-*.img"))
    container.restore(images, "--empty-ns", "network").ok()
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
