"""`state` and `list`: exact formats, since engines parse them."""

from __future__ import annotations

import json
import os
import pwd
import re
import time
from datetime import datetime

import pytest

from tests.support.runtime import Runtime

RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def test_state_of_created(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper()
    bundle.config["annotations"] = {"org.example.a": "b", "empty": ""}
    container = runtime.container(bundle)
    container.create().ok()
    text = runtime.verb("state", container.id).ok().out
    state = json.loads(text)
    assert text == json.dumps(state, indent=2)  # two blanks, no newline at the end
    assert list(state) == [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "annotations",
        "owner",
    ]
    assert re.fullmatch(r"1\.\d+\.\d+.*", state["ociVersion"])
    assert state["id"] == container.id
    assert os.path.isdir(f"/proc/{state['pid']}")
    assert state["status"] == "created"
    assert state["bundle"] == str(bundle.path)
    assert state["rootfs"] == str(bundle.rootfs)
    assert state["annotations"] == {"org.example.a": "b", "empty": ""}
    assert state["owner"] == ""
    assert RFC3339.match(state["created"])
    made = datetime.strptime(state["created"][:19] + "+0000", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert abs(made - time.time()) < 60


def test_bundle_is_absolute(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    runtime.put(container.bundle, container.id)
    runtime.verb("create", "--bundle", container.bundle.path.name, container.id, cwd=runtime.folder).ok()
    assert container.state()["bundle"] == str(container.bundle.path)


def test_no_annotations(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    assert not container.state().get("annotations")


def test_list_of_nothing(runtime: Runtime) -> None:
    assert runtime.verb("list").ok().out.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert runtime.verb("list", "--format", "json").ok().out.strip() == "null"
    assert runtime.verb("list", "-q").ok().out == ""


def test_list(runtime: Runtime) -> None:
    first = runtime.container(runtime.bundle().sleeper())
    second = runtime.container(runtime.bundle().sleeper())
    first.create().ok()
    second.create().ok()
    second.start().ok()
    entries = {entry["id"]: entry for entry in json.loads(runtime.verb("list", "--format=json").ok().out)}
    assert set(entries) == {first.id, second.id}
    entry = entries[first.id]
    assert list(entry) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
    assert entry["owner"] == pwd.getpwuid(os.geteuid()).pw_name
    assert entry["status"] == "created" and entries[second.id]["status"] == "running"
    assert entry["pid"] == first.pid
    table = runtime.verb("list").ok().out.splitlines()
    assert table[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    rows = {row.split()[0]: row for row in table[1:]}
    assert rows[first.id].split() == [
        first.id,
        str(first.pid),
        "created",
        str(first.bundle.path),
        entry["created"],
        entry["owner"],
    ]
    column = table[0].index("STATUS")
    assert all(row[column - 1] == " " and row[column] != " " for row in table[1:])
    assert sorted(runtime.verb("list", "--quiet").ok().out.splitlines()) == sorted([first.id, second.id])


def test_list_with_another_format(runtime: Runtime) -> None:
    runtime.verb("list", "--format", "xml").fails("invalid format option")


def test_list_goes_on_after_a_broken_entry(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    broken = runtime.root / runtime.new_id()
    broken.mkdir(parents=True)
    for record in (runtime.root / container.id).glob("*.json"):
        (broken / record.name).write_text("{ not JSON")
    outcome = runtime.verb("list", "-q")
    assert outcome.status == 0
    assert outcome.out.split() == [container.id]
    assert broken.name in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_list_shows_status(runtime: Runtime, status: str) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    if status != "created":
        container.start().ok()
    if status == "stopped":
        container.kill("KILL").ok()
        container.stops()
    (entry,) = json.loads(runtime.verb("list", "-f", "json").ok().out)
    assert entry["status"] == status
    assert (entry["pid"] == 0) == (status == "stopped")


def test_roots_are_apart(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    other = runtime.like()
    other.root = runtime.folder / "other-state"
    other.verb("state", container.id).fails("does not exist")
    assert other.verb("list", "-q").ok().out == ""


def test_readers_do_not_write(runtime: Runtime) -> None:
    """`state` and `list` of a container work while another verb holds its lock, and leave no trace."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    before = runtime.footprint(container.bundle)
    container.state()
    runtime.verb("list").ok()
    before.assert_unchanged()
