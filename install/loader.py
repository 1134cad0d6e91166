"""The loader of the code archive (install/archive.py): imports modules from memory, their dependencies first.

It is the first code in the archive; the launcher (launcher.c) runs it with `DATA` (the whole archive), `START`
(where the modules' code begins in it) and `INDEX`, and then calls `load`. Importing some 60 modules by way of
importlib takes 4 ms, this way 2.7 ms; the import statements in the modules' code then find everything in
sys.modules. An import inside a function comes through the finder, which is on sys.meta_path for that.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    DATA: memoryview
    START: int
    #: name → (is a package, file, offset, length, names of the archive's modules that it imports at once)
    INDEX: dict[str, tuple[bool, str, int, int, tuple[str, ...]]]

modules = sys.modules
new_module = type(sys)


def load(name: str) -> ModuleType:
    """The module `name`, which must be in the index, imported as the import statement would."""
    is_package, file, _, length, _ = INDEX[name]
    if not length:
        __import__(name)
        return modules[name]
    parent, _, child = name.rpartition(".")
    if parent and parent not in modules:
        load(parent)
    module = new_module(name)
    names = module.__dict__
    names["__file__"] = file
    names["__package__"] = name if is_package else parent
    if is_package:
        names["__path__"] = [file[: file.rfind("/")]]
    modules[name] = module
    try:
        run(name, names)
    except BaseException:
        modules.pop(name, None)
        raise
    if parent:
        setattr(modules[parent], child, module)
    return module


def run(name: str, names: dict[str, object]) -> None:
    """Import what the module `name` needs, then execute its code with `names` as its globals."""
    _, _, offset, length, needs = INDEX[name]
    for need in needs:
        if need not in modules:
            load(need)
    offset += START
    exec(loads(DATA[offset : offset + length]), names)


class Finder:
    """Finder and loader (importlib's protocols) for import statements that `load` did not foresee."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of module `name` if the archive knows it."""
        if name not in INDEX:
            return None
        is_package, file, _, length, _ = INDEX[name]
        loader: Any = Finder if length else ExtensionFileLoader(name, file)
        spec = ModuleSpec(name, loader, origin=file, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [file[: file.rfind("/")]]
        return spec

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Let importlib make the module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Run the module's code."""
        run(module.__name__, module.__dict__)


sys.meta_path.insert(0, Finder)
