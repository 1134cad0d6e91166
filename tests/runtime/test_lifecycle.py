"""The state machine of runtime.md, "Lifecycle" and "Operations": what is allowed when, and no effect otherwise."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support import footprint
from tests.support.runtime import Container, Runtime, wait_for


def test_from_create_to_delete(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    assert container.status == "created"
    assert container.out == ""  # the program does not run yet
    container.start().ok()
    container.says("ready")
    assert container.status == "running"
    container.kill("TERM").ok()
    container.stops()
    assert container.state()["pid"] == 0
    container.delete().ok()
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()


def test_program_runs_only_after_start(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().ask("write /ran yes"))
    container.create().ok()
    assert not (container.bundle.rootfs / "ran").exists()
    container.start().ok()
    wait_for((container.bundle.rootfs / "ran").exists)


def test_config_is_read_once(runtime: Runtime) -> None:
    """A change of config.json after create has no effect."""
    container = runtime.container(runtime.bundle().ask("uname"))
    container.create().ok()
    container.bundle.config["hostname"] = "other"
    container.bundle.ask("pid").write()
    container.start().ok()
    container.stops()
    assert container.testimony["uname"]["hostname"] == "inside"


def make(runtime: Runtime, status: str) -> Container:
    """A container in this status."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    if status != "created":
        container.start().ok()
        container.says("ready")
    if status == "stopped":
        container.kill("KILL").ok()
        container.stops()
    assert container.status == status
    return container


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete"])
def test_unknown_id(runtime: Runtime, verb: str) -> None:
    before = runtime.footprint()
    assert runtime.verb(verb, runtime.new_id()).fails("does not exist").status == 1
    before.assert_unchanged()


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "create", "run"])
def test_no_id(runtime: Runtime, verb: str) -> None:
    outcome = runtime.verb(verb)
    assert outcome.status == 1
    assert "requires" in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("verb", ["create", "run"])
@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_id_in_use(runtime: Runtime, verb: str, status: str) -> None:
    container = make(runtime, status)
    before = runtime.footprint(container.bundle)
    place = runtime.put(container.bundle, container.id)
    runtime.verb(verb, "--bundle", place, container.id).fails("already exists")
    assert container.status == status
    before.assert_unchanged()


def test_start_of_running(runtime: Runtime) -> None:
    container = make(runtime, "running")
    pid = container.pid
    container.start().fails("cannot start", "running")
    assert (container.status, container.pid) == ("running", pid)


def test_start_of_stopped(runtime: Runtime) -> None:
    container = make(runtime, "stopped")
    container.start().fails("cannot start", "stopped")
    assert container.status == "stopped"
    assert container.out.count("ready") == 1


def test_kill_of_stopped(runtime: Runtime) -> None:
    container = make(runtime, "stopped")
    container.kill("TERM").fails("container not running")
    assert container.status == "stopped"


def test_kill_all_of_stopped_is_no_error(runtime: Runtime) -> None:
    make(runtime, "stopped").kill("--all", "KILL").ok()


def test_kill_of_created(runtime: Runtime) -> None:
    """Allowed by the specification; the process has not yet handlers of its own."""
    container = make(runtime, "created")
    container.kill("KILL").ok()
    container.stops()
    container.start().fails("cannot start", "stopped")
    container.delete().ok()


def test_delete_of_running(runtime: Runtime) -> None:
    container = make(runtime, "running")
    before = runtime.footprint(container.bundle)
    container.delete().fails("cannot delete container", container.id, "not stopped", "running")
    before.assert_unchanged()
    assert container.status == "running"


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_delete_force(runtime: Runtime, status: str) -> None:
    before = runtime.footprint()
    container = make(runtime, status)
    before.skip = (container.bundle.path,)
    container.delete("--force").ok()
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()


def test_delete_of_created(runtime: Runtime) -> None:
    """As runc, crun and youki: a created container is killed first."""
    container = make(runtime, "created")
    pid = container.pid
    container.delete().ok()
    assert (entry := footprint.stat_of(pid)) is None or entry[1] == "Z"


def test_delete_force_of_unknown_id(runtime: Runtime) -> None:
    runtime.verb("delete", "--force", runtime.new_id()).ok()


def test_delete_twice(runtime: Runtime) -> None:
    container = make(runtime, "stopped")
    container.delete().ok()
    container.delete().fails("does not exist")


def test_id_can_be_used_again(runtime: Runtime) -> None:
    container = make(runtime, "stopped")
    container.delete().ok()
    container.create().ok()
    assert container.status == "created"


