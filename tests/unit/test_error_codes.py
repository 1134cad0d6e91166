"""Every error has a code, every code is documented, and no documented one is without an error."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.cli.error_codes import CODES, table
from pyrunc.lifecycle.status import _REFUSALS

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "pyrunc").rglob("*.py"))
#: Where a code is not a word but found out.
FOUND_OUT = {
    "pyrunc/lifecycle/several.py": {"several"},
    "pyrunc/lifecycle/status.py": {"not-stopped", *(code for _, code in _REFUSALS.values())},
}


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node


def code_of(call: ast.Call) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == "code"), None)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def codes_in(path: Path) -> set[str]:
    """The codes that the errors of a file can have."""
    found: set[str] = set()
    for call in calls(path):
        code = code_of(call)
        if isinstance(code, ast.Constant):
            found.add(str(code.value))
        elif code is not None:
            assert name_of(path) in FOUND_OUT, f"{name_of(path)}:{call.lineno}: which code is this?"
        if ast.unparse(call.func) == "log.error":
            found |= {str(argument.value) for argument in call.args[1:] if isinstance(argument, ast.Constant)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                    assert isinstance(line.value, ast.Constant)
                    found.add(str(line.value.value))
    return found | FOUND_OUT.get(name_of(path), set())


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_error_has_a_code(path: Path) -> None:
    """`PyruncError` has no kind of its own, so who raises it says one; its subclasses are one."""
    for call in calls(path):
        if isinstance(call.func, ast.Name) and call.func.id == "PyruncError":
            assert code_of(call) is not None, f"{name_of(path)}:{call.lineno} has no code"


def test_every_code_is_documented_and_used() -> None:
    used = set().union(*(codes_in(path) for path in SOURCES))
    assert used - {"failed"} == CODES.keys()  # "failed" is what PyruncError itself would have


def test_the_table_of_the_documents() -> None:
    assert table() in (REPOSITORY / "docs" / "errors.md").read_text()
    words = [sys.executable, "-m", "pyrunc.cli.error_codes"]
    assert subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout == table()


@pytest.mark.parametrize("code", CODES)
def test_codes_look_alike(code: str) -> None:
    assert code.replace("-", "").isalpha() and code == code.lower()
    assert CODES[code].endswith(".")
