"""Whatever bytes a config.json holds: a value, or one clear refusal; never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.config.load import load_json
from pyrunc.errors import Rejected
from pyrunc.validate import _schema
from pyrunc.validate._accept import accept
from pyrunc.validate.explain import Validator, problems

SEEDS = [
    path.read_bytes() for path in sorted((Path(__file__).parents[1] / "data" / "configs").glob("*.json"))
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
#: Names that the schemas know, so that random objects get past the first rule.
NAMES = st.sampled_from(
    [
        "ociVersion",
        "root",
        "path",
        "process",
        "cwd",
        "args",
        "env",
        "mounts",
        "destination",
        "options",
        "hooks",
        "poststop",
        "timeout",
        "annotations",
        "linux",
        "namespaces",
        "type",
        "devices",
        "resources",
        "memory",
        "limit",
        "seccomp",
        "defaultAction",
        "syscalls",
        "names",
        "action",
        "sysctl",
    ]
)
SHAPED = st.recursive(
    VALUES | st.sampled_from(["/", "a=b", "pid", "SCMP_ACT_ALLOW", "1.0.0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)


def twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def judged(raw: bytes) -> None:
    """`load_json` agrees with `json`, made strict."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        expected = json.loads(raw.decode(), object_pairs_hook=twice, parse_constant=refuse)
        json.dumps(expected, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        with pytest.raises(Rejected) as caught:
            load_json(raw, "x")
        assert str(caught.value).isprintable()
    else:
        assert repr(load_json(raw, "x")) == repr(expected)


@given(st.binary(max_size=60) | st.text('{}[]":,\\ud8cE0123 \n-.eNat', max_size=60).map(str.encode))
def test_random_bytes(raw: bytes) -> None:
    judged(raw)


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_configs(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw)))
    cut = data.draw(st.integers(0, 5))
    put = data.draw(
        st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"]", b"\\u", b"\\ud800", b",", b'"a":1,"a":2,'])
    )
    judged(raw[:at] + put + raw[at + cut :])


@given(SHAPED)
def test_any_value_gets_the_verdict_of_the_schema(value: Any) -> None:
    found = problems(value)
    assert accept(value) == (not found) == Validator(_schema.CONFIG).is_valid(value)
    assert all(str(problem).isprintable() for problem in found)
