"""Several calls at once, and calls that are killed half-way: nothing is lost, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.runtime import Runtime


def test_two_creates_of_one_id(runtime: Runtime) -> None:
    """Exactly one wins; the other leaves no trace."""
    bundles = [runtime.bundle().sleeper() for _ in range(4)]
    id = runtime.new_id()
    places = [runtime.put(bundle, id) for bundle in bundles]
    before = runtime.footprint(*bundles)
    calls = [runtime.spawn("create", "--bundle", place, id) for place in places]
    outcomes = []
    for call in calls:
        status = call.process.wait(20)
        outcomes.append((status, call.err))
    assert sorted(status for status, _ in outcomes) == [0, 1, 1, 1], outcomes
    assert all("exist" in err and err.count("\n") == 1 for status, err in outcomes if status)
    assert runtime.state_of(id)["status"] == "created"
    runtime.verb("start", id).ok()
    runtime.verb("delete", "--force", id).ok()
    before.assert_unchanged()


def test_twenty_runs_at_once(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("pid", "uname")
    before = runtime.footprint(bundle)
    calls = []
    for _ in range(20):
        id = runtime.new_id()
        own = runtime.folder / f"copy-{id}"
        own.mkdir()
        bundle.config["root"]["path"] = str(bundle.rootfs)
        bundle.linux["cgroupsPath"] = runtime.cgroups_path(id)
        place = runtime.put(bundle, id)
        (own / "config.json").write_text(Path(place, "config.json").read_text())
        calls.append(runtime.spawn("run", "--bundle", str(own), id))
    for call in calls:
        assert call.wait(60).ok().testimony["pid"] == 1
    for entry in runtime.folder.glob("copy-*"):
        (entry / "config.json").unlink()
        entry.rmdir()
    before.assert_unchanged()


def test_two_starts_at_once(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().shell("echo started; exec sleep 100"))
    container.create().ok()
    calls = [runtime.spawn("start", container.id) for _ in range(4)]
    statuses = sorted(call.wait().status for call in calls)
    assert statuses == [0, 1, 1, 1]
    container.says("started")
    time.sleep(0.1)
    assert container.out.count("started") == 1


def test_two_deletes_at_once(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().ok()
    calls = [runtime.spawn("delete", "--force", container.id) for _ in range(4)]
    for call in calls:
        outcome = call.wait()
        assert outcome.status == 0 or "does not exist" in outcome.err, repr(outcome)
        assert "Traceback" not in outcome.err
    before.assert_unchanged()


def test_state_while_it_is_being_made(runtime: Runtime) -> None:
    """A reader sees no container, or a whole one with a known status; never a broken record."""
    bundle = runtime.bundle().sleeper()
    container = runtime.container(bundle)
    place = runtime.put(bundle, container.id)
    call = runtime.spawn("create", "--bundle", place, container.id)
    while call.process.poll() is None:
        outcome = runtime.verb("state", container.id)
        if outcome.status:
            outcome.fails("does not exist")
        else:
            assert '"status": "cre' in outcome.out
    assert call.wait().status == 0
    assert container.status == "created"


def length_of_create(runtime: Runtime) -> float:
    """How long a create takes here and now."""
    container = runtime.container(runtime.bundle().sleeper())
    started = time.monotonic()
    container.create().ok()
    took = time.monotonic() - started
    container.delete("--force").ok()
    return took


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("verb", ["create", "run", "start", "delete"])
def test_killed_at_any_moment(runtime: Runtime, verb: str, seed: int) -> None:
    """kill -9 of the runtime, then `delete --force`: every trace is gone."""
    chance = random.Random(seed)
    bundle = runtime.bundle().sleeper()
    bundle.hook("createRuntime", "exec sleep 0.005").hook("createContainer", "exec sleep 0.005")
    took = length_of_create(runtime)
    before = runtime.footprint(bundle)
    for _ in range(5):
        container = runtime.container(bundle)
        place = runtime.put(bundle, container.id)
        words = {"create": ["create", "--bundle", place], "run": ["run", "--detach", "--bundle", place]}.get(
            verb, [verb]
        )
        if verb in ("start", "delete"):
            container.create().ok()
        if verb == "delete":
            words.append("--force")
        call = runtime.spawn(*words, container.id)
        time.sleep(chance.random() * took * 1.3)
        call.process.send_signal(signal.SIGKILL)
        call.process.wait(10)
        container.delete("--force").ok()
        before.assert_unchanged()
        runtime.verb("state", container.id).fails("does not exist")


def test_interrupted_create_cleans_up_by_itself(runtime: Runtime) -> None:
    """SIGTERM and SIGINT are no kill -9: the create that is given up leaves nothing."""
    bundle = runtime.bundle().sleeper().hook("createRuntime", "exec sleep 30")
    before = runtime.footprint(bundle)
    for number in (signal.SIGTERM, signal.SIGINT):
        container = runtime.container(bundle)
        call = runtime.spawn("create", "--bundle", runtime.put(bundle, container.id), container.id)
        time.sleep(0.3)
        call.process.send_signal(number)
        assert call.process.wait(10) != 0
        assert "Traceback" not in call.err
        container.delete("--force").ok()
        before.assert_unchanged()


def test_init_killed_during_create(runtime: Runtime) -> None:
    """The first process dies while the runtime works on it: an error, and nothing left."""
    bundle = runtime.bundle().sleeper()
    bundle.hook(
        "createRuntime",
        "sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -cd 0-9 | xargs kill -9",
        env=["PATH=/usr/bin:/bin"],
    )
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails()
    before.assert_unchanged()


@pytest.mark.needs_root
def test_full_state_directory(runtime: Runtime) -> None:
    """No space for the record: a clear error, nothing left behind."""
    full = runtime.folder / "full"
    full.mkdir()
    twin = runtime.like()
    twin.root = full / "state"
    script = f'mount -t tmpfs -o size=8k tmpfs {full} && dd if=/dev/zero of={full}/fill bs=4k 2>/dev/null; exec "$@"'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    id = runtime.new_id()
    twin.verb("create", "--bundle", twin.put(bundle, id), id).fails("no space left on device")
    before.assert_unchanged()


@pytest.mark.needs_root
def test_readonly_state_directory(runtime: Runtime) -> None:
    twin = runtime.like()
    twin.root = runtime.folder / "readonly" / "state"
    (runtime.folder / "readonly").mkdir()
    script = f'mount -t tmpfs -o ro tmpfs {runtime.folder}/readonly; exec "$@"'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    id = runtime.new_id()
    twin.verb("create", "--bundle", twin.put(bundle, id), id).fails("read-only file system")
    before.assert_unchanged()


def test_left_over_state_directory(runtime: Runtime) -> None:
    """A directory without a record (the runtime was killed very early) is removed by delete --force."""
    id = runtime.new_id()
    os.makedirs(runtime.root / id)
    runtime.verb("delete", "--force", id).ok()
    assert not (runtime.root / id).exists()
