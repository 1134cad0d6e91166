"""Mounts of type cgroup and cgroup2, seen from inside a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.cgroups.layout import layout
from tests.support.interpreter import PROC, SYS, compile_root, config_of, execute, host_of
from tests.support.runtime import Runtime

HOST = layout()
PLACE = "/sys/fs/cgroup"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the cgroups of this host need root")
only_v1 = pytest.mark.skipif(not HOST.v1, reason="this host has no cgroup v1")
only_v2 = pytest.mark.skipif(HOST.v2 is None, reason="this host mounts no cgroup2")


class Seen:
    """The cgroup mounts that a container sees: mount point → (shown root, options, type)."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.mounts: dict[str, tuple[str, str, str]] = {}
        for line in out.splitlines():
            words = line.split()
            if "-" in words and len(words) > 9 and words[4].startswith(PLACE):
                self.mounts[words[4]] = (words[3], words[5], words[words.index("-") + 1])


def look(
    runtime: Runtime,
    kind: str,
    *options: str,
    namespaces: tuple[str, ...] = (),
    script: str = "true",
    **how: Any,
) -> Seen:
    """Run a container with a cgroup mount; `how` goes to `linux`."""
    bundle = runtime.bundle()
    bundle.process["args"] = ["sh", "-c", f"cat /proc/self/mountinfo; {script}"]
    bundle.config["mounts"].append(
        {
            "destination": PLACE,
            "type": kind,
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", *options],
        }
    )
    bundle.linux["namespaces"] += [{"type": name} for name in namespaces]
    bundle.linux.update(how)
    if "user" in namespaces:
        bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
        bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    return Seen(runtime.run(bundle).ok().out)


def v1_names() -> set[str]:
    return {",".join(hierarchy.controllers).removeprefix("name=") for hierarchy in HOST.v1}


@only_v1
@pytest.mark.parametrize("namespaces", [(), ("cgroup",), ("cgroup", "user")])
def test_v1_shows_the_own_subtree_of_each_hierarchy(runtime: Runtime, namespaces: tuple[str, ...]) -> None:
    path = f"/{runtime.tag}-seen"
    seen = look(runtime, "cgroup", "ro", namespaces=namespaces, cgroupsPath=path)
    assert set(seen.mounts) == {PLACE, *[f"{PLACE}/{name}" for name in v1_names()]}
    root, options, kind = seen.mounts.pop(PLACE)
    assert kind == "tmpfs"
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options.split(","))
    for root, options, kind in seen.mounts.values():
        assert kind == "cgroup"
        assert root == ("/" if "cgroup" in namespaces else path)
        assert {"ro", "nosuid", "noexec", "nodev"} <= set(options.split(","))


@only_v1
def test_v1_read_only_is_read_only(runtime: Runtime) -> None:
    script = f"mkdir {PLACE}/pids/x 2>&1; mkdir {PLACE}/x 2>&1; echo 1 2>&1 > {PLACE}/pids/cgroup.procs; true"
    assert look(runtime, "cgroup", "ro", script=script).out.count("Read-only file system") >= 2


@only_v1
def test_v1_writable_is_writable(runtime: Runtime) -> None:
    script = f"mkdir {PLACE}/pids/inner && echo 0 > {PLACE}/pids/inner/cgroup.procs && cat /proc/self/cgroup"
    seen = look(runtime, "cgroup", namespaces=("cgroup",), script=script)
    assert ":pids:/inner" in seen.out


@pytest.mark.skipif(not HOST.pure_v2, reason="this host has cgroup v1")
@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_v2_without_a_namespace_shows_the_hierarchy(runtime: Runtime, kind: str) -> None:
    path = f"/{runtime.tag}-seen"
    seen = look(runtime, kind, "ro", script=f"ls -d {PLACE}{path}", cgroupsPath=path)
    ((root, options, found),) = seen.mounts.values()
    assert (root, found) == ("/", "cgroup2")
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options.split(","))
    assert seen.out.endswith(f"{PLACE}{path}\n")


