"""Containers that write to their cgroups, and what they can make of that: they end and are removed all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import unified_flags
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, wait_for

V2 = os.path.isfile("/sys/fs/cgroup/cgroup.controllers")
PLACE = "/sys/fs/cgroup"
pytestmark = pytest.mark.needs_root


def with_cgroups(runtime: Runtime, script: str) -> Bundle:
    """A bundle whose process may write to its cgroups."""
    bundle = runtime.bundle().namespace("cgroup").mount(PLACE, "cgroup", "cgroup")
    return bundle.shell(f"cd {PLACE}; {script}; echo ready; exec sleep 1000")


DEEP = {
    "long": (("a" * 250 + "/") * 10, 4),  # longer than a path may be
    "many": ("a/" * 550, 2),  # more than a stack, or a table of descriptors, may hold
}


@pytest.mark.parametrize("path,count", DEEP.values(), ids=DEEP)
def test_cgroups_nested_deeply(runtime: Runtime, path: str, count: int) -> None:
    dive = f"busybox mkdir -p {path} && cd -P {path} && "
    bundle = with_cgroups(runtime, f"cd pids 2>/dev/null; {dive * count} echo made")
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    wait_for(lambda: "made" in container.out, 60)
    container.delete("--force").ok()
    before.assert_unchanged()


@pytest.mark.skipif(V2, reason="this host has cgroup v2, where a frozen process can be killed")
@pytest.mark.parametrize("verb", ["kill", "delete"])
def test_processes_that_the_container_has_frozen(runtime: Runtime, verb: str) -> None:
    """In cgroup v1 they do not die of SIGKILL, and the first process not without them."""
    script = "mkdir inside; sleep 1000 & echo $! >inside/cgroup.procs; echo FROZEN >inside/freezer.state"
    bundle = with_cgroups(runtime, f"cd freezer; busybox {script}")
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("ready")
    state = container.cgroup("freezer") / "inside" / "freezer.state"
    wait_for(lambda: state.read_text().strip() == "FROZEN")
    if verb == "kill":
        container.kill("KILL").ok()
        wait_for(lambda: container.status == "stopped")
        container.delete().ok()
    else:
        container.delete("--force").ok()
    before.assert_unchanged()


def test_a_cgroup_mount_leaves_the_flags_of_the_host(runtime: Runtime) -> None:
    """Without a cgroup namespace of its own, what a container mounts is the hierarchy of the host itself."""
    before = unified_flags()
    if not before:
        pytest.skip("this host mounts cgroup2 without flags such as nsdelegate, or not at all")
    bundle = runtime.bundle().mount(PLACE, "cgroup2", "cgroup", "ro")
    said = runtime.ask(bundle, "read /proc/self/mountinfo")["read /proc/self/mountinfo"]
    assert f" {PLACE} " in said
    assert unified_flags() == before


def test_flags_are_those_of_the_hierarchy() -> None:
    words = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    shown = [line[-1].split(",") for line in words if "cgroup2" in line]
    assert [*unified_flags()] == [word for word in (shown[0] if shown else []) if word not in ("rw", "ro")]
