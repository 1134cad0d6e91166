"""Bind mounts: a clone of the source's tree, changed while nobody sees it, moved onto the mount point."""

from __future__ import annotations

from errno import EINVAL

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_RDONLY,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    PROC_SUPER_MAGIC,
)
from pyrunc.linux.file_system import plan_magic
from pyrunc.plan.program import EQ, Blank, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.mounts.options import Options
    from pyrunc.linux.mounts.points import Points
    from pyrunc.plan.program import Pattern, Program, Text


def open_source(
    program: Program, source: Text | Register, options: Options, into: Register, step: str, of: str
) -> None:
    """Emit cloning the mount (with `rbind`: the tree of mounts) at the host path, or descriptor, `source`."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if options.recursive else 0)
    if isinstance(source, Register):
        program.call("open_tree", source, "", flags | AT_EMPTY_PATH, step=step, of=of, into=into)
    else:
        program.call("open_tree", AT_FDCWD, source, flags, step=step, of=of, into=into)


def require_proc(program: Program, tree: Register, step: str, of: str) -> None:
    """Emit failing unless the tree is procfs: nothing else may take the place of /proc (CVE-2019-16884)."""
    kind = program.register()
    fine = program.label()
    plan_magic(program, tree, kind, step, of)
    program.branch(kind, EQ, PROC_SUPER_MAGIC, fine)
    program.fail(EINVAL, f"{step}: it is not of type proc", of)
    program.place(fine)
    program.release(kind)


def change_tree(points: Points, tree: Register, options: Options, late: bool, step: str, of: str) -> None:
    """Emit what the options ask of a mount that is not attached yet, so that it never shows without them.

    First the tree below, then the mount itself, so that `rro` and `rw` together mean what they say. Only what is
    asked for is changed: what the source's own mount forbids (nosuid, nodev, ...) stays forbidden. `late`
    leaves read-only to `plan_late`.
    """
    if options.set_all or options.clear_all:
        points.change(
            tree,
            set_=options.set_all,
            clear=options.clear_all,
            recursive=True,
            step=f"{step}: set the recursive options",
            of=of,
        )
    set_ = options.set & ~MOUNT_ATTR_RDONLY if late else options.set
    propagation = options.propagation
    if set_ or options.clear:
        # One call for both where the propagation is not recursive.
        first = 0
        if propagation and not propagation[0][1]:
            first, propagation = propagation[0][0], propagation[1:]
        points.change(
            tree, set_=set_, clear=options.clear, propagation=first, step=f"{step}: set the options", of=of
        )
    for kind, recursive in propagation:
        points.change(tree, propagation=kind, recursive=recursive, step=f"{step}: set the propagation", of=of)


class Alike:
    """Bind mounts straight on the image, where the steps of one are those of the next but for two arguments.

    They are compiled once for each combination of options, directory that holds the mount points, and kind
    of mount point.
    """

    __slots__ = ("_patterns", "_point", "_points", "_tree")

    def __init__(self, points: Points) -> None:
        self._points = points
        self._patterns: dict[tuple[Options, int, bool, bool], Pattern] = {}
        # Taken for as long as patterns use them.
        self._point = points.program.register()
        self._tree = points.program.register()

    def plan(
        self, source: str | int, options: Options, path: str, *, directory: bool, step: str, of: str
    ) -> None:
        """Emit mounting `source` (a path, or the address that holds its tree's descriptor) on `path`."""
        holder, name = self._points.holder(path, step, of)
        opened = isinstance(source, int)
        shape = options, holder.index, directory, opened
        pattern = self._patterns.get(shape)
        if pattern is None:
            pattern = self._points.program.pattern(lambda: self._emit(holder, options, directory, opened))
            self._patterns[shape] = pattern
        self._points.program.fill(pattern, step, of, name, source)

    def _emit(self, holder: Register, options: Options, directory: bool, opened: bool) -> None:
        name, source = Blank(0), Blank(1)
        points, point, tree = self._points, self._point, self._tree
        points.straight_point(holder, name, point, step="", of="", directory=directory)
        if opened:
            points.program.load(tree, source, 8)
        else:
            open_source(points.program, source, options, tree, "", "")
        change_tree(points, tree, options, False, "", "")
        points.move(tree, point, step="", of="")
        for register in (tree, point):
            points.program.call("close", register, step=": close a descriptor")

    def finish(self) -> None:
        """Give the registers back; no more mounts."""
        self._points.program.release(self._tree, self._point)
