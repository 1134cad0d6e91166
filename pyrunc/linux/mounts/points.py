"""Mount points: opening them inside the container's root, making them where they are missing.

The image is hostile: any component of a path may be a symbolic link to an absolute path, to `..` or to a
magic link of procfs, and another container that shares a volume may exchange it at any moment. So every path is
resolved by openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS from the root's descriptor, missing
parts are made one by one relative to descriptors that were found that way, and what gets mounted is moved
onto the very descriptor that was opened and looked at, never onto a path.
"""

from __future__ import annotations

from errno import EEXIST, ELOOP, ENOENT, EPERM
from stat import S_IFREG
from struct import pack

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    PROC_SUPER_MAGIC,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
)
from pyrunc.kernel.structs import MOUNT_ATTR_SIZE, OPEN_HOW_SIZE, STATFS_SIZE
from pyrunc.linux.file_system import plan_magic
from pyrunc.plan.program import GE, NE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Label, Program, Register, Text

#: Symbolic links are followed, within the root.
INSIDE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
#: No symbolic link is followed anywhere on the path.
STRAIGHT: Final = INSIDE | RESOLVE_NO_SYMLINKS
#: How many directories are kept open for the mounts in them.
HOLDERS_MAX: Final = 8
ONTO: Final = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH


class Points:
    """The container's root while things are mounted in it.

    `root`: the register that holds its descriptor. A mount on `/` puts its own descriptor there.
    """

    __slots__ = ("_attributes", "_covered", "_holders", "_hows", "_made", "_statfs", "program", "root")

    def __init__(self, program: Program, root: Register) -> None:
        self.program = program
        self.root = root
        self._hows: dict[tuple[int, int], int] = {}
        self._attributes: dict[tuple[int, int, int], int] = {}
        self._made: set[str] = set()
        self._covered: set[str] = set()
        self._holders: dict[str, Register] = {}
        self._statfs = 0

    # -- structures, one for all who need the same ------------------------------------------------------

    def how(self, flags: int, resolve: int) -> int:
        """The address of a struct open_how (openat2(2))."""
        known = self._hows.get((flags, resolve))
        if known is None:
            known = self.program.data(pack("<QQQ", flags | O_CLOEXEC, 0, resolve))
            self._hows[flags, resolve] = known
        return known

    def attributes(self, set_: int, clear: int, propagation: int) -> int:
        """The address of a struct mount_attr (mount_setattr(2))."""
        known = self._attributes.get((set_, clear, propagation))
        if known is None:
            known = self.program.data(pack("<QQQQ", set_, clear, propagation, 0))
            self._attributes[set_, clear, propagation] = known
        return known

    # -- calls ------------------------------------------------------------------------------------------

    def open(
        self,
        path: str,
        flags: int,
        into: Register,
        *,
        step: str,
        of: str,
        resolve: int = INSIDE,
        tolerate: tuple[int, ...] = (),
        otherwise: Label | None = None,
    ) -> None:
        """Emit opening `path` inside the root."""
        self.program.call(
            "openat2",
            self.root,
            path,
            self.how(flags, resolve),
            OPEN_HOW_SIZE,
            step=step,
            of=of,
            into=into,
            tolerate=tolerate,
            otherwise=otherwise,
        )

    def change(
        self,
        mount: Register,
        *,
        step: str,
        of: str,
        set_: int = 0,
        clear: int = 0,
        propagation: int = 0,
        recursive: bool = False,
    ) -> None:
        """Emit changing the attributes of the mount that the descriptor `mount` is the root of."""
        flags = AT_EMPTY_PATH | AT_RECURSIVE if recursive else AT_EMPTY_PATH
        address = self.attributes(set_, clear, propagation)
        self.program.call("mount_setattr", mount, "", flags, address, MOUNT_ATTR_SIZE, step=step, of=of)

    def move(self, mount: Register, point: Register, *, step: str, of: str) -> None:
        """Emit attaching a detached mount on the opened mount point."""
        self.program.call("move_mount", mount, "", point, "", ONTO, step=step, of=of)

    def close(self, *registers: Register, step: str = "close a descriptor") -> None:
        """Emit closing descriptors, and give their registers back."""
        for register in registers:
            self.program.call("close", register, step=step)
            self.program.release(register)

    # -- mount points -----------------------------------------------------------------------------------

    def parent(self, path: str, *, step: str, of: str) -> tuple[Register, str]:
        """Emit opening the directory that `path` is in, making what is missing of it (0755).

        Returns the register of its descriptor, which the caller closes unless it is `self.root`, and the
        last component of the path.
        """
        directory, _, name = path.rpartition("/")
        if not directory:
            return self.root, name
        if directory not in self._made:
            self._make_directories(directory, step, of)
        into = self.program.register()
        self.open(directory, O_PATH | O_DIRECTORY, into, step=step, of=of)
        return into, name

    def _make_directories(self, path: str, step: str, of: str) -> None:
        """Emit making every missing directory of `path`, each in the directory opened before it."""
        program = self.program
        done = program.label()
        found = program.register()
        self.open(path, O_PATH | O_DIRECTORY, found, step=step, of=of, tolerate=(ENOENT,))
        program.branch(found, GE, 0, done)
        place = path.find("/", 1)
        while True:
            prefix = path if place < 0 else path[:place]
            if prefix not in self._made:
                holder, name = self.parent(prefix, step=step, of=of)
                program.call("mkdirat", holder, name, 0o755, step=step, of=of, tolerate=(EEXIST,))
                if holder is not self.root:
                    self.close(holder)
                self._made.add(prefix)
            if place < 0:
                break
            place = path.find("/", place + 1)
        self.open(path, O_PATH | O_DIRECTORY, found, step=step, of=of)
        program.place(done)
        self.close(found)

    def point(
        self,
        path: str,
        *,
        step: str,
        of: str,
        directory: bool = True,
        straight: bool = False,
        made: Register | None = None,
    ) -> Register:
        """Emit opening `path` as a mount point, making it (a directory or an empty file) where it is missing.

        `straight`: refuse symbolic links. `made` is set to 0 if the last component was made, else to
        something negative. Returns the register of the descriptor; for `/` that is `self.root` itself.
        """
        if path == "/":
            if made is not None:
                self.program.set(made, -1)
            return self.root
        program = self.program
        if straight:
            into = program.register()
            holder, name = self.holder(path, step, of)
            self.straight_point(holder, name, into, step=step, of=of, directory=directory, made=made)
            return into
        if made is not None:
            program.set(made, -1)
        into = program.register()
        found = program.label()
        # Without symbolic links the destination is where its text says, and `check` has judged the text.
        self.open(path, O_PATH, into, step=step, of=of, resolve=STRAIGHT, tolerate=(ENOENT, ELOOP))
        program.branch(into, GE, 0, found)
        holder, name = self.parent(path, step=step, of=of)
        self._make(holder, name, directory, made, step, of)
        if holder is not self.root:
            self.close(holder)
        self.open(path, O_PATH, into, step=step, of=of)
        self._refuse_proc(into, found, step, of)
        program.place(found)
        return into

    def straight_point(
        self,
        holder: Register,
        name: Text,
        into: Register,
        *,
        step: str,
        of: str,
        directory: bool = True,
        made: Register | None = None,
    ) -> None:
        """As `point` with `straight`, for `name` in the directory `holder`.

        Making what exists already costs less than looking first: EEXIST comes before any other refusal.
        """
        self._make(holder, name, directory, made, step, of)
        how = self.how(O_PATH, STRAIGHT)
        self.program.call("openat2", holder, name, how, OPEN_HOW_SIZE, step=step, of=of, into=into)

    def _make(
        self, holder: Register, name: Text, directory: bool, made: Register | None, step: str, of: str
    ) -> None:
        if directory:
            self.program.call("mkdirat", holder, name, 0o755, step=step, of=of, tolerate=(EEXIST,), into=made)
        else:
            mode = S_IFREG | 0o644
            self.program.call(
                "mknodat", holder, name, mode, 0, step=step, of=of, tolerate=(EEXIST,), into=made
            )

    def holder(self, path: str, step: str, of: str) -> tuple[Register, str]:
        """Emit opening the directory that `path` is in, without symbolic links, unless that was done before.

        As `parent`, but mounts beside each other share it: it stays open until something covers it, or until
        `finish`. The caller does not close it.
        """
        path, _, name = path.rpartition("/")
        if not path:
            return self.root, name
        known = self._holders.get(path)
        if known is None:
            if len(self._holders) == HOLDERS_MAX:
                self.close(self._holders.pop(next(iter(self._holders))))
            if path not in self._made:
                self._make_directories(path, step, of)
            known = self.program.register()
            self.open(path, O_PATH | O_DIRECTORY, known, step=step, of=of, resolve=STRAIGHT)
            self._holders[path] = known
        return known, name

    def _refuse_proc(self, point: Register, fine: Label, step: str, of: str) -> None:
        """Emit failing where symbolic links have led into procfs.

        What is mounted over files of /proc redirects what the runtime itself and security modules write there
        (CVE-2019-16884, CVE-2025-52881).
        """
        program = self.program
        if not self._statfs:
            self._statfs = program.buffer(STATFS_SIZE)
        kind = program.register()
        plan_magic(program, point, kind, step, of, self._statfs)
        program.branch(kind, NE, PROC_SUPER_MAGIC, fine)
        program.fail(EPERM, f"{step}: its symbolic links lead into /proc", of)
        program.release(kind)

    def covered(self, path: str, given: str = "") -> None:
        """Note that something was mounted on `path`: what is known of the directories below is void.

        `given`: the destination of the config, where links of the image led from there to `path`.
        """
        self._covered.add(path)
        self._covered.add(given or path)
        if path in self._made or path == "/":
            self._made.clear()
        below = "/" if path == "/" else path + "/"
        for directory in tuple(self._holders):
            if f"{directory}/".startswith(below):
                self.close(self._holders.pop(directory))

    def is_covered(self, path: str) -> bool:
        """Whether `path` lies in something that was mounted before, rather than in the image."""
        if "/" in self._covered:
            return True
        path = path.rpartition("/")[0]
        while path:
            if path in self._covered:
                return True
            path = path.rpartition("/")[0]
        return False

    def finish(self) -> None:
        """Emit closing the directories that were kept open."""
        while self._holders:
            self.close(self._holders.popitem()[1])