@pytest.mark.parametrize("word", ["TERM", "SIGTERM", "15", "term"])
def test_names_of_signals(runtime: Runtime, word: str) -> None:
    with runtime.running(runtime.bundle().ask("signals")) as container:
        container.says("ready")
        container.kill(word).ok()
        container.says('"answer":15')


def test_default_signal_is_term(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().ask("signals")) as container:
        container.says("ready")
        container.kill().ok()
        container.says('"answer":15')


@pytest.mark.parametrize("number", [1, 2, 10, 12, 28, 34, 64])
def test_any_signal(runtime: Runtime, number: int) -> None:
    with runtime.running(runtime.bundle().ask("signals")) as container:
        container.says("ready")
        container.kill(str(number)).ok()
        container.says(f'"answer":{number}')


@pytest.mark.parametrize("word", ["NOSUCH", "SIGNOSUCH", "99", "-1"])
def test_unknown_signal(runtime: Runtime, word: str) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        container.kill("--", word).fails()
        assert container.status == "running"


def test_kill_reaches_all_without_a_pid_namespace(runtime: Runtime) -> None:
    """Without a PID namespace of its own, KILL goes to every process of the cgroup."""
    bundle = runtime.bundle().without_namespace("pid").ask("orphan", "sleep")
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("ready")
    orphan = container.testimony["orphan"]
    assert footprint.stat_of(orphan) is not None
    container.kill("KILL").ok()
    container.stops()
    wait_for(lambda: (entry := footprint.stat_of(orphan)) is None or entry[1] == "Z", say="the orphan's end")
    container.delete().ok()
    before.assert_unchanged()


def test_delete_ends_what_was_left(runtime: Runtime) -> None:
    """The first process is gone, another of its cgroup is not: delete leaves none."""
    bundle = runtime.bundle().without_namespace("pid").ask("orphan", "exit 0")
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.stops()
    container.delete().ok()
    before.assert_unchanged()


def test_a_wrong_start_time_is_another_process(runtime: Runtime) -> None:
    """A pid that was used again for another process is not taken for the container's."""
    container = make(runtime, "running")
    pid = container.pid
    record = runtime.root / container.id / "state.json"
    started = footprint.stat_of(pid)
    assert started is not None
    text = record.read_text()
    assert str(started[3]) in text
    record.write_text(text.replace(str(started[3]), str(started[3] - 1)))
    assert container.status == "stopped"
    container.kill("KILL").fails("container not running")
    assert footprint.stat_of(pid) is not None, "a stranger was killed"
    container.delete("--force")
    os.kill(pid, signal.SIGKILL) if footprint.stat_of(pid) else None


def test_zombie_is_stopped(runtime: Runtime) -> None:
    """A process that nobody has reaped yet does not run any more."""
    container = make(runtime, "running")
    os.kill(container.pid, signal.SIGKILL)
    container.stops()


def test_death_between_create_and_start(runtime: Runtime) -> None:
    container = make(runtime, "created")
    os.kill(container.pid, signal.SIGKILL)
    container.stops()
    container.start().fails("cannot start", "stopped")
    container.delete().ok()


def test_waiting_init_dies_not_with_its_creator(runtime: Runtime) -> None:
    """The runtime ends after create; the container stays, whoever its parent is."""
    container = make(runtime, "created")
    entry = footprint.stat_of(container.pid)
    assert entry is not None and entry[1] in "SD"


def test_stdio_is_released(runtime: Runtime) -> None:
    """When the container is gone nobody holds its stdout open: the caller sees the end of the pipe."""
    reader, writer = os.pipe()
    container = runtime.container(runtime.bundle().ask("pid"))
    with os.fdopen(writer, "wb") as out:
        twin = runtime.into(out, out)
        place = runtime.put(container.bundle, container.id)
        going = twin.spawn("create", "--bundle", place, container.id)
        assert going.process.wait(20) == 0
    container.start().ok()
    text = b""
    os.set_blocking(reader, False)

    def ended() -> bool:
        nonlocal text
        try:
            more = os.read(reader, 65536)
        except BlockingIOError:
            return False
        text += more
        return not more

    wait_for(ended, say="the end of the pipe")
    os.close(reader)
    assert text == b'{"ask":"pid","answer":1}\n'


def test_state_directory_survives_nothing_else(runtime: Runtime) -> None:
    """The record is valid JSON at every moment a reader may look (it is replaced, never rewritten)."""
    container = make(runtime, "created")
    records = list((runtime.root / container.id).glob("*.json"))
    assert records
    for record in records:
        json.loads(record.read_text())
