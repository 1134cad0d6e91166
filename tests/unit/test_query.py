"""The output of state and list."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyrunc.errors import NotFound, PyruncError
from pyrunc.lifecycle.liveness import start_time
from pyrunc.lifecycle.query import listing, state
from pyrunc.store.record import Record
from pyrunc.store.store import STATE, Store
from tests.unit.test_cli_documents import official

CREATED = "2026-01-02T03:04:05.6Z"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"{tmp_path}/root")


def put(store: Store, id: str, **more: object) -> None:
    with store.create(id) as directory:
        directory.save(Record(id, "/b", "/b/rootfs", created=CREATED, ready=True, **more))  # type: ignore[arg-type]


def own() -> dict[str, object]:
    return {"pid": os.getpid(), "start_time": start_time(os.getpid())}


def test_state_byte_for_byte(store: Store) -> None:
    put(store, "one", annotations={"a": "b"}, **own())
    expected = {
        "ociVersion": "1.3.0",
        "id": "one",
        "pid": os.getpid(),
        "status": "running",
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": CREATED,
        "annotations": {"a": "b"},
        "owner": "",
    }
    assert state(store, "one") == json.dumps(expected, indent=2)


def test_state_adheres_to_the_official_schema(store: Store) -> None:
    """runtime.md: when serialized in JSON, the format MUST adhere to state-schema.json."""
    put(store, "one", annotations={"a": "b"}, **own())
    put(store, "two", pid=1 << 21, start_time=1)
    for name in ("one", "two"):
        official("state-schema.json").validate(json.loads(state(store, name)))


def test_state_of_a_stopped_container(store: Store) -> None:
    put(store, "one", pid=1 << 21, start_time=1)
    found = json.loads(state(store, "one"))
    assert (found["pid"], found["status"]) == (0, "stopped")
    assert "annotations" not in found


def test_state_of_nothing(store: Store) -> None:
    with pytest.raises(NotFound, match="container does not exist"):
        state(store, "one")
    store.create("left").close()
    with pytest.raises(NotFound, match=r"container does not exist \("):
        state(store, "left")


def test_table_is_that_of_runc(store: Store) -> None:
    assert listing(store, "table", False)[0] == (
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    )
    put(store, "one", owner=0)
    put(store, "a-name-that-is-long", owner=54321, **own())
    table = (
        "ID                    PID         STATUS      BUNDLE      CREATED                  OWNER\n"
        f"a-name-that-is-long   {os.getpid():<12}running     /b          {CREATED}   #54321\n"
        f"one                   0           stopped     /b          {CREATED}   root\n"
    )
    assert listing(store, "table", False) == (table, [])


def test_json_and_quiet(store: Store) -> None:
    assert listing(store, "json", False) == ("null\n", [])
    assert listing(store, "table", True) == ("", [])
    put(store, "b", owner=0)
    put(store, "a", owner=0)
    text, _ = listing(store, "json", False)
    assert text.endswith("]\n") and "\n" not in text[:-1]
    assert [(entry["id"], entry["owner"]) for entry in json.loads(text)] == [("a", "root"), ("b", "root")]
    assert listing(store, "json", True) == ("a\nb\n", [])


def test_broken_entries_are_left_out_and_told(store: Store) -> None:
    put(store, "good")
    put(store, "torn")
    Path(store.root, "torn", STATE).write_text("{")
    Path(store.root, "file").touch()
    os.mkdir(f"{store.root}/not an id")
    os.mkdir(f"{store.root}/.cache")
    for quiet in (False, True):
        text, broken = listing(store, "table", quiet)
        assert "good" in text and "torn" not in text
        assert [name for name, _ in broken] == ["torn"]


def test_named_ones_only(store: Store) -> None:
    for name in "abc":
        put(store, name)
    text, broken = listing(store, "table", True, ["c", "x", "a"])
    assert text == "c\na\n"
    assert [(name, error.code) for name, error in broken] == [("x", "not-found")]


def test_unknown_format(store: Store) -> None:
    with pytest.raises(PyruncError, match="^invalid format option"):
        listing(store, "xml", False)
