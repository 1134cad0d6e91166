"""cgroup v1 on the hierarchies of this host: cgroups are made, entered, frozen, killed and removed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import files, tree
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
from tests.support.cgroup_v1 import HOST, NEEDS_V1, SLEEP, below_cgroups, held
from tests.support.cgroups import enter

pytestmark = NEEDS_V1


def test_layout_is_that_of_mountinfo() -> None:
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] in ("cgroup", "cgroup2"):
            mounts[words[4]] = words[-1]
    for hierarchy in HOST.v1:
        assert set(hierarchy.controllers) <= set(mounts[hierarchy.mount].split(","))
    assert len(HOST.v1) == len([mount for mount in mounts if mount != "/sys/fs/cgroup/unified"])


def test_a_layout_elsewhere_is_found_in_mountinfo(folder: Path) -> None:
    # Nothing is mounted at the conventional places below this folder.
    assert {h.mount for h in layout(str(folder)).v1} == {h.mount for h in HOST.v1}


def test_no_delegation(top: str) -> None:
    """config-linux.md "Cgroup ownership": not on cgroup v1, where that is not secure."""
    linux = {
        "cgroupsPath": f"{top}/box",
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        "namespaces": [{"type": "cgroup"}],
    }
    mounts = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
    config: Any = {"linux": linux, "mounts": mounts, "process": {"user": {"uid": 5, "gid": 0}}}
    manager = choose(config, "id", HOST, rootless=False)
    manager.create()
    try:
        for path in manager.paths().values():
            assert {os.stat(f"{path}/{name}").st_uid for name in (".", *os.listdir(path))} == {0}
    finally:
        manager.remove()


def test_join_and_pids_in_every_hierarchy(
    make: Callable[..., Any], top: str, start: Callable[..., Any]
) -> None:
    manager = make()
    process = start(manager, *SLEEP)
    assert manager.pids() == [process.pid]
    lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    v1 = [line for line in lines if not line.startswith("0::")]
    assert all(line.endswith(f":{top}/box") for line in v1), lines
    if HOST.v2:
        assert lines[-1] == f"0::{top}/box"


def test_a_process_enters_by_itself(make: Callable[..., Any], top: str) -> None:
    from pyrunc.plan.program import Program

    manager = make()
    program = Program()
    manager.plan_entry(program)
    entrances = manager.entrances()
    assert set(entrances) == set(program.slots)
    pid = os.fork()
    if pid == 0:
        for descriptor in entrances.values():
            os.write(descriptor, b"0")
        signal.pause()
        os._exit(0)
    for descriptor in entrances.values():
        os.close(descriptor)
    until = time.monotonic() + 5
    while manager.pids() != [pid] and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.01)
    text = Path(f"/proc/{pid}/cgroup").read_text()
    assert text.count(f":{top}/box\n") == len(HOST.v1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_freeze_and_thaw(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make()
    process = start(manager, "/bin/sh", "-c", "while :; do :; done")
    assert not manager.frozen()
    manager.freeze()
    assert manager.frozen()

    def used() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().split()[13]

    before = used()
    time.sleep(0.1)
    assert used() == before
    manager.thaw()
    assert not manager.frozen()


@pytest.mark.parametrize("paused", [False, True])
def test_kill_and_remove_with_cgroups_inside(make: Callable[..., Any], top: str, paused: bool) -> None:
    manager = make()
    outer = subprocess.Popen(SLEEP)
    inner = subprocess.Popen(SLEEP)
    try:
        enter(manager, outer.pid)
        for path in set(manager.paths().values()):
            os.makedirs(f"{path}/a/b")
        for name in ("cpus", "mems"):
            for part in ("a", "a/b"):
                value = held(manager, "cpuset", f"cpuset.{name}")
                files.write(manager.paths()["cpuset"] + f"/{part}", f"cpuset.{name}", value)
        for path in set(manager.paths().values()):
            files.write(f"{path}/a/b", "cgroup.procs", str(inner.pid))
        assert sorted(manager.pids()) == sorted([outer.pid, inner.pid])
        if paused:
            manager.freeze()
        manager.kill()
        manager.remove()
        assert below_cgroups(f"{top}/box") == []
        assert below_cgroups(top) == [], "the parents made for it are gone too"
    finally:
        for process in (outer, inner):
            process.kill() if process.poll() is None else None
            assert process.wait() == -signal.SIGKILL


def test_remove_says_what_keeps_it(
    make: Callable[..., Any], start: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(tree, "TRIES", 3)
    manager = make()
    process = start(manager, *SLEEP)
    with pytest.raises(
        KernelError, match=rf"device or resource busy .*such as {process.pid}: kill them first"
    ):
        manager.remove()


def test_remove_of_what_is_gone_is_fine(make: Callable[..., Any]) -> None:
    manager = make()
    manager.remove()
    manager.remove()
    manager.kill()
    assert manager.pids() == []
    assert not manager.frozen()
    assert manager.oom_kills() == 0


def test_a_used_cgroup_is_refused_and_left_alone(
    make: Callable[..., Any], top: str, start: Callable[..., Any]
) -> None:
    first = make()
    start(first, *SLEEP)
    before = below_cgroups(f"{top}/box")
    with pytest.raises(PyruncError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        make()
    assert below_cgroups(f"{top}/box") == before


def test_a_frozen_cgroup_is_refused(make: Callable[..., Any]) -> None:
    first = make()
    files.write(first.paths()["freezer"], "freezer.state", "FROZEN")
    with pytest.raises(PyruncError, match="container's cgroup unexpectedly frozen"):
        make()
    first.thaw()


def test_undo_removes_what_was_made_and_nothing_else(top: str) -> None:
    os.mkdir(f"/sys/fs/cgroup/pids{top}")
    os.mkdir(f"/sys/fs/cgroup/pids{top}/box")
    manager = choose({"linux": {"cgroupsPath": f"{top}/box"}}, "id", HOST, rootless=False)  # type: ignore[typeddict-item]
    manager.create()
    manager.remove()
    assert below_cgroups(top) == [f"/sys/fs/cgroup/pids{top}"]
    assert os.path.isdir(f"/sys/fs/cgroup/pids{top}/box")


def test_oom_kill_is_counted(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"memory": {"limit": 8 << 20, "swap": 8 << 20}})
    assert manager.oom_kills() == 0
    process = start(manager, "/usr/bin/python3", "-c", "x = b'x' * (64 << 20)")
    assert process.wait() == -signal.SIGKILL
    assert manager.oom_kills() >= 1


def as_user(action: Callable[[], None]) -> str:
    """Run `action` in a child of uid 65534; the text of its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            action()
            os.write(writer, b"done")
        except PyruncError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


def test_rootless_goes_without_only_if_nothing_is_asked(top: str) -> None:
    def attempt(config: Any) -> Callable[[], None]:
        def action() -> None:
            manager = choose(config, f"pyrunc-test-{os.getpid()}", HOST, rootless=True)
            manager.create()
            manager.apply(config["linux"].get("resources", {}))
            assert manager.paths() == {}
            assert manager.entrances() == {}

        return action

    assert as_user(attempt({"linux": {"resources": {"pids": {"limit": -1}}}})) == "done"
    for linux in ({"resources": {"pids": {"limit": 5}}}, {"cgroupsPath": top}):
        text = as_user(attempt({"linux": linux}))
        assert text.startswith("make cgroup /sys/fs/cgroup/")
        assert "permission denied" in text
        assert "delegated" in text
