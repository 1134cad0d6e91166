"""docs/engines.md: every test that its table names is there, and runs on the kind of host that it stands for."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.payload import REPOSITORY
from tests.vm.suite import PARTS

ENGINES = REPOSITORY / "tests" / "engines"
COLUMNS = ("v1, root", "v1, ordinary user", "v2 with systemd, root", "v2 with systemd, ordinary user")
V1, V1_USER, ROOT, USER = COLUMNS
#: The fixtures that give an ordinary user's engine on v1: tests/engines/conftest.py.
HIS = {"engine", "podman", "buildah", "his_podman", "his_buildah"}
NAME = re.compile(r"`(\w+)::(test_\w+)`")


def table() -> list[dict[str, str]]:
    """The rows, by the names of the columns."""
    lines = (REPOSITORY / "docs/engines.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


CELLS = [
    (row["engine"], row["operation"], column, *NAME.fullmatch(row[column]).groups())  # type: ignore[union-attr]
    for row in table()
    for column in COLUMNS
    if row[column] != "—"
]


@cache
def module(name: str) -> tuple[dict[str, str], str, dict[str, set[str]]]:
    """Of the tests of a file the source of the decorators of each, of the marks of all, and the arguments of each."""
    tree = ast.parse((ENGINES / f"test_{name}.py").read_text())
    nodes = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    tests = {node.name: " ".join(map(ast.unparse, node.decorator_list)) for node in nodes}
    arguments = {node.name: {argument.arg for argument in node.args.args} for node in nodes}
    marks = [ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return tests, " ".join(mark for mark in marks if "pytest.mark" in mark), arguments


def runs(part: str, name: str) -> bool:
    """Whether this part of `make test-vm` has the file."""
    (found,) = [entry for entry in PARTS if entry.name == part]
    return any(place in ("tests/engines", f"tests/engines/test_{name}.py") for place in found.tests)


@pytest.mark.parametrize(("engine", "operation", "column", "name", "test"), CELLS)
def test_cell(engine: str, operation: str, column: str, name: str, test: str) -> None:
    tests, marks, arguments = module(name)
    assert test in tests, f"{engine}, {operation}: no {test} in tests/engines/test_{name}.py"
    marks += tests[test]
    if column in (V1, V1_USER):
        assert "has no systemd" not in marks
    else:
        assert runs("podman-rootless" if column == USER else "engines", name)
    if column == V1:
        assert "not HERE" not in marks, "it is only about an ordinary user"
    if column == V1_USER:
        assert "needs_root" not in marks and "needs_cgroups" not in marks and HIS & arguments[test]
        assert engine in ("podman", "buildah")
    if column == USER:
        assert "needs_root" not in marks and engine == "podman"


def test_every_engine_and_file_has_its_rows() -> None:
    assert {cell[0] for cell in CELLS} == {"containerd", "CRI", "docker", "podman", "buildah"}
    assert {cell[3] for cell in CELLS} == {
        path.stem.removeprefix("test_") for path in ENGINES.glob("test_*.py")
    }
