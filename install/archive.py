"""Makes the code archive: every module of pyrunc compiled into one file, which the launcher reads in one go.

    0   the interpreter's magic number, padded with zeros to 8 bytes
    8   the size of the file, 8 bytes
    16  where the modules' code begins, 8 bytes
    24  one marshalled pair: the code of install/loader.py, and the index (there)
    …   the marshalled code of each module

The launcher refuses a file that another interpreter made, or that is cut short.

Compiled with optimize=2, that is without assertions and docstrings, and without what only type checkers need:
annotations of functions and of plain names, the `TYPE_CHECKING` blocks, the import of `__future__`.
Tracebacks still name the .py file and the line. `python -X no_debug_ranges` leaves out the columns, which are a
quarter of the file.
"""

from __future__ import annotations
import __future__

import ast
import marshal
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

HERE = Path(__file__).resolve().parent
HEADER_SIZE = 24
#: What belongs to the build and to type checkers, and is never imported by the installed pyrunc.
BUILD_ONLY = frozenset(
    ("pyrunc.native.build", "pyrunc.native.build_ffi", "pyrunc.cli.build", "pyrunc.validate.compile")
)


class _OnlyWhatRuns(ast.NodeTransformer):
    """Takes out what has no effect at run time."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module == "struct":
            node.module = "_struct"  # where struct.py has everything from; built in, so no folder is searched
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse or None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None or not isinstance(node.target, ast.Name):
            return node
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # The annotations of a class may mean something (NamedTuple); those of its methods never do here.
        visited = [item if isinstance(item, ast.AnnAssign) else self.visit(item) for item in node.body]
        node.body = [item for item in visited if item] or [ast.Pass()]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            argument.annotation = None
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                rest.annotation = None
        self.generic_visit(node)
        return node


def parsed(source: Path, shown: str) -> ast.Module:
    """The syntax tree of `source`, called `shown` in error messages, without what has no effect at run time."""
    tree = _OnlyWhatRuns().visit(ast.parse(source.read_text(encoding="utf-8"), shown))
    assert isinstance(tree, ast.Module)
    return ast.fix_missing_locations(tree)


def compiled(tree: ast.Module, shown: str) -> CodeType:
    """The code of `tree`, with `shown` as the file name in tracebacks."""
    flag = __future__.annotations.compiler_flag
    code: CodeType = compile(tree, shown, "exec", flags=flag, dont_inherit=True, optimize=2)
    return code


def modules(package: Path) -> Iterator[tuple[str, bool, Path]]:
    """(name, is a package, file) of every module below the folder `package` that is needed at run time."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        if name not in BUILD_ONLY:
            yield name, is_package, path


def needs(tree: ast.Module, known: frozenset[str]) -> tuple[str, ...]:
    """The modules among `known` that the module imports at once, in its order."""
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module] = None
            found.update((f"{node.module}.{alias.name}", None) for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update((alias.name, None) for alias in node.names)
    return tuple(name for name in found if name in known)


def archive(package: Path, home: str, extensions: dict[str, str]) -> bytes:
    """The archive of the package in the folder `package`, to be installed in the folder `home`.

    `extensions` maps the names of extension modules that the start-up needs to their files, so that no folder is
    searched for them.
    """
    found = list(modules(package))
    known = frozenset((*(name for name, _, _ in found), *extensions))
    index: dict[str, tuple[bool, str, int, int, tuple[str, ...]]] = {}
    bodies = bytearray()
    for name, is_package, path in found:
        shown = f"{home}/{path.relative_to(package.parent)}"
        tree = parsed(path, shown)
        body = marshal.dumps(compiled(tree, shown))
        index[name] = (is_package, shown, len(bodies), len(body), needs(tree, known - {name}))
        bodies += body
    for name, file in extensions.items():
        index[name] = (False, file, 0, 0, ())
    loader = HERE / "loader.py"
    head = marshal.dumps((compiled(parsed(loader, f"{home}/loader.py"), f"{home}/loader.py"), index))
    start = HEADER_SIZE + len(head)
    numbers = (start + len(bodies)).to_bytes(8, "little") + start.to_bytes(8, "little")
    return MAGIC_NUMBER.ljust(8, b"\0") + numbers + head + bytes(bodies)
