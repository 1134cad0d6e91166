"""The shape of the tree: who may import whom, how long a file may be, what git must not hold."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.cli import verbs
from pyrunc.native import build

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pyrunc"

#: Which rooms a room may import at run time, besides itself, `pyrunc` and `errors` (docs/design.md, "Rooms").
#: The two halves of `plan` stand apart: rooms under linux/ emit into plan.program, and plan.build asks the rooms.
MAY_IMPORT = {
    "errors": set[str](),
    "kernel": set[str](),
    "native": set[str](),
    "log": {"config"},
    "config": {"validate"},  # load raises what validate.report gathers
    "validate": {"config"},
    "plan.program": {"kernel"},
    "plan.talk": {"kernel", "plan.program"},
    "linux": {"config", "kernel", "plan.program", "plan.talk", "validate"},
    "plan.host": {"kernel", "linux"},
    "plan.build": {"config", "kernel", "linux", "plan.program", "plan.talk"},
    "plan.exec": {"kernel", "linux", "plan.program", "plan.talk"},
    "store": {"config", "kernel", "plan.host"},
    "spawn": {"kernel", "linux", "plan.program", "plan.talk"},
    "lifecycle": {
        "config", "kernel", "linux", "log", "plan.build", "plan.exec", "plan.host", "plan.program", "plan.talk",
        "spawn", "store", "validate",
    },
    "cli": {"config", "lifecycle", "linux", "log", "plan.host", "store", "validate"},
    "__main__": {"cli"},
}  # fmt: skip

#: The modules from which the verbs start, and what nothing that they import at once may import: see
#: docs/design.md, "Start-up", for the milliseconds of each.
ENTRANCES = [
    "cli.main",
    *(f"cli.verbs.{family}" for family in sorted(set(verbs.FAMILIES.values()))),
    *(f"lifecycle.{verb}" for verb in ("create", "start", "run", "exec", "kill", "delete")),
]
FORBIDDEN = {
    "argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "inspect", "json",
    "jsonschema", "logging", "pathlib", "prctl", "pyseccomp", "re", "shutil", "signal", "socket",
    "subprocess", "tempfile", "threading", "traceback", "typing", "warnings",
}  # fmt: skip


def tracked(*patterns: str) -> list[Path]:
    """The files that git holds, or would hold after `git add`."""
    words = ["git", "ls-files", "-z", "-co", "--exclude-standard", *patterns]
    names = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True).stdout.split(b"\0")
    paths = [REPOSITORY / os.fsdecode(name) for name in names if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def module_of(path: Path) -> str:
    """`linux.hooks` for pyrunc/linux/hooks.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_of(path): path for path in tracked("pyrunc/**.py", "pyrunc/*.py")}


def imports(node: ast.AST, *, at_once: bool) -> Iterator[str]:
    """The modules imported below `node`, those for type checkers left out, those in functions unless `at_once`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if at_once and isinstance(child, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield whole if whole.removeprefix("pyrunc.") in MODULES else str(child.module)
        yield from imports(child, at_once=at_once)


def room_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "plan" else parts[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    room = room_of(module)
    tree = ast.parse(MODULES[module].read_text())
    found = {
        name.removeprefix("pyrunc.") for name in imports(tree, at_once=False) if name.startswith("pyrunc.")
    }
    rooms = {room_of(name) for name in found} - {room, "errors"}
    if room not in ("", "plan"):
        assert rooms <= MAY_IMPORT[room], f"{module} may not import from {sorted(rooms - MAY_IMPORT[room])}"
    else:
        assert not rooms


def test_the_start_imports_nothing_heavy() -> None:
    """Statically and so for every way through the code; tests/unit/test_cli_imports.py looks at real starts."""
    todo = [name for name in ENTRANCES if name in MODULES]
    assert len(todo) == len(ENTRANCES)
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imports(ast.parse(MODULES[module].read_text()), at_once=True):
            top = name.partition(".")[0]
            assert top not in FORBIDDEN, f"pyrunc.{module} imports {name} at start-up"
            if name.removeprefix("pyrunc.") in MODULES and top == "pyrunc":
                todo.append(name.removeprefix("pyrunc."))
    assert len(seen) > 20  # the search does search


@pytest.mark.parametrize(("pattern", "lines"), [("*.py", 400), ("*.[ch]", 600)])
def test_no_file_is_too_long_to_read_in_one_sitting(pattern: str, lines: int) -> None:
    folders = ("pyrunc", "install", "bundles", "bench")
    long = {
        str(path.relative_to(REPOSITORY)): count
        for path in tracked(*(f"{folder}/{pattern}" for folder in folders))
        if (count := path.read_text().count("\n")) > lines
    }
    assert long == {}


def test_what_the_build_makes_is_not_committed() -> None:
    made = {PACKAGE / name for name in build.products()} | {REPOSITORY / "bundles" / "busybox" / "rootfs"}
    held = set(tracked())
    assert not made & held
    assert not [path for path in held if any(folder in path.parents for folder in made)]


def test_no_paths_of_a_machine_and_no_registries() -> None:
    # Written apart, so that this file does not find itself.
    words = [
        str(REPOSITORY),
        str(REPOSITORY.parent / "shared"),
        "/.py" + "env",
        "py" + "pi.org",
        "py" + "thonhosted",
        "deb." + "debian.org",
    ]
    words += ["registry." + "npmjs", "ghcr" + ".io", "quay" + ".io", "docker" + ".io/", "gcr" + ".io"]
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(REPOSITORY)}: {word}" for word in words if word in text]
    assert found == []


@pytest.mark.parametrize(
    "name",
    [".ci/run", "install/prepare", "install/environment", "install/run-tests", "bundles/busybox/make-rootfs"],
)
def test_programs_are_executable(name: str) -> None:
    assert os.access(REPOSITORY / name, os.X_OK)


def test_no_room_for_everything() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not [module for module in MODULES if vague & set(module.split("."))]
