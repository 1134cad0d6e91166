"""Masked and read-only paths (config-linux.md "Masked Paths", "Readonly Paths").

Runs inside, after the switch of the root and after everything that writes to what gets closed here. First the
read-only paths, then the masks: a clone of /proc/sys made read-only brings no mask along, and no
mask ends up below a clone.
"""

from __future__ import annotations

from errno import EBADF, ELOOP, ENODEV, ENOENT, ENOTDIR
from stat import S_IFCHR

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from pyrunc.linux.devices import plan_verify
from pyrunc.linux.mounts.facts import destination_of
from pyrunc.linux.mounts.points import STRAIGHT, Points
from pyrunc.linux.namespaces import has
from pyrunc.plan.program import NE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

_MASKED: Final = "linux.maskedPaths"
_READONLY: Final = "linux.readonlyPaths"
#: A path that does not exist is skipped: the lists of engines name what other kernels have.
_MISSING: Final = (ENOENT, ENOTDIR)


def check(config: Config, host: Host, report: Report) -> None:
    """Paths are absolute, and mounts need a mount namespace."""
    linux = config.get("linux", {})
    for where, paths in ((_MASKED, linux.get("maskedPaths")), (_READONLY, linux.get("readonlyPaths"))):
        if paths and not has(config, "mount"):
            report.error(
                where,
                "unable to restrict sys entries without a private MNT namespace",
                'add {"type": "mount"} to linux.namespaces',
            )
        for index, path in enumerate(paths or ()):
            if "\0" in path:
                report.error(f"{where}[{index}]", "contains a NUL byte")
            elif not path.startswith("/"):
                report.error(f"{where}[{index}]", f'"{path}" is not absolute')


def plan(config: Config, host: Host, program: Program) -> None:
    """Emit making paths read-only, then hiding paths."""
    linux = config.get("linux", {})
    masked = linux.get("maskedPaths") or ()
    readonly = linux.get("readonlyPaths") or ()
    if not masked and not readonly:
        return
    root = program.register()
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    program.call("openat", AT_FDCWD, "/", flags, step="open / of the container", of=_MASKED, into=root)
    points = Points(program, root)
    below = [destination_of(mount) for mount in config.get("mounts") or ()] if host.old_mounts else []
    for index, path in enumerate(readonly):
        _plan_readonly(points, path, f"{_READONLY}[{index}]")
        # mount(2) makes read-only one mount at a time (mounts/old.py).
        for inner in below:
            if inner.startswith(path.rstrip("/") + "/"):
                _plan_readonly(points, inner, f"{_READONLY}[{index}]")
    if masked:
        _plan_masks(config, points, masked)
    points.close(root)


def plain(path: str) -> str:
    """`path` without slashes at its end, behind which a file would look like one that is missing."""
    return path.rstrip("/") or "/"


def _plan_readonly(points: Points, path: str, of: str) -> None:
    """Emit covering `path` with a read-only clone of itself and of all that is mounted below."""
    program = points.program
    path = plain(path)
    step = f"make {path} read-only"
    point, tree = program.register(), program.register()
    missing = program.label()
    points.open(path, O_PATH, point, step=step, of=of, tolerate=_MISSING, otherwise=missing)
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    program.call("open_tree", point, "", flags, step=step, of=of, into=tree)
    points.change(tree, set_=MOUNT_ATTR_RDONLY, recursive=True, step=step, of=of)
    points.move(tree, point, step=step, of=of)
    points.close(tree, point)
    program.place(missing)


def _plan_masks(config: Config, points: Points, paths: list[str]) -> None:
    """Emit covering files with the null device and directories with one empty read-only tmpfs, cloned for each."""
    program = points.program
    null, sound = program.register(), program.register()
    # Looked at once, by descriptor: another container that shares /dev must not make it something else between
    # the look and the mount (CVE-2025-31133). What is wrong with it matters only if there is a file to hide.
    different = program.label()
    step = "open /dev/null for masked paths"
    program.set(sound, 0)
    unsound = (*_MISSING, ELOOP)
    points.open(
        "/dev/null",
        O_PATH,
        null,
        step=step,
        of=_MASKED,
        resolve=STRAIGHT,
        tolerate=unsound,
        otherwise=different,
    )
    plan_verify(program, null, "", S_IFCHR, 1, 3, different, step, _MASKED)
    program.set(sound, 1)
    program.place(different)
    empty, attached = _plan_empty(config, program), program.register()
    program.set(attached, 0)
    for index, path in enumerate(paths):
        _plan_mask(points, path, empty, attached, null, sound, f"{_MASKED}[{index}]")
    program.call("close", null, step="close /dev/null", tolerate=(EBADF,))
    program.release(null, sound, attached)
    points.close(empty)


def _plan_mask(
    points: Points, path: str, empty: Register, attached: Register, null: Register, sound: Register, of: str
) -> None:
    """Emit hiding `path`.

    Before Linux 6.15 open_tree(2) clones only what is attached, so the first directory gets the empty one
    itself, and the others clones of that. Few descriptors are open at any time: the container's limit may be low.
    """
    program = points.program
    path = plain(path)
    step = f"hide {path}"
    point, cover = program.register(), program.register()
    file, usable, clone = program.label(), program.label(), program.label()
    attach, done, missing = program.label(), program.label(), program.label()
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
    points.open(path, O_PATH | O_DIRECTORY, point, step=step, of=of, tolerate=_MISSING, otherwise=file)
    program.branch(attached, NE, 0, clone)
    points.move(empty, point, step=step, of=of)
    program.set(attached, 1)
    program.jump(done)
    program.place(clone)
    program.call("open_tree", empty, "", flags, step=step, of=of, into=cover)
    program.jump(attach)
    program.place(file)
    points.open(path, O_PATH, point, step=step, of=of, tolerate=_MISSING, otherwise=missing)
    program.branch(sound, NE, 0, usable)
    program.fail(ENODEV, f"{step}: /dev/null of the container is not the null device", of)
    program.place(usable)
    program.call("open_tree", null, "", flags, step=step, of=of, into=cover)
    program.place(attach)
    points.move(cover, point, step=step, of=of)
    points.close(cover)
    program.place(done)
    points.close(point)
    program.place(missing)


def _plan_empty(config: Config, program: Program) -> Register:
    """Emit making a tmpfs with room for nothing but its root, mounted nowhere yet."""
    context, mount = program.register(), program.register()
    step = "make the empty directory for masked paths"
    program.call("fsopen", "tmpfs", FSOPEN_CLOEXEC, step=step, of=_MASKED, into=context)
    settings: list[tuple[str, str | None]]
    settings = [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1"), ("mode", "0755")]
    if config.get("linux", {}).get("mountLabel"):
        from pyrunc.linux import selinux

        settings = selinux.with_context(config, "tmpfs", settings)
    for name, value in settings:
        assert value is not None
        program.call("fsconfig", context, FSCONFIG_SET_STRING, name, value, 0, step=step, of=_MASKED)
    program.call("fsconfig", context, FSCONFIG_CMD_CREATE, 0, 0, 0, step=step, of=_MASKED)
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    program.call("fsmount", context, FSMOUNT_CLOEXEC, attributes, step=step, of=_MASKED, into=mount)
    program.call("close", context, step="close the file system context")
    program.release(context)
    return mount
