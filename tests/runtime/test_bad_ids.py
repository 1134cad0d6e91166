"""Bad ids: hostile, unknown or in use."""

from __future__ import annotations

import os

import pytest

from tests.support.bad_input import Case

pytestmark = pytest.mark.usefixtures("nothing_is_left")

HOSTILE_IDS = {
    "dots": "..",
    "dot": ".",
    "slash": "a/b",
    "climb": "../../etc",
    "absolute": "/etc/x",
    "empty": "",
    "long": "x" * 1000,
    "newline": "a\nb",
    "blank": "a b",
    "umlaut": "ü",
    "star": "*",
    "not-utf-8": os.fsdecode(b"\xff\xfe"),
    "dollar": "$(id)",
    "colon": "a:b",
    "backslash": "a\\b",
}


@pytest.mark.parametrize("verb", ["create", "run", "state", "start", "kill", "delete"])
@pytest.mark.parametrize("id", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
def test_hostile_id(case: Case, verb: str, id: str) -> None:
    runtime = case.runtime
    flags = ["--bundle", runtime.put(case.bundle, "unused")] if verb in ("create", "run") else []
    case.before()  # type: ignore[attr-defined]
    outcome = runtime.verb(verb, *flags, "--", id).fails()
    assert outcome.status == 1
    assert "id" in outcome.err or "does not exist" in outcome.err
    assert len(outcome.err) < 2500


def test_nul_in_an_id_cannot_be_passed(case: Case) -> None:
    """The kernel ends an argument at a NUL: what arrives is the shorter id, and no other container is meant."""
    case.before()  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        case.runtime.verb("state", "a\0b")


@pytest.mark.parametrize("verb", ["delete", "state"])
def test_force_with_a_hostile_id(case: Case, verb: str) -> None:
    """`delete --force ../victim` removes nothing outside the state directory."""
    victim = case.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("x")
    case.runtime.root.mkdir(exist_ok=True)
    case.before()  # type: ignore[attr-defined]
    flags = ["--force"] if verb == "delete" else []
    case.runtime.verb(verb, *flags, "../victim")
    assert (victim / "file").exists()


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete"])
def test_unknown_id(case: Case, verb: str) -> None:
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.verb(verb, case.runtime.new_id()).fails("does not exist").status == 1


def test_duplicate_id(case: Case) -> None:
    case.bundle.sleeper()
    container = case.runtime.container(case.bundle)
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    place = case.runtime.put(case.bundle, container.id)
    case.runtime.verb("create", "--bundle", place, container.id).fails("already exists")
    assert container.status == "created"
    container.delete("--force").ok()


def test_two_creates_of_one_id_at_once(case: Case) -> None:
    id = case.runtime.new_id()
    place = case.runtime.put(case.bundle.sleeper(), id)
    case.before()  # type: ignore[attr-defined]
    calls = [case.runtime.spawn("create", "--bundle", place, id) for _ in range(3)]
    statuses = [call.process.wait(20) for call in calls]
    assert sorted(statuses) == [0, 1, 1]
    assert all(
        call.err.count("\n") == 1 and "exist" in call.err
        for call, status in zip(calls, statuses, strict=True)
        if status
    )
    case.runtime.verb("delete", "--force", id).ok()
