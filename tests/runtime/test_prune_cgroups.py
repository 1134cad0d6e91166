"""`prune` and cgroups: those of lost containers go, and those of others never."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pyrunc.lifecycle.prune import leftovers, remove
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.systemd import systemd
from pyrunc.linux.cgroups.systemd.systemd import Systemd
from pyrunc.log import Log
from pyrunc.store.store import Store
from tests.runtime.test_killed_create import CGROUP, SPAWN, nested, signalled
from tests.support import footprint
from tests.support.pruning import actions, prune
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.cgroupfs]

MARK = "trusted.pyrunc"


@pytest.mark.parametrize("place", [CGROUP, SPAWN], ids=["cgroup made", "init spawned"])
def test_a_killed_create(runtime: Runtime, place: tuple[str, str, str]) -> None:
    """Listed and left; removed on demand, with all that it had made."""
    container, bundle = nested(runtime)
    before = runtime.footprint(bundle)
    assert signalled(runtime, container, place, signal.SIGKILL).process.wait(20) == -9
    for _ in range(2):
        (entry,) = prune(runtime)
        assert (entry["kind"], entry["id"], entry["action"]) == ("state", container.id, "remove")
        assert entry["paths"] == [str(runtime.root / container.id)] and "was killed" in entry["reason"]
    row = runtime.verb("prune").ok().out.splitlines()[1].split()
    assert row[:4] == ["state", container.id, "remove", str(runtime.root / container.id)]
    assert actions(prune(runtime, "--remove")) == {("state", container.id, "removed")}
    assert prune(runtime) == []
    before.assert_unchanged()


def orphan(runtime: Runtime, path: str = "") -> Container:
    """A stopped container whose state directory somebody has removed."""
    container = runtime.container(runtime.bundle().sleeper())
    if path:
        container.bundle.linux["cgroupsPath"] = path.format(id=container.id)
    container.create().ok()
    container.kill("KILL").ok()
    container.stops()
    shutil.rmtree(runtime.root / container.id)
    return container


def test_a_cgroup_whose_container_is_lost(runtime: Runtime) -> None:
    before = runtime.footprint()
    container = orphan(runtime, "/{id}/above/it")
    before.skip = (container.bundle.path,)
    assert footprint.cgroups(runtime.tag)
    found = prune(runtime)
    assert {(entry["kind"], entry["id"]) for entry in found} == {("cgroup", container.id)}
    listed = {path for entry in found for path in entry["paths"]}
    assert listed == {os.path.realpath(path) for path in footprint.cgroups(runtime.tag)}
    assert {entry["action"] for entry in prune(runtime, "--remove")} == {"removed"}
    assert not footprint.cgroups(runtime.tag) and prune(runtime) == []
    assert not (runtime.root / container.id).exists()
    before.assert_unchanged()


def test_a_lost_container_that_runs(runtime: Runtime) -> None:
    """Nobody knows it any more, but its processes live: it is shown, and kept."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    container.start().ok()
    pid = container.pid
    shutil.move(runtime.root / container.id, runtime.folder / "elsewhere")
    (entry,) = prune(runtime, "--remove")
    assert entry["action"] == "keep" and f"such as {pid}" in entry["reason"]
    shutil.move(runtime.folder / "elsewhere", runtime.root / container.id)
    assert container.status == "running"


def test_a_parent_that_others_have_come_into(runtime: Runtime) -> None:
    shared = f"/{runtime.tag}-shared"
    lost = orphan(runtime, f"{shared}/{{id}}")
    other = runtime.container(runtime.bundle().sleeper())
    other.bundle.linux["cgroupsPath"] = f"{shared}/{other.id}"
    other.create().ok()
    found = prune(runtime, "--remove")
    assert {entry["action"] for entry in found} == {"removed"}
    assert all(path.endswith(f"{shared}/{lost.id}") for entry in found for path in entry["paths"])
    assert other.status == "created"
    other.delete("--force").ok()
    assert {path.rpartition("/")[2] for entry in prune(runtime, "--remove") for path in entry["paths"]} == {
        shared[1:]
    }
    assert not footprint.cgroups(runtime.tag)


