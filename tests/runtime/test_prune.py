"""`prune`: what it finds, what it removes, and what it must never touch, whoever calls."""

from __future__ import annotations

import os
import signal
import time

from tests.runtime.test_killed_create import creating, sleeps
from tests.support.pruning import actions, prune
from tests.support.runtime import Runtime, wait_for


def test_nothing(runtime: Runtime) -> None:
    assert runtime.verb("prune").ok().out.split() == ["KIND", "ID", "ACTION", "PATH", "REASON"]
    assert prune(runtime) == []
    assert not runtime.root.exists()
    runtime.verb("prune", "--format", "xml").fails("invalid format option")


def test_the_init_of_a_killed_create_that_waits_for_a_hook(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper().without_namespace("pid").hook("createContainer", "exec sleep 987.5")
    container = runtime.container(bundle)
    before = runtime.footprint(bundle)
    call = creating(runtime, container)
    wait_for(lambda: sleeps("987.5"))
    assert prune(runtime, "--remove") == []  # its creator lives
    assert sleeps("987.5")
    call.process.send_signal(signal.SIGKILL)
    call.process.wait(20)
    assert actions(prune(runtime, "--remove")) == {("state", container.id, "removed")}
    before.assert_unchanged()


def test_containers_are_left_alone(runtime: Runtime) -> None:
    """In every status; with --stopped one that has stopped goes."""
    made = {}
    for status in ("created", "running", "paused", "stopped"):
        made[status] = container = runtime.container(runtime.bundle().sleeper())
        container.create().ok()
        if status != "created":
            container.start().ok()
        if status == "paused":
            runtime.verb("pause", container.id).ok()
        if status == "stopped":
            container.kill("KILL").ok()
            container.stops()
    assert prune(runtime, "--remove") == []
    assert actions(prune(runtime, "--stopped")) == {("state", made["stopped"].id, "remove")}
    assert {status: container.status for status, container in made.items()} == {x: x for x in made}
    assert actions(prune(runtime, "--stopped", "--remove")) == {("state", made["stopped"].id, "removed")}
    assert set(runtime.verb("list", "-q").ok().out.split()) == {
        container.id for status, container in made.items() if status != "stopped"
    }
    runtime.verb("resume", made["paused"].id).ok()


def test_a_directory_without_a_record(runtime: Runtime) -> None:
    """`create` may just have made it, or was killed then; or it is somebody's."""
    fresh, old, foreign = (runtime.root / runtime.new_id() for _ in range(3))
    runtime.root.mkdir()
    for path in (fresh, old, foreign):
        path.mkdir(mode=0o700)
    (foreign / "letter").write_text("dear")
    for path in (old, foreign):
        os.utime(path, (time.time() - 60,) * 2)
    assert actions(prune(runtime, "--remove")) == {("state", old.name, "removed")}
    assert not old.exists() and fresh.exists() and (foreign / "letter").exists()


def test_a_name_that_no_container_can_have(runtime: Runtime) -> None:
    path = runtime.root / "my dir"
    path.mkdir(parents=True)
    assert prune(runtime, "--remove") == [] and path.exists()


def test_a_record_that_cannot_be_read(runtime: Runtime) -> None:
    """It is told, and kept."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    path = runtime.root / container.id / "state.json"
    path.rename(path.with_name("away"))
    path.mkdir()
    (entry,) = prune(runtime, "--remove")
    assert entry["action"] == "keep" and "not a regular file" in entry["reason"]
    path.rmdir()
    path.with_name("away").rename(path)
    assert container.status == "created"


def test_a_damaged_record_is_for_a_person_to_judge(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    path = runtime.root / container.id / "state.json"
    whole = path.read_text()
    path.write_text(whole[:20])
    (entry,) = prune(runtime, "--remove")
    assert entry["action"] == "keep" and "damaged" in entry["reason"]
    path.write_text(whole)
    assert container.status == "created"
