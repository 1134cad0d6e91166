"""`root`: which directory it is, read-only or not, and where in the mount namespace (config.md)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.mountinfo import table
from tests.support.runtime import Runtime


@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_root(runtime: Runtime, readonly: bool) -> None:
    bundle = runtime.bundle()
    bundle.config["root"]["readonly"] = readonly
    said = runtime.ask(bundle, "write /file x", "write /dev/shm/file x", "mounts")
    assert said["write /file x"] == ({"errno": "EROFS"} if readonly else 1)
    assert said["write /dev/shm/file x"] == 1
    assert ("ro" in table(said["mounts"])["/"].options) == readonly


def test_absolute_root(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    elsewhere = runtime.folder / "elsewhere"
    bundle.rootfs.rename(elsewhere)
    bundle.config["root"]["path"] = str(elsewhere)
    assert runtime.ask(bundle, "pid")["pid"] == 1


def test_root_of_any_name(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    name = 'a "b" \\c,d:e ü'
    bundle.rootfs.rename(bundle.path / name)
    bundle.config["root"]["path"] = name
    assert runtime.ask(bundle, "pid")["pid"] == 1


def test_no_pivot(runtime: Runtime) -> None:
    outcome = runtime.run(runtime.bundle().ask("ls /", "mounts"), "--no-pivot")
    said = outcome.ok().testimony
    assert "bin" in said["ls /"] and "area" in said["ls /"]


def test_without_mount_namespace_hosts_files_are_not_reached(runtime: Runtime) -> None:
    """Without a mount namespace there would be mounts on the host: refused, or contained."""
    bundle = runtime.bundle().without_namespace("mount")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("mount")
    before.assert_unchanged()


# -- a joined mount namespace ------------------------------------------------------------------------------


def test_a_joined_mount_namespace_gets_the_containers_root(runtime: Runtime, folder: Path) -> None:
    """As with runc and crun: pivot_root(2) changes the root of all who are in it, and nothing of before is left."""
    script = f"mkdir {folder}/m; mount -t tmpfs marker-of-the-test {folder}/m; echo ready; exec sleep 60"
    around = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    keeper = subprocess.Popen(around, stdout=subprocess.PIPE)
    try:
        assert keeper.stdout
        with keeper.stdout as ready:
            assert ready.readline() == b"ready\n"
        bundle = runtime.bundle().namespace("mount", f"/proc/{keeper.pid}/ns/mnt")
        said = runtime.ask(bundle.mount("/area", "tmpfs", "of-the-container"), "mounts", "ls /", "namespaces")
        assert "marker-of-the-test" not in said["mounts"] and table(said["mounts"])["/area"].type == "tmpfs"
        assert said["namespaces"]["mnt"] == os.readlink(f"/proc/{keeper.pid}/ns/mnt")
        assert sorted(os.listdir(f"/proc/{keeper.pid}/root")) == sorted(said["ls /"])
    finally:
        keeper.kill()
        keeper.wait()


def test_the_hosts_own_mount_namespace_is_not_joined(runtime: Runtime) -> None:
    """The host's root would be exchanged. In a namespace of the test's own, lest it should happen."""
    twin = runtime.like()
    twin.prefix = ["unshare", "--mount", "--propagation", "private"]
    bundle = runtime.bundle().namespace("mount", "/proc/self/ns/mnt")
    twin.run(bundle).fails("linux.namespaces", "own", "leave its path out")