def test_a_cgroup_that_another_container_has_come_to(runtime: Runtime) -> None:
    """Its mark tells of the lost one, its use of the other: that one's record names it."""
    lost = orphan(runtime, "/{id}")
    other = runtime.container(runtime.bundle().sleeper())
    other.bundle.linux["cgroupsPath"] = f"/{lost.id}"
    other.create().ok()
    other.kill("KILL").ok()
    other.stops()
    assert prune(runtime, "--remove") == []
    assert footprint.cgroups(runtime.tag)


def test_cgroups_of_others(runtime: Runtime) -> None:
    """Without a mark, or with that of another store: not ours, whatever the name."""
    lost = orphan(runtime)
    other = runtime.like()
    other.root = runtime.folder / "other"
    assert prune(other, "--remove") == []
    for path in footprint.cgroups(runtime.tag):
        os.removexattr(path, MARK)
    assert prune(runtime, "--remove") == []
    assert any(lost.id in path for path in footprint.cgroups(runtime.tag))


def marked(runtime: Runtime, mark: str, name: str = "") -> Path:
    """An empty cgroup with this mark, where {} is the root and {device} its device."""
    runtime.root.mkdir()
    path = Path(unified(), runtime.new_id(), name)
    path.mkdir(parents=True)
    words = mark.replace("{device}", str(runtime.root.stat().st_dev)).replace("{}", str(runtime.root))
    os.setxattr(path, MARK, os.fsencode(words))
    return path


def unified() -> str:
    """Where cgroup v2 is mounted."""
    hierarchy = layout().v2
    if hierarchy is None:
        pytest.skip("this host has no cgroup v2")
    return hierarchy.mount


@pytest.mark.parametrize(
    "mark",
    [
        "",
        "home",
        "home {device} ",
        "home {device} /",
        "no-role {device} {}/lost",
        "home {}/lost",
        "home  {}/lost",
        "home {device} {}/..",
        "home {device} {}/a b",
        "\udcff" * 5000,
    ],
)
def test_a_mark_that_is_none(runtime: Runtime, mark: str) -> None:
    path = marked(runtime, mark)
    assert prune(runtime, "--remove") == []
    assert path.is_dir()


def test_the_mark_of_another_root_with_the_same_path(runtime: Runtime) -> None:
    """As of a pyrunc in a container, which has a file system of its own there."""
    runtime.root.mkdir()
    inner = runtime.like()
    inner.prefix = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f'mount -t tmpfs tmpfs {runtime.root}; exec "$@"',
        "sh",
    ]
    container = inner.container(inner.bundle().sleeper())
    container.create().ok()
    assert footprint.cgroups(runtime.tag)
    assert prune(runtime) == []


