"""What init asks of the runtime while it mounts: filling a tmpfs (`tmpcopyup`), mapping the ids of a mount."""

from __future__ import annotations

import os
from errno import EINVAL, EPERM
from struct import pack, unpack

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import AT_EMPTY_PATH, AT_RECURSIVE, CLONE_NEWUSER, MOUNT_ATTR_IDMAP
from pyrunc.kernel.mountinfo import mounts
from pyrunc.kernel.native import syscall
from pyrunc.linux.idmap import write_map
from pyrunc.linux.limits import RLIMITS
from pyrunc.linux.mounts import idmapped
from pyrunc.linux.mounts.explain import subject
from pyrunc.linux.mounts.facts import is_bind, source_of
from pyrunc.linux.mounts.options import parse
from pyrunc.plan.program import TALK, Program
from pyrunc.plan.talk import SAY_COPY, SAY_IDMAP, hear
from pyrunc.spawn.init import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Mount
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.linux.mounts.options import Options
    from pyrunc.spawn.conversation import Conversation


#: Descriptors of init besides those of its mounts: a namespace, a cgroup hierarchy, a hook each, and so on.
OTHERS: Final = 256


def serve(
    program: Program, config: Config, bundle: str, talk: Conversation, manager: Manager, init: int
) -> None:
    """Do what init, process `init`, asks for each mount, in their order. Raises PyruncError."""
    spaces = Spaces(init)
    try:
        for said, value in program.given:
            if said == SAY_COPY and value % 2 == 0:
                from pyrunc.linux.mounts import copyup

                copyup.serve(config, talk, manager, init, value // 2)
            elif said == SAY_IDMAP:
                tree = talk.expect(SAY_IDMAP, value).descriptor
                try:
                    map_ids(config, bundle, value, tree, spaces)
                finally:
                    os.close(tree)
                talk.go()
    finally:
        spaces.close()


def let_open(pid: int, count: int) -> bytes:
    """Let process `pid` hold `count` descriptors open, and the few others that it has. Returns its limits before.

    Raises KernelError.
    """
    before = bytearray(16)
    step = f"let init open the sources of {count} mounts"
    try:
        syscall("prlimit64", pid, RLIMITS["RLIMIT_NOFILE"], None, before)
        soft, hard = unpack("<QQ", before)
        wanted = max(soft, count + OTHERS)
        limits = pack("<QQ", wanted, max(hard, wanted))
        syscall("prlimit64", pid, RLIMITS["RLIMIT_NOFILE"], limits, None)
    except OSError as error:
        remedy = f"raise the hard limit of open files (ulimit -Hn) or fs.nr_open to {count + OTHERS}"
        raise KernelError.of(step, error, remedy=remedy) from error
    return bytes(before)


def take_back(pid: int, limits: bytes) -> None:
    """Undo `let_open`. Raises KernelError."""
    try:
        syscall("prlimit64", pid, RLIMITS["RLIMIT_NOFILE"], limits, None)
    except OSError as error:
        raise KernelError.of("take init's limit of open files back", error) from error


class Spaces:
    """User namespaces by their maps: one for all mounts that have the same, and the container's own.

    The container's is that of process `init`, or the descriptor `own` if that is one; it is closed with the others.
    """

    def __init__(self, init: int, own: int = -1) -> None:
        self._init = init
        self._opened: dict[tuple[str, str] | None, int] = {None: own} if own >= 0 else {}

    def get(self, maps: tuple[str, str] | None) -> int:
        """The descriptor of a user namespace with these contents of uid_map and gid_map; None: the container's."""
        known = self._opened.get(maps)
        if known is None:
            known = _open(self._init) if maps is None else _make(*maps)
            self._opened[maps] = known
        return known

    def close(self) -> None:
        """Close the descriptors; the namespaces live on in the mounts."""
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened = {}


def _open(pid: int) -> int:
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _make(uids: str, gids: str) -> int:
    """A new user namespace with these maps. A process of its own holds it until it is opened."""
    program = Program(0)
    program.set(TALK, program.inherit("talk"))
    hear(program, "wait until the user namespace is opened")
    program.call("exit_group", 0, step="end")
    holder = spawn(program, CLONE_NEWUSER, {})
    try:
        write_map(f"/proc/{holder.pid}/uid_map", uids)
        write_map(f"/proc/{holder.pid}/gid_map", gids)
        return _open(holder.pid)
    finally:
        holder.talk.close()  # it hears that, and ends
        os.close(holder.pidfd)
        os.waitpid(holder.pid, 0)


def map_ids(config: Config, bundle: str, index: int, tree: int, spaces: Spaces) -> None:
    """Map the ids of the detached mount `tree`, number `index` of the config. Raises KernelError."""
    mount = config["mounts"][index]
    options = parse(mount.get("options") or ())
    step = f"mounts[{index}]: map the ids of {subject(mount)}"
    space = spaces.get(idmapped.texts_of(config, mount, options))
    flags = AT_EMPTY_PATH | AT_RECURSIVE if options.idmap_all else AT_EMPTY_PATH
    attributes = pack("<QQQQ", MOUNT_ATTR_IDMAP, 0, 0, space)
    try:
        syscall("mount_setattr", tree, b"", flags, attributes, len(attributes))
    except OSError as error:
        remedy = _remedy(error.errno or 0, mount, bundle, options)
        raise KernelError.of(step, error, remedy=remedy) from error


def _remedy(number: int, mount: Mount, bundle: str, options: Options) -> str:
    """What an errno of mount_setattr(2) with MOUNT_ATTR_IDMAP means."""
    kind = _type_at(source_of(mount, bundle)) if is_bind(mount) else mount.get("type", "")
    below = ", or one mounted below it," if options.idmap_all else ""
    if number == EINVAL:
        return (
            f"this kernel cannot map the ids of the file system {kind}{below}; ext4, xfs, btrfs, tmpfs and others on "
            "disks it can, overlay, proc and sysfs it cannot"
        )
    if number == EPERM:
        return (
            f"the source{below} is id-mapped already, or its file system {kind} belongs to a user namespace in which "
            "pyrunc is not root"
        )
    return ""


def _type_at(path: str) -> str:
    """The type of the file system that `path` is in, by its device."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return "of the source"
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts():
        if mount.device == wanted:
            return mount.kind
    return "of the source"
