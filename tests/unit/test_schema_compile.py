"""The generator of the compiled check: up to date, patterns as `re` understands them, unknown keywords refused."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.validate import _accept, _schema
from pyrunc.validate.compile import MISMATCH, Generator, UnknownKeyword, main

#: Letters that the patterns are about, and their neighbours.
ALPHABET = "\0\n=/: ,-019KMGBkrwmx²٢é"


def test_the_built_module_is_up_to_date() -> None:
    built = Path(_accept.__file__).read_text(encoding="utf-8")
    assert built == Generator(_schema.CONFIG).module(), "specs/ or the generator changed: build again"


def test_the_build_writes_both_modules(tmp_path: Path) -> None:
    assert main([str(tmp_path / "_accept.py")]) == 0
    names = runpy.run_path(str(tmp_path / "_accept.py"))
    assert names["accept"]({"ociVersion": "1.0.0", "root": {"path": "r"}})
    assert "CONFIG" in (tmp_path / "_schema.py").read_text(encoding="utf-8")


def test_the_compiled_check_imports_nothing() -> None:
    assert "import" not in Path(_accept.__file__).read_text(encoding="utf-8").replace("imports", "")


@pytest.mark.parametrize("pattern", MISMATCH)
@given(text=st.text(ALPHABET, max_size=6) | st.from_regex(r"(MB:|[1-9][0-9]*)?[KMG]?B?\n?", fullmatch=True))
def test_an_expression_means_its_pattern(pattern: str, text: str) -> None:
    mismatch = bool(eval(MISMATCH[pattern].format(v="text"), {"text": text}))
    assert mismatch == (re.search(pattern, text) is None)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": False},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {}},
        {"type": "object", "oneOf": []},
        {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "string", "enum": [1]},
        {"type": "integer", "minimum": 1},
        {"type": "number"},
        {"type": ["string", "null"]},
        {"minimum": 1, "maximum": 2},
        {"$ref": "#/$defs/x", "minLength": 1},
    ],
    ids=str,
)
def test_a_rule_that_would_be_forgotten_stops_the_build(schema: dict[str, Any]) -> None:
    with pytest.raises((UnknownKeyword, TypeError)):
        Generator({"type": "object", "properties": {"x": schema}}).module()
