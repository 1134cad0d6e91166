"""Compiles install/launcher.c for a place and for the Python that runs this: PREFIX/bin/pyrunc."""

from __future__ import annotations

import marshal
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=gnu11", "-O2", "-DNDEBUG", "-s", "-Wall", "-Wextra", "-Werror")
#: What the interpreter imports before it can import anything from the archive.
FROZEN = ("encodings", "encodings.aliases", "encodings.utf_8")


def frozen_source() -> str:
    """C source of the table of frozen modules (Python's Include/cpython/import.h).

    Members are named: Python 3.13 has one less than 3.11.
    """
    rows, arrays = [], []
    for number, name in enumerate(FROZEN):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_bytes()
        code = marshal.dumps(compile(source, spec.origin, "exec", dont_inherit=True, optimize=2))
        is_package = int(spec.submodule_search_locations is not None)
        arrays.append(f"static const unsigned char code_{number}[] = {{{','.join(map(str, code))}}};\n")
        rows.append(
            f'{{.name = "{name}", .code = code_{number}, .size = sizeof code_{number}, '
            f".is_package = {is_package}}},\n"
        )
    return (
        "#include <Python.h>\n\n" + "".join(arrays) + "\nextern const struct _frozen frozen_modules[];\n"
        "const struct _frozen frozen_modules[] = {\n" + "".join(rows) + "{.name = NULL}};\n"
    )


def python() -> str:
    """The interpreter itself, not the one of a virtual environment."""
    return f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"


def link_flags() -> list[str]:
    """How to link with the interpreter as a library. Raises FileNotFoundError without its development files."""
    config = [f"{python()}-config", "--embed", "--ldflags"]
    words = subprocess.run(config, check=True, capture_output=True, text=True).stdout.split()
    # Where it is only a static library, the extension modules find the interpreter in the launcher.
    return [*words, "-Wl,--export-dynamic", f"-Wl,-rpath,{sysconfig.get_config_var('LIBDIR')}"]


def compile_launcher(target: Path, home: str) -> None:
    """Make the launcher `target` for the library in `home`. Raises CalledProcessError, FileNotFoundError."""
    places = {
        "HOME": home,
        "STDLIB": sysconfig.get_path(
            "stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}
        ),
        "PYTHON": python(),
        "PYTHON_PREFIX": sys.base_prefix,
    }
    for place in places.values():
        if any(character in place for character in '"\\\n') or not place.isascii():
            raise ValueError(f"{place!r} cannot stand in a C string")
    with tempfile.TemporaryDirectory() as folder:
        frozen = Path(folder, "frozen.c")
        frozen.write_text(frozen_source())
        subprocess.run(
            [
                "cc",
                *FLAGS,
                *(f'-D{name}="{place}"' for name, place in places.items()),
                "-isystem",
                sysconfig.get_path("include", vars={"installed_base": sys.base_prefix}),
                "-o",
                str(target),
                str(HERE / "launcher.c"),
                str(frozen),
                *link_flags(),
            ],
            check=True,
        )
