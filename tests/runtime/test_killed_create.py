"""A create that is killed, interrupted or hangs: `delete --force` ends and removes all it has made."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.payload import REPOSITORY
from tests.support.runtime import Container, Running, Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.cgroupfs]

MOMENTS = 25

#: pyrunc with a signal to itself right after a function (module, name) has done its work; with the third word,
#: only where its first argument begins like this.
SIGNALLED = """
import importlib, os, sys
sys.path.insert(0, sys.argv[1])
module, name, begin, number, words = *sys.argv[2:5], int(sys.argv[5]), sys.argv[6:]
owner = importlib.import_module(module)
*classes, name = name.split(".")
for each in classes:
    owner = getattr(owner, each)
original = getattr(owner, name)
def signalled(*given, **named):
    result = original(*given, **named)
    if not begin or str(given[0]).startswith(begin):
        os.kill(os.getpid(), number)
    return result
setattr(owner, name, signalled)
from pyrunc.cli.main import main
sys.exit(main(words))
"""
STORE = ("pyrunc.store.store", "Store.create", "")
CGROUP = ("os", "mkdir", "/sys/fs/cgroup/")
SPAWN = ("pyrunc.lifecycle.launch", "spawn", "")


def nested(runtime: Runtime, *without: str) -> tuple[Container, Bundle]:
    """A container with its cgroup two levels below one that is not there yet."""
    bundle = runtime.bundle().sleeper().without_namespace(*without)
    container = runtime.container(bundle)
    bundle.linux["cgroupsPath"] = f"/{container.id}/a/b"
    return container, bundle


def creating(runtime: Runtime, container: Container) -> Running:
    """A `create` that goes on."""
    return runtime.spawn("create", "--bundle", runtime.put(container.bundle, container.id), container.id)


def signalled(runtime: Runtime, container: Container, place: tuple[str, str, str], number: int) -> Running:
    """A `create` that sends itself a signal at `place`."""
    twin = runtime.like()
    twin.command = [sys.executable, "-c", SIGNALLED, str(REPOSITORY), *place, str(number)]
    return creating(twin, container)


def sleeps(seconds: str) -> bool:
    """Whether some descendant of this process is `sleep SECONDS`."""
    for pid in footprint.descendants():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
        except OSError:
            continue
    return False


def test_killed_at_moments_over_its_life(runtime: Runtime) -> None:
    """kill -9 of `create` at moments spread evenly, then `delete --force`: every trace is gone."""
    container, bundle = nested(runtime)
    bundle.hook("createRuntime", "exec sleep 0.02").hook("createContainer", "exec sleep 0.02")
    before = runtime.footprint(bundle)
    started = time.monotonic()
    container.create().ok()
    took = time.monotonic() - started
    container.delete("--force").ok()
    before.assert_unchanged()
    for moment in range(MOMENTS):
        call = creating(runtime, container)
        time.sleep(took * moment / (MOMENTS - 1))
        call.process.send_signal(signal.SIGKILL)
        call.process.wait(10)
        outcome = container.delete("--force").ok()
        assert not outcome.err, f"moment {moment}: {outcome!r}"
        before.assert_unchanged()
        runtime.verb("state", container.id).fails("does not exist")


@pytest.mark.parametrize("init_too", [False, True])
@pytest.mark.parametrize("without", [(), ("pid",)])
def test_killed_while_a_hook_of_the_container_hangs(
    runtime: Runtime, without: tuple[str, ...], init_too: bool
) -> None:
    """Init waits for its hook and hears nothing; without a PID namespace its end does not end the hook."""
    container, bundle = nested(runtime, *without)
    bundle.hook("createContainer", "exec sleep 987.1")
    before = runtime.footprint(bundle)
    call = creating(runtime, container)
    wait_for(lambda: sleeps("987.1"))
    call.process.send_signal(signal.SIGKILL)
    call.process.wait(10)
    if init_too:
        os.kill(container.pid, signal.SIGKILL)
    outcome = container.delete("--force").ok()
    assert not outcome.err, repr(outcome)
    before.assert_unchanged()


@pytest.mark.parametrize("place", [STORE, CGROUP, SPAWN], ids=["claimed", "cgroup made", "init spawned"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signal_right_after_a_thing_is_made(
    runtime: Runtime, place: tuple[str, str, str], number: int
) -> None:
    """Killed, `delete --force` finds it; interrupted, create itself takes it back."""
    container, bundle = nested(runtime)
    before = runtime.footprint(bundle)
    call = signalled(runtime, container, place, number)
    status = call.process.wait(10)
    if number == signal.SIGKILL:
        assert status == -number
        container.delete("--force").ok()
    else:
        call.wait().fails("interrupted by SIG")
    before.assert_unchanged()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_forced_delete_ends_a_create_that_hangs(runtime: Runtime, kind: str) -> None:
    container, bundle = nested(runtime)
    bundle.hook(kind, "exec sleep 987.2")
    before = runtime.footprint(bundle)
    call = creating(runtime, container)
    wait_for(lambda: sleeps("987.2"))
    started = time.monotonic()
    container.delete("--force").ok()
    assert time.monotonic() - started < 5
    call.wait().fails("interrupted by SIGTERM")
    before.assert_unchanged()


@pytest.mark.parametrize("without", [(), ("pid",)])
def test_damaged_record_of_a_running_container(runtime: Runtime, without: tuple[str, ...]) -> None:
    """The saved configuration still tells where its processes are."""
    bundle = runtime.bundle().sleeper().without_namespace(*without)
    bundle.hook("createContainer", "echo this is hook-output")
    container = runtime.container(bundle)
    before = runtime.footprint(bundle)
    container.create().ok()
    container.start().ok()
    state = runtime.root / container.id / "state.json"
    state.write_text(state.read_text()[:40])
    runtime.verb("state", container.id).fails("damaged", "delete --force")
    outcome = container.delete("--force").ok()
    assert "damaged" in outcome.err, repr(outcome)
    before.assert_unchanged()


def test_damaged_record_and_configuration(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    pid = container.pid
    for name in ("state.json", "config.json"):
        (runtime.root / container.id / name).write_text("{")
    outcome = container.delete("--force").ok()
    assert "were not found" in outcome.err, repr(outcome)
    assert not (runtime.root / container.id).exists()
    footprint.end({pid})


def hierarchies_with(path: str) -> list[str]:
    """The hierarchies in which the cgroup `path` exists."""
    return [top for top in footprint.hierarchies() if os.path.isdir(top + path)]


@pytest.mark.parametrize("force", [True, False])
def test_a_cgroup_that_was_there_before_stays(runtime: Runtime, force: bool) -> None:
    """runtime.md "Delete": what create did not make must not be deleted."""
    container, bundle = nested(runtime)
    path = bundle.linux["cgroupsPath"]
    for top in footprint.hierarchies():
        os.makedirs(top + path)
    before = runtime.footprint(bundle)
    container.create().ok()
    container.start().ok()
    container.kill("KILL").ok()
    container.stops()
    container.delete(*["--force"] * force).ok()
    before.assert_unchanged()
    assert hierarchies_with(path) == footprint.hierarchies()


def test_start_of_a_frozen_container(runtime: Runtime) -> None:
    """It is refused at once, and can be started when it is thawed."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    v2 = os.path.isfile("/sys/fs/cgroup/cgroup.controllers")
    name, on, off = ("cgroup.freeze", "1", "0") if v2 else ("freezer.state", "FROZEN", "THAWED")
    switch = Path("/sys/fs/cgroup", "" if v2 else "freezer", container.id, name)
    switch.write_text(on)
    try:
        assert container.status == "paused"
        runtime.verb("start", container.id, timeout=5).fails("cannot start a container in the paused state")
    finally:
        switch.write_text(off)
    assert container.status == "created"
    container.start().ok()


def test_record_names_what_is_going_to_be_made(runtime: Runtime) -> None:
    """Saved before the first cgroup, the record lists all of them; saved again, it has init's pid."""
    container, bundle = nested(runtime)
    call = signalled(runtime, container, CGROUP, signal.SIGKILL)
    call.process.wait(10)
    record = json.loads((runtime.root / container.id / "state.json").read_text())
    path = bundle.linux["cgroupsPath"]
    wanted = {top + each for top in footprint.hierarchies() for each in (path, path[:-2], path[:-4])}
    assert set(record["cgroup"]["made"]) == wanted and record["pid"] == 0
    container.delete("--force").ok()
    bundle.hook("createRuntime", "exec sleep 987.3")
    call = creating(runtime, container)
    wait_for(lambda: sleeps("987.3"))
    assert runtime.state_of(container.id)["pid"] > 0
    container.delete("--force").ok()
    call.wait().fails("interrupted")
