"""specs/CONFORMANCE.md is complete: every property of our schemas has a row, every test named there exists."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.support.conformance import KINDS, REPOSITORY, Row, rows

SPECS = REPOSITORY / "specs"
SECTIONS = {"state": "state.", "config": "", "features": "features."}


@cache
def schema(name: str) -> Any:
    return json.loads((SPECS / name).read_text())


def resolve(document: str, reference: str) -> tuple[str, Any]:
    """The document and the node that `reference`, read in `document`, means."""
    file, _, pointer = reference.partition("#")
    document = file.rpartition("/")[2] or document
    node = schema(document)
    for part in filter(None, pointer.split("/")):
        node = node[part]
    return document, node


def properties(document: str, node: Any, path: str) -> Iterator[str]:
    """Every property below `node`: `a.b`, `[]` for the items of an array, `*` for the values of a map."""
    while "$ref" in node:
        document, found = resolve(document, node["$ref"])
        node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
    for key in ("allOf", "anyOf", "oneOf"):
        for part in node.get(key, ()):
            yield from properties(document, part, path)
    for name, part in node.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        yield inner
        yield from properties(document, part, inner)
    if isinstance(node.get("items"), dict):
        yield from properties(document, node["items"], f"{path}[]")
    for part in (node.get("additionalProperties"), *node.get("patternProperties", {}).values()):
        if isinstance(part, dict):
            yield from properties(document, part, f"{path}.*")


@cache
def functions(file: str) -> set[str]:
    """The names of the test functions in a file."""
    path = REPOSITORY / file
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_property_of_a_schema_has_one_row(name: str) -> None:
    document = f"{name}.schema.json"
    wanted = {SECTIONS[name] + path for path in properties(document, schema(document), "")}
    listed = [row.property for row in rows() if row.property]
    of_others = tuple(prefix for prefix in SECTIONS.values() if prefix)
    own = [
        path
        for path in listed
        if (path.startswith(SECTIONS[name]) if SECTIONS[name] else not path.startswith(of_others))
    ]
    assert sorted(own) == sorted(wanted)


def test_every_test_that_is_named_exists() -> None:
    missing = [f"{file}::{name}" for row in rows() for file, name in row.tests if name not in functions(file)]
    assert missing == []


def malformed(row: Row) -> str:
    """What is wrong with the form of a row."""
    if row.columns not in (4, 5):
        return "not four or five columns"
    if not row.tests:
        return "no test"
    named = sum(cell.count(":") for cell in row.tests_cell.split(";"))
    if named != len({file for file, _ in row.tests}):
        return "a reference that cannot be read"
    if not set(row.kinds) <= set(KINDS) or not row.kinds:
        return "not a kind of host"
    return ""


def test_every_row_names_tests_and_hosts() -> None:
    assert [(row.line, wrong) for row in rows() if (wrong := malformed(row))] == []
