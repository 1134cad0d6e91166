"""The host's device nodes, which are bind-mounted where a user namespace lets nobody make any (user_namespaces(7)).

That of a device is looked for at the device's own path, then where udev(7) links every node by its number.
"""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL
from stat import S_IFIFO, S_IFMT, S_IFREG

from pyrunc.errors import kernel_word
from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    O_NOFOLLOW,
    O_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    STATX_BASIC_STATS,
)
from pyrunc.kernel.structs import OPEN_HOW_SIZE, STATX_AT_MODE, STATX_AT_SIZE, STATX_SIZE
from pyrunc.linux.devices import KINDS, are_bound, number_of, numbers, path_of, plan_refuse, plan_verify
from pyrunc.linux.idmap import host_id
from pyrunc.linux.mounts.points import STRAIGHT
from pyrunc.linux.namespaces import has, is_new
from pyrunc.plan.program import BITS, EQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Union

    from pyrunc.config.spec import Config, Device
    from pyrunc.linux.mounts.points import Points
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Label, Program, Register
    from pyrunc.validate.report import Report

    Nodes = dict[str, Union["Node", int]]

#: Where udev(7) links the nodes by number, by their type.
BY_NUMBER: Final = {"b": "/dev/block", "c": "/dev/char", "u": "/dev/char"}


class Node:
    """A device node of the host: `path`, and what stat(2) says of it to the caller."""

    __slots__ = ("gid", "mode", "path", "uid")

    def __init__(self, path: str, mode: int, uid: int, gid: int) -> None:
        self.path = path
        self.mode = mode
        self.uid = uid
        self.gid = gid


def nodes(config: Config, host: Host) -> Nodes:
    """Path of each of linux.devices → its node; without one the negated errno of its path, 0 for another file there.

    Only where nodes are bind-mounted, and from where the caller is: of a joined mount namespace only init can tell.
    """
    found: Nodes = {}
    if not (are_bound(config, host) and is_new(config, "mount")):
        return found
    for device in config.get("linux", {}).get("devices") or ():
        kind = KINDS.get(device["type"], S_IFIFO)
        if kind != S_IFIFO and "\0" not in device["path"]:
            found[path_of(device)] = _node(device, kind)
    return found


def _node(device: Device, kind: int) -> Node | int:
    first = 0
    path = path_of(device)
    for place in (path, _by_number(device)):
        try:
            status = os.stat(place)
        except OSError as error:
            if place is path:
                first = -(error.errno or EINVAL)
            continue
        # Init looks again, at what it has opened.
        number = os.major(status.st_rdev), os.minor(status.st_rdev)
        if S_IFMT(status.st_mode) == kind and number == (device.get("major"), device.get("minor")):
            return Node(place, status.st_mode & 0o7777, status.st_uid, status.st_gid)
    return first


def _by_number(device: Device) -> str:
    return f"{BY_NUMBER[device['type']]}/{device.get('major')}:{device.get('minor')}"


def check_node(where: str, device: Device, node: Node | int, config: Config, report: Report) -> None:
    """Refuse a device that the host has no node of; warn of what is asked for and its node does not have."""
    path = path_of(device)
    if isinstance(node, int):
        report.error(
            f"{where}.path",
            f"the host has no {numbers(*number_of(device))} at {path} to bind-mount: "
            + (kernel_word(-node) if node else "a different file"),
            "no node can be made in a user namespace: the host must have it at that path, or as "
            + _by_number(device),
        )
        return
    asked, has_ = [], []
    mode = device.get("fileMode")
    if mode is not None and mode & 0o7777 != node.mode:
        asked.append(f"mode {mode & 0o7777:04o}")
        has_.append(f"mode {node.mode:04o}")
    linux = config.get("linux", {})
    for name, mappings, its in (
        ("uid", linux.get("uidMappings"), node.uid),
        ("gid", linux.get("gidMappings"), node.gid),
    ):
        number = device.get(name)
        if number is None:
            continue
        # What a joined namespace maps is not known; hardly ever the owner of a node of the host.
        outside = host_id(mappings or (), number) if has(config, "user") else number  # type: ignore[arg-type]
        if outside != its:
            asked.append(f"{name} {number}")
            has_.append(f"{name} {its} of the host")
    if asked:
        report.warn(
            where,
            f"{path} keeps {', '.join(has_)}, instead of {', '.join(asked)}: in a user namespace it is the host's "
            f"{node.path}, which is not changed",
        )


def plan_bind(
    points: Points,
    source: str,
    holder: Register,
    name: str,
    path: str,
    of: str,
    kind: int,
    major: int,
    minor: int,
) -> None:
    """Emit bind-mounting the host's node, for where mknod(2) is not allowed (user_namespaces(7)).

    The node, at `source`, keeps its owner and mode, which are the host's.
    """
    program = points.program
    step = f"bind-mount the host's device {path}"
    tree, point = program.register(), program.register()
    fine, different = program.label(), program.label()
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    program.call("open_tree", AT_FDCWD, source, flags, step=step, of=of, into=tree)
    plan_verify(program, tree, "", kind, major, minor, different, step, of)
    program.jump(fine)
    program.place(different)
    program.fail(EINVAL, f"{step}: the host's is not {numbers(kind, major, minor)}", of)
    program.place(fine)
    points.change(tree, set_=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, step=step, of=of)
    program.call("mknodat", holder, name, S_IFREG | 0o666, 0, step=step, of=of, tolerate=(EEXIST,))
    # A symbolic link is opened itself, to be refused as any other file.
    how = points.how(O_PATH | O_NOFOLLOW, STRAIGHT)
    program.call("openat2", holder, name, how, OPEN_HOW_SIZE, step=step, of=of, into=point)
    fine, different = program.label(), program.label()
    _plan_is_empty(program, point, fine, step, of)
    plan_verify(program, point, "", kind, major, minor, different, step, of)
    program.jump(fine)
    program.place(different)
    plan_refuse(program, path, kind, major, minor, of)
    program.place(fine)
    points.move(tree, point, step=step, of=of)
    points.close(tree, point)


def _plan_is_empty(program: Program, point: Register, empty: Label, step: str, of: str) -> None:
    """Emit going to `empty` if `point` is an empty regular file: one made for the mount, here or by an engine."""
    status = program.buffer(STATX_SIZE)
    found = program.register()
    other = program.label()
    program.call("statx", point, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status, step=step, of=of)
    program.load(found, status + STATX_AT_MODE, 2)
    # Of the types only that of regular files has none of these bits.
    program.branch(found, BITS, 0o170000 & ~S_IFREG, other)
    program.load(found, status + STATX_AT_SIZE, 8)
    program.branch(found, EQ, 0, empty)
    program.place(other)
    program.release(found)
