"""What a person reads about a rejected configuration."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.errors import Rejected
from pyrunc.validate import check as module
from pyrunc.validate import explain
from pyrunc.validate._schema import STATE
from pyrunc.validate.check import check_shape
from pyrunc.validate.explain import problems
from pyrunc.validate.report import PROBLEM_LIMIT

GOOD: dict[str, Any] = {"ociVersion": "1.0.0", "root": {"path": "r"}}


def texts(config: Any) -> list[str]:
    return [str(problem) for problem in problems(config)]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {"linux": {"uidMappings": [{"containerID": "abc", "hostID": 0, "size": 1}]}},
            'linux.uidMappings[0].containerID: must be a whole number between 0 and 4294967295, is the string "abc"',
        ),
        (
            {"mounts": [{}]},
            "mounts[0].destination: is missing (where it is mounted, a path inside the container)",
        ),
        (
            {"root": {}},
            "root.path: is missing (the directory of the root file system, absolute or relative to the bundle)",
        ),
        ({"root": None}, "root: must be an object, is null"),
        ({"mounts": {}}, "mounts: must be a list, is an object"),
        ({"hostname": 5}, "hostname: must be text without NUL, is the number 5"),
        ({"hostname": "a\0b"}, 'hostname: must be text without NUL, is the string "a\\u0000b"'),
        (
            {"process": {"cwd": "tmp", "args": ["a"]}},
            'process.cwd: must be an absolute path without NUL, is the string "tmp"',
        ),
        ({"process": {"cwd": "/", "args": []}}, "process.args: must have at least one entry, is empty"),
        (
            {"process": {"cwd": "/", "args": ["a"], "env": ["A"]}},
            'process.env[0]: must be text of the form NAME=value, without NUL, is the string "A"',
        ),
        (
            {"process": {"cwd": "/", "args": ["a"], "terminal": 1}},
            "process.terminal: must be true or false, is the number 1",
        ),
        (
            {"process": {"cwd": "/", "args": ["a"], "oomScoreAdj": 1.0}},
            "process.oomScoreAdj: must be a whole number between -1000 and 1000, is the number 1.0",
        ),
        (
            {"linux": {"personality": {"domain": "LINUX23"}}},
            (
                'linux.personality.domain: must be one of "LINUX", "LINUX32", is the string "LINUX23" '
                '(did you mean "LINUX32"?)'
            ),
        ),
        (
            {"linux": {"sysctl": {"net.core": 1}}},
            'linux.sysctl["net.core"]: must be text without NUL, is the number 1',
        ),
        ({"annotations": {"": "x"}}, 'annotations[""]: the name must be text of at least one character'),
        (
            {"linux": {"devices": [{"type": "c", "path": "/x", "minor": 1}]}},
            "linux.devices[0].major: is missing",
        ),
        (
            {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "listenerMetadata": "m"}}},
            "linux.seccomp.listenerPath: is missing although listenerMetadata is given",
        ),
        ({"hostname": "é" * 100 + "\0"}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_one_problem(more: dict[str, Any], text: str | None) -> None:
    found = texts({**GOOD, **more})
    assert len(found) == 1
    if text is None:
        assert len(found[0]) < 500  # six times sixty: escaped
    else:
        assert found == [text]


def test_every_problem_at_once() -> None:
    assert texts({"root": 1, "mounts": [{"destination": "/"}, {"destination": 2}], "hooks": []}) == [
        "ociVersion: is missing (the version of the specification that this file follows)",
        "root: must be an object, is the number 1",
        "mounts[1].destination: must be text of at least one character, without NUL, is the number 2",
        "hooks: must be an object, is a list",
    ]


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_not_an_object(value: Any) -> None:
    assert [text.split(",")[0] for text in texts(value)] == ["must be an object"], (
        "the title of a file is no noun"
    )


def test_a_state_without_pid() -> None:
    state = {"ociVersion": "1.0.0", "id": "x", "bundle": "/b"}
    assert problems({**state, "status": "stopped"}, STATE) == []
    assert [str(problem) for problem in problems({**state, "status": "running"}, STATE)] == [
        "pid: is missing"
    ]


def test_a_hostile_number_of_problems_is_cut() -> None:
    found = texts({**GOOD, "mounts": [{}] * 100_000})
    assert len(found) == PROBLEM_LIMIT + 1
    assert found[-1] == "and more that are not listed"


def test_shape_good_and_bad() -> None:
    assert check_shape(GOOD).warnings == []
    with pytest.raises(Rejected, match=r"^invalid config\.json: root: must be an object, is the number 1$"):
        check_shape({**GOOD, "root": 1})


def test_jsonschema_is_the_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the compiled check must not refuse a good configuration."""
    monkeypatch.setattr(module, "accept", lambda _: False)
    assert len(check_shape(GOOD).warnings) == 1


def test_every_rule_of_our_schemas_can_be_put_in_words() -> None:
    from pyrunc.validate._schema import CONFIG, FEATURES

    def walk(schema: Any) -> None:
        if isinstance(schema, list):
            for item in schema:
                walk(item)
        if isinstance(schema, dict):
            if isinstance(schema.get("type"), str):
                words = explain.expected(schema)
                assert words
                assert "pattern" not in schema or "title" in schema
                assert "minLength" not in schema or "title" in schema
            for value in schema.values():
                walk(value)

    for schema in (CONFIG, STATE, FEATURES):
        walk(schema)