def test_the_unit_of_a_mark(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup may have the name of a unit whose it is not: that one is not stopped."""
    stopped = []

    class Told(Systemd):
        """`cgroup`: what it says of every unit."""

        cgroup = "/elsewhere.slice/some.scope"

        def cgroup_of(self, unit: str) -> str:
            return self.cgroup

        def stop(self, unit: str) -> None:
            stopped.append(unit)

    monkeypatch.setattr(systemd, "Systemd", Told)
    store, log = Store(str(runtime.root)), Log(str(runtime.folder / "log"))
    path = marked(runtime, "unit {device} {}/lost", "some.scope")
    assert remove(store, leftovers(store), False, log) == []
    assert stopped == [] and not path.exists()
    path.mkdir()
    os.setxattr(path, MARK, f"unit {runtime.root.stat().st_dev} {runtime.root}/lost".encode())
    Told.cgroup = str(path).removeprefix(unified())
    assert remove(store, leftovers(store), False, log) == []
    assert stopped == ["some.scope"]


@pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="this host is not run by systemd")
def test_the_unit_of_a_mark_with_systemd(runtime: Runtime) -> None:
    unit = f"{runtime.new_id()}.scope"
    with subprocess.Popen(["systemd-run", "--scope", "--unit", unit, "sleep", "1000"]) as process:
        try:
            active = ["systemctl", "is-active", "--quiet", unit]
            wait_for(lambda: subprocess.run(active).returncode == 0, say="the start of the scope")
            path = marked(runtime, "unit {device} {}/lost", unit)
            assert actions(prune(runtime, "--remove")) == {("cgroup", "lost", "removed")}
            assert not path.exists() and subprocess.run(active).returncode == 0
        finally:
            process.kill()


def test_what_is_mounted_in_a_leftover(runtime: Runtime) -> None:
    container, _ = nested(runtime)
    signalled(runtime, container, SPAWN, signal.SIGKILL).process.wait(20)
    point, precious = runtime.root / container.id / "criu-root", runtime.folder / "precious"
    for path in (point, precious):
        path.mkdir()
    (precious / "file").write_text("dear")
    subprocess.run(["mount", "--bind", precious, point], check=True)
    assert actions(prune(runtime)) == {("state", container.id, "remove"), ("mount", container.id, "remove")}
    assert {entry["action"] for entry in prune(runtime, "--remove")} == {"removed"}
    assert not point.exists() and (precious / "file").read_text() == "dear"


def test_a_mistaken_root(runtime: Runtime) -> None:
    """An empty directory that others may look into, or that is another user's, was not made by `create`."""
    shared, other = runtime.root / runtime.new_id(), runtime.root / runtime.new_id()
    runtime.root.mkdir()
    shared.mkdir(mode=0o755)
    other.mkdir(mode=0o700)
    os.chown(other, 12345, -1)
    for path in (shared, other):
        os.utime(path, (time.time() - 60,) * 2)
    assert prune(runtime, "--remove") == []
    assert shared.exists() and other.exists()


@pytest.mark.parametrize("verb", ["prune", "delete", "delete --force", "kill --all --signal KILL", "kill"])
def test_a_cgroup_of_a_stopped_container_that_another_has_by_now(runtime: Runtime, verb: str) -> None:
    """No PID namespace ends the processes of such a container, so its cgroup is emptied; not of the other's."""
    stopped, bundle = nested(runtime, "pid")
    stopped.create().ok()
    stopped.kill("KILL").ok()
    stopped.stops()
    other = runtime.container(runtime.bundle().sleeper())
    other.bundle.linux["cgroupsPath"] = bundle.linux["cgroupsPath"]
    wait_for(lambda: other.create().status == 0, say="the end of all in the cgroup")
    if verb == "prune":
        assert actions(prune(runtime, "--stopped", "--remove")) == {("state", stopped.id, "removed")}
    elif verb == "kill":
        runtime.verb("kill", stopped.id, "KILL").fails("not running")
    else:
        runtime.verb(*verb.split(), stopped.id).ok()
    assert other.status == "created"
    other.delete("--force").ok()


def test_an_id_that_is_used_again_before_it_is_removed(runtime: Runtime) -> None:
    """What was a leftover when it was looked at is a container when it is to be removed."""
    store, log = Store(str(runtime.root)), Log(str(runtime.folder / "log"))
    lost = orphan(runtime)
    half, _ = nested(runtime)
    signalled(runtime, half, SPAWN, signal.SIGKILL).process.wait(20)
    found = leftovers(store)
    assert {entry.id for entry in found} == {lost.id, half.id}
    half.delete("--force").ok()
    for container in (lost, half):
        container.create().ok()
    assert remove(store, found, False, log) == []
    assert {entry.action for entry in found} == {"keep"}
    assert [container.status for container in (lost, half)] == ["created"] * 2


def test_what_cannot_be_removed_is_told(runtime: Runtime) -> None:
    """The others are removed all the same; exit status 1."""
    lost = orphan(runtime)
    half = runtime.root / runtime.new_id()
    half.mkdir(mode=0o700)
    os.utime(half, (time.time() - 60,) * 2)
    subprocess.run(["mount", "--bind", half, half], check=True)
    try:
        outcome = runtime.verb("prune", "--remove", "--format", "json")
        assert outcome.status == 1 and "device or resource busy" in outcome.err
        found = json.loads(outcome.out)
        assert ("state", half.name, "failed") in actions(found)
        assert ("cgroup", lost.id, "removed") in actions(found)
    finally:
        subprocess.run(["umount", half], check=True)


def test_the_mark_is_no_surprise(runtime: Runtime) -> None:
    """On what was there before it is not put; a container's end takes it away with the cgroup."""
    container, bundle = nested(runtime)
    existing = Path(footprint.hierarchies()[0] + bundle.linux["cgroupsPath"]).parent
    existing.mkdir(parents=True)
    container.create().ok()
    home = existing / "b"
    assert (
        os.getxattr(home, MARK).decode() == f"home {runtime.root.stat().st_dev} {runtime.root / container.id}"
    )
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(existing, MARK)
    container.delete("--force").ok()
    assert existing.exists() and not home.exists()
