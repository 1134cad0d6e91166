"""The code archive: what is compiled how, in which order it loads, and what a traceback still says."""

from __future__ import annotations

import importlib.util
import marshal
import struct
import subprocess
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = 24


def installer_module(name: str) -> ModuleType:
    """A program of install/ as a module."""
    spec = importlib.util.spec_from_file_location(f"install_{name}", REPOSITORY / "install" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


archive: Any = installer_module("archive")


def package(folder: Path, **modules: str) -> Path:
    """The package `pyrunc` with these modules."""
    top = folder / "pyrunc"
    top.mkdir()
    for name, text in {"__init__": '"""Top."""', **modules}.items():
        (top / f"{name}.py").write_text(text)
    return top


def code_of(tmp_path: Path, text: str) -> CodeType:
    path = tmp_path / "module.py"
    path.write_text(text)
    code: CodeType = archive.compiled(archive.parsed(path, "/home/module.py"), "/home/module.py")
    return code


def start(folder: Path, data: bytes, statement: str) -> subprocess.CompletedProcess[str]:
    """Do what the launcher does with this archive, then `statement`."""
    (folder / "code").write_bytes(data)
    program = (
        "import marshal, sys\n"
        f"data = open({str(folder / 'code')!r}, 'rb').read()\n"
        "start = int.from_bytes(data[16:24], 'little')\n"
        "code, index = marshal.loads(data[24:start])\n"
        "names = {'DATA': data, 'START': start, 'INDEX': index}\n"
        "exec(code, names)\n"
        "load = names['load']\n" + statement
    )
    return subprocess.run([sys.executable, "-IBS", "-c", program], capture_output=True, text=True, timeout=30)


def test_only_what_runs_is_compiled(tmp_path: Path) -> None:
    code = code_of(
        tmp_path,
        '"""Text."""\nfrom __future__ import annotations\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    import typing\n'
        'x: typing.Final = 1\ndef f(a: int, *b: int, **c: int) -> int:\n    """Text."""\n    y: int = a\n    assert y\n'
        "    return y\nclass C:\n    z: int\n    def m(self, d: int) -> None: ...\n",
    )
    names: dict[str, Any] = {"__name__": "module"}
    exec(code, names)
    assert "__future__" not in code.co_names
    assert "typing" not in code.co_names
    assert "__annotations__" not in names
    assert names["f"].__annotations__ == {}
    assert names["f"](0) == 0  # no assertion
    assert names["f"].__doc__ is None
    assert names["C"].__annotations__ == {"z": "int"}
    assert names["C"].m.__annotations__ == {}


def test_struct_is_taken_from_where_it_is_built_in(tmp_path: Path) -> None:
    code = code_of(
        tmp_path,
        "from struct import Struct, calcsize, error, iter_unpack, pack, pack_into, unpack, unpack_from\n",
    )
    names: dict[str, Any] = {}
    exec(code, names)
    assert "struct" not in code.co_names
    for name in set(names) - {"__builtins__"}:
        assert names[name] is getattr(struct, name)


def test_else_of_a_type_checking_block_is_kept(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(code_of(tmp_path, "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2\n"), names)
    assert names["x"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import pyrunc.b\n", ("pyrunc.b",)),
        ("from pyrunc import b\nfrom pyrunc.c import d\n", ("pyrunc", "pyrunc.b", "pyrunc.c")),
        ("import os\nfrom errno import EPERM\n", ()),
        ("def f():\n    import pyrunc.b\n", ()),
    ],
)
def test_needs(text: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(text)
    known = frozenset(("pyrunc", "pyrunc.b", "pyrunc.c"))
    assert archive.needs(archive.parsed(path, "a.py"), known) == expected


def test_modules_load_as_importlib_would_load_them(tmp_path: Path) -> None:
    top = package(
        tmp_path,
        a="from pyrunc import b\nfrom pyrunc.c import name\nimport pyrunc.b\n",
        b="import pyrunc.c\n",
        c="name = __name__, __package__, __file__\n",
    )
    data = archive.archive(top, "/somewhere", {})
    answer = start(
        tmp_path,
        data,
        "import sys\nmodule = load('pyrunc.a')\nimport pyrunc.a as again\n"
        "print(module is again, again.b is sys.modules['pyrunc.b'], *again.name)\n"
        "print([name for name in sys.modules if name.startswith('pyrunc')])\n"
        "print(sys.modules['pyrunc'].__path__)\n",
    )
    assert answer.stdout.splitlines() == [
        "True True pyrunc.c pyrunc /somewhere/pyrunc/c.py",
        "['pyrunc', 'pyrunc.a', 'pyrunc.b', 'pyrunc.c']",
        "['/somewhere/pyrunc']",
    ], answer.stderr


def test_imports_inside_functions_go_through_the_finder(tmp_path: Path) -> None:
    top = package(tmp_path, a="def late():\n    from pyrunc import b\n    return b.value\n", b="value = 5\n")
    answer = start(tmp_path, archive.archive(top, "/somewhere", {}), "print(load('pyrunc.a').late())")
    assert answer.stdout == "5\n", answer.stderr


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    top = package(tmp_path, a="import pyrunc.b\nx = 1\n", b="import pyrunc.a\ny = 2\n")
    answer = start(
        tmp_path, archive.archive(top, "/somewhere", {}), "print(load('pyrunc.a').pyrunc.b.pyrunc.a.x)"
    )
    assert answer.stdout == "1\n", answer.stderr


def test_a_failed_import_can_be_tried_again(tmp_path: Path) -> None:
    top = package(
        tmp_path, a="import sys\nif not hasattr(sys, 'once'):\n    sys.once = 1\n    raise ValueError\n"
    )
    answer = start(
        tmp_path,
        archive.archive(top, "/somewhere", {}),
        "try:\n    load('pyrunc.a')\nexcept ValueError:\n    print('pyrunc.a' in sys.modules)\n"
        "print(load('pyrunc.a').__name__)",
    )
    assert answer.stdout.split() == ["False", "pyrunc.a"], answer.stderr


def test_a_traceback_names_the_file_and_the_line(tmp_path: Path) -> None:
    top = package(tmp_path, a="\n\ndef f() -> int:\n    return 1 // 0\n")
    answer = start(tmp_path, archive.archive(top, "/somewhere", {}), "load('pyrunc.a').f()")
    assert 'File "/somewhere/pyrunc/a.py", line 4, in f' in answer.stderr


def test_the_whole_of_pyrunc_is_in_it() -> None:
    data = archive.archive(REPOSITORY / "pyrunc", "/somewhere", {})
    _, index = marshal.loads(data[HEADER : int.from_bytes(data[16:24], "little")])
    expected = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in (REPOSITORY / "pyrunc").rglob("*.py")
    }
    assert set(index) == expected - archive.BUILD_ONLY
    assert int.from_bytes(data[8:16], "little") == len(data)