@pytest.mark.skipif(not HOST.pure_v2, reason="this host has cgroup v1")
def test_v2_writable_is_writable(runtime: Runtime) -> None:
    script = f"mkdir {PLACE}/inner && echo 0 > {PLACE}/inner/cgroup.procs && cat /proc/self/cgroup"
    seen = look(runtime, "cgroup", namespaces=("cgroup",), script=script)
    assert seen.out.endswith("0::/inner\n")


@only_v2
def test_v2_with_a_namespace_of_its_own(runtime: Runtime) -> None:
    seen = look(runtime, "cgroup2", "ro", namespaces=("cgroup",))
    ((root, options, kind),) = seen.mounts.values()
    assert (root, kind) == ("/", "cgroup2")
    assert "ro" in options.split(",")


@only_v2
def test_v2_where_it_cannot_be_mounted_shows_the_own_subtree(runtime: Runtime) -> None:
    # A user namespace does not own the cgroup namespace of the host.
    path = f"/{runtime.tag}-seen"
    seen = look(runtime, "cgroup2", "ro", namespaces=("user",), cgroupsPath=path)
    ((root, options, kind),) = seen.mounts.values()
    assert (root, kind) == (path, "cgroup2")
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options.split(","))


def test_v1_links_controllers_that_share_a_hierarchy(bundle: Path) -> None:
    """Whatever this host has: any directories may stand for the container's cgroups."""
    for name in ("both", "own", "named"):
        (bundle / name).mkdir()
        (bundle / name / "tasks").write_text(f"{name}\n")
    mount = {"destination": PLACE, "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    config = config_of(PROC, SYS, mount)
    host = host_of(config, bundle)
    both, own = str(bundle / "both"), str(bundle / "own")
    host.cgroups = {"cpu": both, "cpuacct": both, "pids": own, "name=systemd": str(bundle / "named")}
    script = (
        f"cd {PLACE}; /bin/busybox ls; for n in cpu cpuacct; do readlink $n; cat $n/tasks; done; cat */tasks"
    )
    outcome = execute(config, compile_root(config, host, script))
    assert outcome.failure == ""
    assert outcome.lines[:5] == ["cpu", "cpu,cpuacct", "cpuacct", "pids", "systemd"]
    assert "cpu,cpuacct\nboth\ncpu,cpuacct\nboth\n" in outcome.output


def rootless(runtime: Runtime, kind: str, script: str, *namespaces: str) -> Seen:
    """As `look`, for an ordinary user without a cgroup of its own."""
    bundle = runtime.bundle().rootless(1000, 1000).give_rootfs(1000, 1000)
    bundle.mount(PLACE, kind, "cgroup", "nosuid", "noexec", "nodev")
    for name in namespaces:
        bundle.namespace(name)
    bundle.shell(f"cat /proc/self/mountinfo; {script}")
    return Seen(runtime.as_user(1000, 1000).run(bundle).ok().out)


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_rootless_without_a_cgroup_namespace_the_hosts_cgroups_are_not_shown(
    runtime: Runtime, kind: str
) -> None:
    """CVE-2023-25809: a writable view of the host's cgroups, through the bind-mounted /sys."""
    script = f"echo mark; ls -A {PLACE}; cat {PLACE}/*/tasks {PLACE}/cgroup.procs; mkdir {PLACE}/x; ls {PLACE}/memory"
    seen = rootless(runtime, kind, f"({script}) 2>&1; true")
    last = [line for line in seen.out.splitlines() if f" {PLACE} " in line][-1]
    assert " - tmpfs tmpfs " in last
    shown = seen.out.partition("mark\n")[2]
    assert "No such file or directory" in shown and not any(line.isdecimal() for line in shown.splitlines())
    if kind == "cgroup2":
        assert shown.startswith("cat: ") and "Read-only file system" in shown


@only_v2
def test_rootless_with_a_cgroup_namespace_its_root_is_the_own_cgroup(runtime: Runtime) -> None:
    seen = rootless(runtime, "cgroup2", "true", "cgroup")
    # The mount below, a part of the host's /sys, is not shown any more.
    root, options, kind = seen.mounts[PLACE]
    assert (root, kind) == ("/", "cgroup2") and {"nosuid", "noexec", "nodev"} <= set(options.split(","))
