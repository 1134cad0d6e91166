"""exec: the process is in the container's namespaces, whoever calls and whatever is first there."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.exec import in_same_namespaces, started
from tests.support.runtime import Runtime

UID = GID = 1000


@pytest.mark.needs_root
@pytest.mark.parametrize("kinds", [("user",), ("user", "cgroup", "time"), ("cgroup", "time"), ()])
def test_new_namespaces(runtime: Runtime, kinds: tuple[str, ...]) -> None:
    bundle = runtime.bundle()
    for kind in kinds:
        if kind == "user":
            bundle.map_ids().give_rootfs(200000, 200000)
        else:
            bundle.namespace(kind)
    container = started(runtime, bundle)
    found = in_same_namespaces(container)
    for kind in kinds:
        assert found[kind] != os.readlink(f"/proc/self/ns/{kind}")
    said = container.asks("ids", "caps", "write /tmp/x y", flags=["--user", "5:6"])
    assert said["ids"]["uid"] == [5] * 3
    made = (container.bundle.rootfs / "tmp" / "x").stat()
    assert made.st_uid == (200005 if "user" in kinds else 5)


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_without_a_namespace_of_its_own(runtime: Runtime, kind: str) -> None:
    """That one is the runtime's. Without a PID namespace there is a single stage."""
    container = started(runtime, runtime.bundle().without_namespace(kind))
    name = {"network": "net"}.get(kind, kind)
    assert in_same_namespaces(container)[name] == os.readlink(f"/proc/self/ns/{name}")
    detached = runtime.folder / "pid"
    container.exec(["sleep", "1000"], "-d", "--pid-file", str(detached)).ok()
    pid = int(detached.read_text())
    assert os.getsid(pid) == pid
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)  # it has outlived the runtime


@pytest.mark.needs_root
def test_joined_namespaces(runtime: Runtime) -> None:
    """Those of another container, by path, as in a pod."""
    first = started(runtime, runtime.bundle().map_ids().give_rootfs(200000, 200000))
    bundle = runtime.bundle()
    bundle.linux["namespaces"] = [{"type": "mount"}, {"type": "uts"}]
    bundle.give_rootfs(200000, 200000)
    for kind, name in (("user", "user"), ("network", "net"), ("ipc", "ipc"), ("pid", "pid")):
        bundle.namespace(kind, f"/proc/{first.pid}/ns/{name}")
    in_same_namespaces(started(runtime, bundle))


@pytest.mark.needs_root
def test_clocks_of_a_time_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    container = started(runtime, bundle)
    in_same_namespaces(container)
    uptime = float(container.exec(["cat", "/proc/uptime"]).ok().out.split()[0])
    assert uptime > 1_000_000


@pytest.mark.needs_root
def test_without_a_mount_namespace(runtime: Runtime) -> None:
    """The root is the container's all the same, not the host's."""
    bundle = runtime.bundle()
    bundle.config["mounts"] = []
    bundle.without_namespace("mount")
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(name)
    container = started(runtime, bundle)
    assert sorted(container.asks("ls /")["ls /"]) == sorted(os.listdir(bundle.rootfs))
    assert container.asks("cwd", flags=["--cwd", "/tmp"])["cwd"] == "/tmp"


@pytest.mark.needs_root
def test_a_first_program_that_cannot_be_read(runtime: Runtime) -> None:
    """It is not dumpable then, and everything about it in /proc is the host's root's."""
    bundle = runtime.bundle()
    (bundle.rootfs / "bin" / "testify").chmod(0o711)
    bundle.process["user"] = {"uid": UID, "gid": GID}
    container = started(runtime, bundle)
    assert container.asks("ids")["ids"]["uid"] == [UID] * 3


@pytest.mark.needs_root
def test_an_ordinary_user(runtime: Runtime) -> None:
    user = runtime.as_user(47110, 47110)
    bundle = user.bundle().rootless(47110, 47110).give_rootfs(47110, 47110)
    bundle.process["oomScoreAdj"] = 500
    container = started(user, bundle)
    in_same_namespaces(container)
    said = container.asks("ids", "read /proc/self/oom_score_adj", "env", "fds")
    assert said["ids"]["uid"] == [0] * 3
    assert said["read /proc/self/oom_score_adj"].strip() == "500"
    assert "HOME=/root" in said["env"]
    assert sorted(said["fds"]) == ["0", "1", "2"]
    container.exec(["no-such"]).fails("executable file not found")


def test_start_that_hangs_is_not_in_the_way(runtime: Runtime) -> None:
    """It holds the container's lock; exec takes none."""
    bundle = runtime.bundle().sleeper()
    bundle.hook("poststart", f"while [ ! -e {runtime.folder}/go ]; do sleep 0.1; done")
    container = runtime.container(bundle)
    container.create().ok()
    starting = runtime.spawn("start", container.id)
    container.says("ready")
    assert container.asks("pid")["pid"] > 1
    (runtime.folder / "go").touch()
    starting.wait().ok()
