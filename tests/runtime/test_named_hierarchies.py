"""Named hierarchies of cgroup v1 (`mount -t cgroup -o none,name=x`): a container has its cgroup in each, too.

The hierarchy of a test is mounted in a mount namespace of its own, from which the runtime is called: others on this
host see it in /proc/self/cgroup alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import tree
from tests.support import criu as tool
from tests.support import footprint
from tests.support.checkpointed import counting, goes_on
from tests.support.limits import only_v1
from tests.support.runtime import Runtime, wait_for

pytestmark = [only_v1, pytest.mark.needs_root, pytest.mark.cgroupfs]
MOUNT = 'mountpoint -q "$1" || mount -t cgroup -o none,name="$2" none "$1"'


class Named:
    """A hierarchy of this `name`, mounted on `point` where `runtime` is called; `seen`: that from here."""

    def __init__(self, name: str, point: Path, runtime: Runtime, holder: int) -> None:
        self.name = name
        self.point = point
        self.seen = Path(f"/proc/{holder}/root{point}")
        self.runtime = runtime.like()
        self.runtime.prefix = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", "--"]

    def call(self, script: str) -> None:
        """Run a script there, with the mount point and the name."""
        words = [*self.runtime.prefix, "sh", "-c", script, "sh", str(self.point), self.name]
        subprocess.run(words, check=True, timeout=60)

    def gone(self) -> bool:
        """Empty and unmount it, and tell whether that was its end: it is not where a cgroup in it is still dying."""
        self.call(MOUNT)  # without a mount nobody could empty it
        for inside in [entry for entry in self.seen.iterdir() if entry.is_dir()]:
            with contextlib.suppress(ProcessLookupError, PyruncError):
                for pid in tree.pids(str(inside)) if inside.name.startswith(self.name) else ():
                    os.kill(pid, signal.SIGKILL)
                tree.remove(str(inside))
        footprint.reap()  # a zombie still holds the cgroup that it was in
        self.call('umount "$1"')
        for _ in range(50):
            if f":name={self.name}:" not in Path("/proc/self/cgroup").read_text():
                return True
            time.sleep(0.01)
        return False

    def own(self, text: str) -> str:
        """The cgroup in this hierarchy, of the text of /proc/PID/cgroup."""
        (line,) = [line for line in text.splitlines() if f":name={self.name}:" in line]
        return line.split(":", 2)[2]


@pytest.fixture
def named(runtime: Runtime, folder: Path) -> Iterator[Named]:
    """A hierarchy that is gone afterwards, with whatever was in it."""
    point = folder / "named"
    point.mkdir()
    words = ["unshare", "--mount", "--propagation", "private", "sleep", "1000"]
    mine = os.readlink("/proc/self/ns/mnt")
    with tool.undisturbed(), subprocess.Popen(words) as holder:
        try:
            wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/mnt") != mine)
            wait_for(lambda: Path(f"/proc/{holder.pid}/comm").read_text() == "sleep\n")
            found = Named(runtime.tag, point, runtime, holder.pid)
            try:
                found.call(MOUNT)
                yield found
            finally:
                wait_for(found.gone, 60, "the end of the hierarchy")
        finally:
            holder.kill()


def test_from_create_to_delete(named: Named) -> None:
    bundle = named.runtime.bundle().sleeper()
    with named.runtime.running(bundle) as container:
        inside = named.seen / container.cgroup_name
        assert named.own(Path(f"/proc/{container.pid}/cgroup").read_text()) == f"/{inside.name}"
        assert (inside / "tasks").read_text() == f"{container.pid}\n"
        saved = json.loads((named.runtime.root / container.id / "state.json").read_text())
        path = f"{named.point}/{inside.name}"
        assert [path, str(named.point), [f"name={named.name}"]] in saved["cgroup"]["homes"]
        assert path in saved["cgroup"]["made"]
        asked = "read /proc/self/cgroup"
        assert named.own(container.asks(asked)[asked]) == f"/{inside.name}"
        container.delete("--force").ok()
        assert not inside.exists()


def test_one_that_cannot_be_written_to_is_left_alone(named: Named) -> None:
    """As an engine within a container may find it."""
    named.call('mount -o remount,bind,ro "$1"')
    with named.runtime.running(named.runtime.bundle().sleeper()) as container:
        assert named.own(Path(f"/proc/{container.pid}/cgroup").read_text()) == "/"
    named.call('mount -o remount,bind,rw "$1"')


def test_a_create_that_fails_leaves_nothing(named: Named) -> None:
    bundle = named.runtime.bundle()
    bundle.process["args"] = ["/no/such/program"]
    container = named.runtime.container(bundle)
    container.create().fails("no/such/program")
    assert [entry.name for entry in named.seen.iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize("namespaces", [(), ("cgroup",)], ids=["host", "own"])
def test_a_cgroup_mount_shows_it(named: Named, namespaces: tuple[str, ...]) -> None:
    bundle = named.runtime.bundle().without_mount("/sys/fs/cgroup")
    for kind in namespaces:
        bundle.namespace(kind)
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    tasks = f"read /sys/fs/cgroup/{named.name}/tasks"
    said = named.runtime.ask(bundle, "ls /sys/fs/cgroup", tasks)
    assert {named.name, "systemd", "memory"} <= set(said["ls /sys/fs/cgroup"])
    assert said[tasks] == "1\n"


def test_mounted_nowhere_it_is_left_alone(named: Named, runtime: Runtime) -> None:
    """As whoever lists hierarchies sees it who is in another mount namespace."""
    with runtime.running(runtime.bundle().sleeper()) as container:
        assert named.own(Path(f"/proc/{container.pid}/cgroup").read_text()) == "/"


def test_unmounted_meanwhile(named: Named) -> None:
    with named.runtime.running(named.runtime.bundle().sleeper()) as container:
        named.call('umount "$1"')
        container.exec(["true"]).ok()
        container.delete("--force").ok()


@pytest.mark.parametrize("inside", [True, False], ids=["mounted", "mounted nowhere"])
def test_restore_makes_no_cgroup_of_its_own(
    named: Named, runtime: Runtime, images: Path, inside: bool
) -> None:
    """criu mounts every hierarchy that it finds, and takes a root without a controller for that of all."""
    tool.put_in_path(runtime)  # not the fixture, which would wait for this very hierarchy to go
    caller = named.runtime if inside else runtime
    caller.env["PATH"] = runtime.env["PATH"]
    container = counting(caller, caller.bundle())
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    path = f"/{container.cgroup_name}" if inside else "/"
    assert named.own(Path(f"/proc/{container.pid}/cgroup").read_text()) == path
    container.delete("--force").ok()
    assert not [entry.name for entry in named.seen.iterdir() if entry.name.startswith(runtime.tag)]
