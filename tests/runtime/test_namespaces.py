"""Namespaces: new, joined, inherited (config-linux.md "Namespaces")."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

FILES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}


def own(kind: str) -> str:
    """The namespace of the tests themselves."""
    return os.readlink(f"/proc/self/ns/{FILES[kind]}")


def everything(bundle: Bundle) -> Bundle:
    """All eight namespaces new."""
    for kind in ("cgroup", "time"):
        bundle.namespace(kind)
    return bundle.map_ids()


def test_all_new(runtime: Runtime) -> None:
    said = runtime.ask(everything(runtime.bundle()), "namespaces", "pid", "ids")
    for kind, file in FILES.items():
        assert said["namespaces"][file] != own(kind), kind
    assert said["pid"] == 1 and said["ids"]["uid"] == [0, 0, 0]


def test_not_listed_is_inherited(runtime: Runtime) -> None:
    bundle = runtime.bundle().without_namespace("pid", "network", "ipc", "uts").without_mount("/sys")
    seen = runtime.ask(bundle, "namespaces")["namespaces"]
    for kind in ("pid", "network", "ipc", "uts", "user", "cgroup", "time"):
        assert seen[FILES[kind]] == own(kind), kind
    assert seen["mnt"] != own("mount")


@pytest.mark.parametrize("kind", list(FILES))
def test_each_alone(runtime: Runtime, kind: str) -> None:
    bundle = runtime.bundle().without_namespace("pid", "network", "ipc", "uts").without_mount("/sys")
    if kind == "user":
        # the kernel mounts a new procfs only for who owns the PID namespace
        bundle.map_ids().without_mount("/proc").mount("/proc", "none", "/proc", "rbind", first=True)
        bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    else:
        bundle.namespace(kind)
    seen = runtime.ask(bundle, "namespaces")["namespaces"]
    for other in FILES:
        assert (seen[FILES[other]] == own(other)) == (other not in (kind, "mount")), other


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "time", "pid"])
def test_joined(runtime: Runtime, kind: str) -> None:
    first = runtime.bundle().sleeper()
    first.namespace(kind)
    with runtime.running(first) as container:
        path = f"/proc/{container.pid}/ns/{FILES[kind]}"
        bundle = runtime.bundle().namespace(kind, path)
        if kind == "uts":
            del bundle.config["hostname"]
        said = runtime.ask(bundle, "namespaces", "pid", "uname")
        assert said["namespaces"][FILES[kind]] == os.readlink(path)
        if kind == "pid":
            assert said["pid"] > 1
        if kind == "uts":
            assert said["uname"]["hostname"] == "inside"


def test_joined_user_namespace(runtime: Runtime) -> None:
    """The second lives with the ids and the rights of the first."""
    first = everything(runtime.bundle()).sleeper()
    with runtime.running(first) as container:
        bundle = runtime.bundle().namespace("user", f"/proc/{container.pid}/ns/user")
        said = runtime.ask(bundle, "namespaces", "ids", "read /proc/self/uid_map", "uname")
        assert said["namespaces"]["user"] == os.readlink(f"/proc/{container.pid}/ns/user")
        assert said["ids"]["uid"] == [0, 0, 0]
        assert said["read /proc/self/uid_map"].split() == ["0", "200000", "65536"]
        assert said["uname"]["hostname"] == "inside"


def test_joined_user_namespace_with_equal_mappings(runtime: Runtime) -> None:
    """containerd and CRI-O pass the path and the mappings of what is there."""
    with runtime.running(everything(runtime.bundle()).sleeper()) as container:
        path = f"/proc/{container.pid}/ns/user"
        bundle = runtime.bundle().map_ids().namespace("user", path)
        assert runtime.ask(bundle, "namespaces")["namespaces"]["user"] == os.readlink(path)


def test_pod_of_two(runtime: Runtime) -> None:
    """Two containers share network, ipc, uts and pid with the first, each with its own root."""
    first = runtime.bundle().sleeper()
    with runtime.running(first) as pause:
        shared = ("network", "ipc", "uts", "pid")
        bundle = runtime.bundle()
        del bundle.config["hostname"]
        for kind in shared:
            bundle.namespace(kind, f"/proc/{pause.pid}/ns/{FILES[kind]}")
        (bundle.rootfs / "mine").write_text("second")
        said = runtime.ask(bundle, "namespaces", "read /mine", "ls /proc", "access /bin/testify")
        for kind in shared:
            assert said["namespaces"][FILES[kind]] == os.readlink(f"/proc/{pause.pid}/ns/{FILES[kind]}")
        assert said["read /mine"] == "second"
        assert "1" in said["ls /proc"]  # the first's process
        assert pause.status == "running"
        with runtime.running(bundle.sleeper()) as second:
            second.says("ready")
            second.kill("KILL").ok()
            second.stops()
        assert pause.status == "running"


def test_joined_by_a_bind_mounted_file(runtime: Runtime, folder: Path) -> None:
    """As `ip netns` keeps them. The mount lives in a mount namespace of its own here."""
    twin = runtime.like()
    (folder / "net").touch()
    script = (
        f'unshare --net sh -c "mount --bind /proc/self/ns/net {folder}/net"; readlink /proc/self/ns/net; "$@"'
    )
    # `unshare --net` changes only its own process, whose /proc/self/ns/net is bound before it ends
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    bundle = runtime.bundle().namespace("network", str(folder / "net"))
    said = twin.run(bundle.ask("namespaces")).ok().testimony
    assert said["namespaces"]["net"] != own("network")


def test_joined_mount_namespace(runtime: Runtime) -> None:
    """A process may join an existing mount namespace; its root is still the bundle's."""
    keeper = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "60"])
    try:
        while os.readlink(f"/proc/{keeper.pid}/ns/mnt") == own("mount"):
            pass
        bundle = runtime.bundle().namespace("mount", f"/proc/{keeper.pid}/ns/mnt")
        said = runtime.ask(bundle, "namespaces", "access /bin/testify")
        assert said["namespaces"]["mnt"] == os.readlink(f"/proc/{keeper.pid}/ns/mnt")
    finally:
        keeper.kill()
        keeper.wait()


