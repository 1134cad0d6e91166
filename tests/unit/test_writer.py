"""The JSON writer: the same text as `json.dumps`, read back as the same value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.config.load import load_json
from pyrunc.config.writer import dumps

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(VALUES, st.none() | st.integers(0, 4))
def test_it_writes_what_json_writes(value: Any, indent: int | None) -> None:
    text = dumps(value, indent)
    assert text == json.dumps(value, indent=indent)
    assert load_json(text.encode("ascii"), "x") == value


@given(VALUES)
def test_compact(value: Any) -> None:
    """As Go writes it, which people look for with grep."""
    assert dumps(value, compact=True) == json.dumps(value, separators=(",", ":"))


def test_tuples_are_lists_and_lone_surrogates_are_escaped() -> None:
    assert dumps((1, ("\udcff",))) == json.dumps((1, ("\udcff",)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [float("inf")]])
def test_numbers_that_json_does_not_have(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON has no"):
        dumps(value)


@pytest.mark.parametrize("value", [b"x", {1: 2}, {1}, object()])
def test_values_that_json_does_not_have(value: Any) -> None:
    with pytest.raises(TypeError):
        dumps(value)
