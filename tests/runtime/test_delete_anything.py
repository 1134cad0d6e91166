"""`delete --force` on whatever is there, and containers that another version of pyrunc has made."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyrunc.store.record import CORE, LAYOUT
from tests.support import footprint
from tests.support.runtime import Container, Runtime

#: Without a record only its cgroup tells which processes are the container's, and an ordinary user may have none.
pytestmark = pytest.mark.needs_root


def running(runtime: Runtime) -> Container:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    container.start().ok()
    container.says("ready")
    return container


def record_of(container: Container) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path_of(container).read_text())
    return record


def path_of(container: Container) -> Path:
    return container.runtime.root / container.id / "state.json"


DAMAGE: dict[str, Any] = {
    "pid": -1,
    "start_time": 1 << 70,
    "creator": ["a", "b"],
    "texts": [1],
    "hooks": {"poststop": [{"args": ["/bin/true"]}]},
    "cgroup": {},
    "id": "",
    "ready": "yes",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_property_that_nobody_wrote_so(runtime: Runtime, name: str) -> None:
    container = running(runtime)
    before_pid = container.pid
    path_of(container).write_text(json.dumps(record_of(container) | {name: DAMAGE[name]}))
    runtime.verb("state", container.id).fails("damaged")
    container.delete("--force").ok()
    gone(container, before_pid)


@pytest.mark.parametrize("text", ["", "\0" * 100, "[", '{"layout": 1'])
@pytest.mark.parametrize("with_others", [False, True])
def test_a_file_that_is_no_record(runtime: Runtime, text: str, with_others: bool) -> None:
    """Other files in the directory stay only where nothing shows that it is pyrunc's."""
    container = running(runtime)
    pid, folder = container.pid, runtime.root / container.id
    path_of(container).write_text(text)
    if with_others:
        (folder / "letter").write_text("dear")
        if not text.startswith("{"):
            container.delete("--force").fails("it holds other files")
            assert (folder / "letter").read_text() == "dear" and footprint.stat_of(pid)
            (folder / "letter").unlink()
    container.delete("--force").ok()
    gone(container, pid)


def gone(container: Container, pid: int) -> None:
    assert not (container.runtime.root / container.id).exists()
    entry = footprint.stat_of(pid)
    assert entry is None or entry[1] == "Z"
    assert not footprint.cgroups(container.runtime.tag)


def test_other_files_beside_a_sound_record(runtime: Runtime) -> None:
    container = running(runtime)
    pid, folder = container.pid, runtime.root / container.id
    (folder / "letter").write_text("dear")
    (folder / "drawer").mkdir()
    (folder / "drawer" / "letter").write_text("dear")
    container.delete("--force").ok()
    gone(container, pid)


def test_the_state_of_another_runtime_is_left_alone(runtime: Runtime) -> None:
    """Such as with runc's --root: its state.json is an object, but not ours."""
    folder = runtime.root / runtime.new_id()
    folder.mkdir(parents=True)
    text = json.dumps({"id": folder.name, "init_process_pid": 1, "init_process_start": 1, "config": {}})
    (folder / "state.json").write_text(text)
    for words in (["delete", "--force"], ["delete"], ["state"], ["kill"]):
        runtime.verb(*words, folder.name).fails("was not written by pyrunc")
    assert (folder / "state.json").read_text() == text


def test_a_copy_of_a_directory(runtime: Runtime) -> None:
    """Its record and its configuration name the processes and the cgroup of a container that lives."""
    container = running(runtime)
    copy = runtime.new_id()
    shutil.copytree(
        runtime.root / container.id,
        runtime.root / copy,
        ignore=shutil.ignore_patterns("start.sock", "notify"),
    )
    outcome = runtime.verb("delete", "--force", copy).ok()
    assert "it is the record of container" in outcome.err
    assert not (runtime.root / copy).exists()
    assert container.status == "running"


@pytest.mark.parametrize("sound", [True, False])
def test_what_is_mounted_in_the_directory(runtime: Runtime, sound: bool) -> None:
    """It is unmounted; nothing in it is removed."""
    container = running(runtime)
    pid, folder = container.pid, runtime.root / container.id
    point = folder / "criu-root" / "with blank"
    point.mkdir(parents=True)
    precious = runtime.folder / "precious"
    precious.mkdir()
    (precious / "file").write_text("dear")
    for target in (folder / "criu-root", point):
        target.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", precious, target], check=True)
        point.mkdir(exist_ok=True)
    if not sound:
        path_of(container).write_text('{"layout": 1')
    container.delete("--force").ok()
    gone(container, pid)
    assert (precious / "file").read_text() == "dear"
    assert not [mount for mount in footprint.mounts() if str(folder) in mount]


# -- other versions --------------------------------------------------------------------------------------------


@pytest.fixture
def newer(runtime: Runtime) -> Container:
    """A container whose record has a newer layout: what is not promised has other names and forms."""
    container = running(runtime)
    record = record_of(container)
    changed = {name if name in CORE else f"new-{name}": value for name, value in record.items()}
    changed |= {"layout": LAYOUT + 1, "cgroup": ["other", "form"], "hooks": 7}
    path_of(container).write_text(json.dumps(changed))
    return container


def test_what_a_newer_pyrunc_made_is_shown(runtime: Runtime, newer: Container) -> None:
    assert newer.status == "running" and newer.state()["bundle"] == str(newer.bundle.path)
    (entry,) = json.loads(runtime.verb("list", "--format", "json").ok().out)
    assert (entry["id"], entry["pid"], entry["status"]) == (newer.id, newer.pid, "running")


@pytest.mark.parametrize("verb", ["start", "pause", "delete"])
def test_what_needs_more_is_refused(runtime: Runtime, newer: Container, verb: str) -> None:
    text = path_of(newer).read_text()
    runtime.verb(verb, newer.id).fails(f"layout {LAYOUT + 1}", "use the newer pyrunc")
    assert newer.status == "running" and path_of(newer).read_text() == text


def test_what_a_newer_pyrunc_made_is_ended_and_deleted(runtime: Runtime, newer: Container) -> None:
    pid = newer.pid
    newer.kill("KILL").ok()
    newer.stops()
    (runtime.root / newer.id / "something-new").mkdir()
    outcome = newer.delete("--force").ok()
    assert "newer pyrunc" in outcome.err
    gone(newer, pid)


def test_a_newer_one_that_runs_is_deleted(runtime: Runtime, newer: Container) -> None:
    pid = newer.pid
    newer.delete("--force").ok()
    gone(newer, pid)


def test_a_record_of_the_first_version(runtime: Runtime) -> None:
    """What was added since has its default; what is not known here is kept."""
    container = running(runtime)
    first = {*CORE, "cgroup", "hooks", "texts", "texts_from", "pid_namespace_private"}
    record = {name: value for name, value in record_of(container).items() if name in first}
    path_of(container).write_text(json.dumps(record | {"of_another_branch": [1]}))
    assert container.status == "running"
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    assert not footprint.cgroups(runtime.tag)
