"""pause and resume: every process stands and goes on, in the statuses that runc allows, with its words otherwise."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from pyrunc.linux.cgroups.frozen import told
from tests.support import footprint
from tests.support.runtime import Container, Runtime, wait_for

#: Two processes that write, so that a child has to stand, too.
WRITERS = "while :; do echo child; done & while :; do echo first; done"


@pytest.fixture
def writers(runtime: Runtime) -> Iterator[Container]:
    with runtime.running(runtime.bundle().shell(WRITERS)) as container:
        container.says("first")
        container.says("child")
        yield container


def pause(container: Container) -> None:
    container.runtime.verb("pause", container.id).ok()


def resume(container: Container) -> None:
    container.runtime.verb("resume", container.id).ok()


def written(container: Container) -> int:
    return os.fstat(container._out.fileno()).st_size


def goes_on(container: Container, before: int) -> None:
    wait_for(lambda: written(container) > before, say="more output")


def test_all_stand_and_go_on(writers: Container) -> None:
    pid = writers.pid
    for _ in range(2):
        pause(writers)
        before = written(writers)  # at once: `pause` has waited
        assert (writers.status, writers.pid) == ("paused", pid)
        time.sleep(0.2)
        assert written(writers) == before
        resume(writers)
        assert (writers.status, writers.pid) == ("running", pid)
        goes_on(writers, before)


def test_paused_is_in_the_list(writers: Container) -> None:
    pause(writers)
    (line,) = [x for x in writers.runtime.verb("list").ok().out.splitlines() if x.startswith(writers.id)]
    assert " paused " in line


def test_a_created_container(runtime: Runtime) -> None:
    """As runc: it is paused, cannot be started then, and can afterwards."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    pause(container)
    assert container.status == "paused"
    container.start().fails("cannot start a container in the paused state")
    resume(container)
    assert container.status == "created"
    container.start().ok()
    container.says("ready")
    assert container.status == "running"


def test_a_signal_waits_for_resume(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        pause(container)
        container.kill("TERM").ok()
        time.sleep(0.1)
        assert container.status == "paused"
        resume(container)
        container.stops()


def test_sigkill_does_not_wait(writers: Container) -> None:
    pause(writers)
    writers.kill("KILL").ok()
    writers.stops()
    writers.delete().ok()


@pytest.mark.needs_root
@pytest.mark.parametrize("verb", [["pause"], ["kill", "--all", "--signal", "URG"]], ids=["pause", "kill"])
def test_told_to_end_before_they_stand(writers: Container, verb: list[str]) -> None:
    """Without processor time they cannot stop at once. Whoever gave up waiting leaves nothing frozen."""
    words = ["--cpu-period", "1000000", "--cpu-quota", "1000"]
    writers.runtime.verb("update", *words, writers.id).ok()
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    home, version = str(writers.cgroup("" if v2 else "freezer")), 2 if v2 else 1
    for _ in range(10):
        call = writers.runtime.spawn(*verb, writers.id)
        while not told(home, version) and call.process.poll() is None:
            time.sleep(0.0005)
        time.sleep(0.01)
        call.process.send_signal(signal.SIGTERM)
        outcome = call.wait()
        if outcome.status == 0:  # they stood in time
            writers.runtime.verb("resume", writers.id)
            continue
        if verb == ["pause"]:
            outcome.fails("interrupted by SIGTERM")
        assert writers.status == "running"
        return
    raise AssertionError("they always stood in time")


def test_delete_of_a_paused_container(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    pause(container)
    container.delete().fails("that is not stopped: paused")
    assert container.status == "paused"
    container.delete("--force").ok()
    footprint.reap()
    before.assert_unchanged()


def test_twice(writers: Container) -> None:
    verb = writers.runtime.verb
    verb("resume", writers.id).fails("container not paused")
    pause(writers)
    verb("pause", writers.id).fails("container not running", "paused already")
    assert writers.status == "paused"
    resume(writers)
    verb("resume", writers.id).fails("container not paused")
    assert writers.status == "running"


def test_stopped(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().ask("pid"))
    container.create().ok()
    runtime.verb("resume", container.id).fails("container not paused")
    container.start().ok()
    container.stops()
    runtime.verb("pause", container.id).fails("container not running")
    runtime.verb("resume", container.id).fails("container not paused")
    container.delete().ok()
    for verb in ("pause", "resume"):
        runtime.verb(verb, container.id).fails("container does not exist")
        assert "requires exactly 1 argument" in runtime.verb(verb).err


def test_without_a_cgroup(runtime: Runtime) -> None:
    runtime.globals = ["--cgroup-manager", "disabled"]
    with runtime.running(runtime.bundle().sleeper()) as container:
        runtime.verb("pause", container.id).fails("cannot be paused: it has no cgroup")
        assert container.status == "running"
        runtime.verb("resume", container.id).fails("container not paused")


@pytest.mark.needs_root
def test_an_ordinary_user_without_cgroups(runtime: Runtime) -> None:
    """Where nobody has delegated any to him he cannot pause, is told so, and everything goes on."""
    user = runtime.as_user(1000, 1000)
    bundle = user.bundle().sleeper().rootless(1000, 1000)
    with user.running(bundle) as container:
        container.says("ready")
        user.verb("pause", container.id).fails("the container cannot be paused")
        assert container.status == "running"