def test_loopback_is_up_in_a_new_network_namespace(runtime: Runtime) -> None:
    said = runtime.ask(runtime.bundle(), "read /sys/class/net/lo/flags", "ls /sys/class/net")
    assert int(said["read /sys/class/net/lo/flags"], 16) & 1
    assert said["ls /sys/class/net"] == ["lo"]


def bad(change: str, bundle: Bundle, folder: Path) -> tuple[str, ...]:
    """Spoil the namespaces; gives words of the message."""
    entries = bundle.linux["namespaces"]
    if change == "unknown":
        entries.append({"type": "space"})
        return ("namespaces", "space")
    if change == "twice":
        entries.append({"type": "pid"})
        return ("namespace", "pid")
    if change == "other-type":
        bundle.namespace("network", "/proc/self/ns/uts")
        return ("net", "/proc/self/ns/uts")
    if change == "no-namespace":
        (folder / "file").touch()
        bundle.namespace("network", str(folder / "file"))
        return ("net", str(folder / "file"))
    if change == "missing":
        bundle.namespace("ipc", "/proc/self/ns/nosuch")
        return ("/proc/self/ns/nosuch", "no such file or directory")
    if change == "relative":
        bundle.namespace("ipc", "proc/self/ns/ipc")
        return ("namespaces", "path")
    if change == "mapping-without-user":
        bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
        return ("user",)
    if change == "user-without-mapping":
        bundle.namespace("user")
        return ("mapping",)
    if change == "offsets-without-time":
        bundle.linux["timeOffsets"] = {"boottime": {"secs": 1}}
        return ("time",)
    if change == "offset-of-a-second":
        bundle.namespace("time")
        bundle.linux["timeOffsets"] = {"boottime": {"nanosecs": 10**9}}
        return ("linux.timeOffsets.boottime.nanosecs", "1000000000")
    if change == "offset-too-large":
        bundle.namespace("time")
        bundle.linux["timeOffsets"] = {"boottime": {"secs": 2**62}}
        return ("clocks of the time namespace", "numerical result out of range")
    if change == "offsets-with-path":
        bundle.namespace("time", "/proc/self/ns/time")
        bundle.linux["timeOffsets"] = {"boottime": {"secs": 1}}
        return ("time",)
    raise ValueError(change)


@pytest.mark.parametrize(
    "change",
    [
        "unknown",
        "twice",
        "other-type",
        "no-namespace",
        "missing",
        "relative",
        "mapping-without-user",
        "user-without-mapping",
        "offsets-without-time",
        "offsets-with-path",
        "offset-of-a-second",
        "offset-too-large",
    ],
)
def test_bad_namespaces(runtime: Runtime, folder: Path, change: str) -> None:
    bundle = runtime.bundle()
    words = bad(change, bundle, folder)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(*words)
    before.assert_unchanged()


@pytest.mark.parametrize("mapped", [False, True], ids=["host-ids", "mapped"])
def test_time_offsets(runtime: Runtime, mapped: bool) -> None:
    bundle = runtime.bundle().namespace("time")
    if mapped:
        bundle.map_ids()
    bundle.linux["timeOffsets"] = {
        "monotonic": {"secs": 172800, "nanosecs": 7},
        "boottime": {"secs": 864000, "nanosecs": 999_999_999},
    }
    said = runtime.ask(bundle, "read /proc/uptime", "read /proc/self/timens_offsets")
    with open("/proc/uptime") as file:
        here = float(file.read().split()[0])
    assert 863991 < float(said["read /proc/uptime"].split()[0]) - here < 864061
    assert offsets(said["read /proc/self/timens_offsets"]) == [
        ["monotonic", "172800", "7"],
        ["boottime", "864000", "999999999"],
    ]


@pytest.mark.parametrize("clock", ["monotonic", "boottime"])
def test_nanoseconds_alone(runtime: Runtime, clock: str) -> None:
    bundle = runtime.bundle().namespace("time")
    bundle.linux["timeOffsets"] = {clock: {"nanosecs": 5}}
    said = runtime.ask(bundle, "read /proc/self/timens_offsets")["read /proc/self/timens_offsets"]
    assert offsets(said) == [[name, "0", "5" if name == clock else "0"] for name in ("monotonic", "boottime")]


def offsets(text: str) -> list[list[str]]:
    """Clock, seconds and nanoseconds of every line of timens_offsets."""
    return [line.split() for line in text.splitlines()]
