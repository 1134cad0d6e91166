"""The same mounts by mount(2), where a kernel or an outer sandbox lacks the newer calls, or one takes too little.

Rooms emit open_tree(2), fsopen(2), fsmount(2), move_mount(2) and mount_setattr(2). `OldProgram` translates each into
old calls as it is emitted, so that there is one plan of mounts and not two:

* A detached mount becomes one on a *stage*: a private tmpfs on top of `/` that no path leads to (only `/..` does; a
  path from `/` starts below it). It is opened there, changed, and moved to its place with MS_MOVE.
* A descriptor becomes a path below the host's /proc, which is opened before anything else: `self/fd/N` from there
  leads to the very mount and directory that N was opened as, whatever the container has at /proc.
* mount(2) sets all flags of a mount at once where mount_setattr(2) changes some: what is there is read with
  fstatfs(2) and combined by tables, a byte at a time.

What mount(2) cannot do at all (mounts below, ids, a shared root) `check` refuses where it would be needed.
"""

from __future__ import annotations

from errno import ENOTDIR
from stat import S_IFREG
from struct import pack, unpack_from

from pyrunc.kernel import constants as k
from pyrunc.kernel.structs import STATFS_AT_FLAGS, STATFS_SIZE
from pyrunc.linux.mounts.flags import Context, flags_from, flags_of
from pyrunc.plan.program import ARENA, GE, LT, NE, Program, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.plan.program import Argument, Label

#: The calls that methods of `OldProgram` stand for, each by its name.
_TRANSLATED: Final = frozenset(
    ("fsconfig", "fsmount", "fsopen", "fspick", "mount_setattr", "move_mount", "open_tree")
)
_DIRECTORY: Final = k.O_PATH | k.O_DIRECTORY | k.O_CLOEXEC


class OldProgram(Program):
    """A program in which mounts are made by mount(2): all of them, or while `translating` is set.

    `owner`: the uid and gid that init has while it mounts, as its user namespace counts.
    """

    def __init__(self, first_slot: int, owner: tuple[int, int], *, translating: bool) -> None:
        super().__init__(first_slot)
        self.translating = self._everything = translating
        self._owner = owner
        self._mount = self._point = self._stage = self._root = self._proc = -1
        self._contexts: dict[int, Context] = {}
        self._cwd: tuple[str, Argument] | None = None
        self._is_staged = False
        self._is_inside = False
        self._is_begun = False
        self._count = 0
        self._statfs = 0
        self._tables: dict[tuple[int, ...], int] = {}

    def call(
        self,
        name: str,
        *args: Argument,
        step: str,
        of: str = "",
        into: Register | None = None,
        tolerate: tuple[int, ...] = (),
        otherwise: Label | None = None,
    ) -> None:
        """As `Program.call`; the calls of the new mount interface become old ones."""
        if not self._is_begun:
            self._begin()
        if name == "close" and isinstance(args[0], Register) and args[0].index in self._contexts:
            del self._contexts[args[0].index]
            return
        if name in ("fchdir", "chdir"):
            self._cwd = name, args[0]
        elif name in ("pivot_root", "chroot", "close_range"):
            # Before the root changes, for the stage is on top of it; and where no more mounts come.
            self._leave_stage()
            self._is_inside = name != "close_range"
        how = {"step": step, "of": of, "into": into, "tolerate": tolerate, "otherwise": otherwise}
        if name in _TRANSLATED and (self.translating or self._is_ours(name, args)):
            getattr(self, f"_{name}")(args, how)
        else:
            super().call(name, *args, **how)  # type: ignore[arg-type]

    def _is_ours(self, name: str, args: tuple[Argument, ...]) -> bool:
        """Whether the call is about a file system context that exists only here."""
        context = args[0]
        return (
            name in ("fsconfig", "fsmount")
            and isinstance(context, Register)
            and context.index in self._contexts
        )

    # -- the host's /proc, and the stage -----------------------------------------------------------------

    def _begin(self) -> None:
        """Emit opening the host's /proc, before init joins any namespace in which there may be another."""
        self._is_begun = True
        # Numbers known while compiling, for paths: a mount, a mount point, the stage, the root, the host's /proc.
        numbers = [self.inherit(f"reserved-{index}") for index in range(5)]
        self._mount, self._point, self._stage, self._root, self._proc = numbers
        step = "open /proc of the host"
        self._open("/proc", self._proc, step)

    def _fix(self, descriptor: Argument, number: int, step: str) -> None:
        super().call("dup3", descriptor, number, k.O_CLOEXEC, step=step)

    def _path(self, descriptor: Argument, number: int, step: str, name: str = "") -> str:
        """Emit giving `descriptor` this number; the path that leads to it, or to `name` in it, from /proc."""
        self._fix(descriptor, number, step)
        return f"self/fd/{number}/{name}" if name else f"self/fd/{number}"

    def _old_mount(
        self,
        source: Argument,
        target: Argument,
        kind: Argument,
        flags: Argument,
        data: Argument = 0,
        *,
        step: str,
        of: str,
        into: Register | None = None,
        tolerate: tuple[int, ...] = (),
    ) -> None:
        """Emit mount(2) with paths from /proc; then the working directory is as it was told to be."""
        super().call("fchdir", self._proc, step=step)
        words = source, target, kind, flags, data
        super().call("mount", *words, step=step, of=of, into=into, tolerate=tolerate)
        self._return(step)

    def _open(self, path: str, number: int, step: str) -> None:
        """Emit opening the directory `path` as this number."""
        opened = self.register()
        super().call("openat", k.AT_FDCWD, path, _DIRECTORY, step=step, into=opened)
        self._fix(opened, number, step)
        super().call("close", opened, step=step)
        self.release(opened)

    def _enter_stage(self) -> None:
        """Emit mounting the stage over `/`, and opening it, if there is none."""
        if self._is_staged:
            return
        self._is_staged = True
        step = "make the stage for mounts"
        flags = k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC
        data = f"mode=0700,uid={self._owner[0]},gid={self._owner[1]}"
        super().call("mount", "tmpfs", "/", "tmpfs", flags, data, step=step)
        super().call("mount", 0, "/..", 0, k.MS_PRIVATE, 0, step=step)
        self._open("/..", self._stage, step)
        if self._is_inside:
            # Links of the image may well begin with too many `..`, and must not end on the stage: it goes from above
            # the root to below.
            self._open("/", self._root, step)
            super().call("mkdirat", self._stage, "root", 0o700, step=step)
            super().call("fchdir", self._stage, step=step)
            super().call("pivot_root", ".", "root", step=step)
            super().call("fchdir", self._root, step=step)
            super().call("chroot", ".", step=step)
            self._return(step)

    def _leave_stage(self) -> None:
        """Emit taking the stage away. What is still on it lives as long as its descriptor."""
        if not self._is_staged:
            return
        self._is_staged = False
        step = "take the stage for mounts away"
        if self._is_inside:
            super().call("fchdir", self._stage, step=step)
            super().call("chroot", ".", step=step)
            super().call("fchdir", self._root, step=step)
            super().call("pivot_root", ".", ".", step=step)
            super().call("umount2", ".", k.MNT_DETACH, step=step)
        else:
            super().call("fchdir", self._proc, step=step)
            super().call("umount2", f"self/fd/{self._stage}", k.MNT_DETACH, step=step)
        self._return(step)

    def _return(self, step: str) -> None:
        """Emit going back to the working directory that the program has chosen."""
        if self._cwd:
            super().call(self._cwd[0], self._cwd[1], step=step)

    def _place(self) -> tuple[str, str]:
        """A fresh name on the stage, and the path to it from /proc."""
        self._enter_stage()
        self._count += 1
        name = str(self._count)
        return name, f"self/fd/{self._stage}/{name}"

    def _settle(
        self, result: Register, into: Register | None, tolerate: tuple[int, ...], otherwise: Label | None
    ) -> None:
        """Emit going on as `Program.call` does after a tolerated errno."""
        if tolerate:
            fine = self.label()
            self.branch(result, GE, 0, fine)
            if into is not None:
                self.set(into, result)
            if otherwise is not None:
                self.jump(otherwise)
            self.place(fine)

    # -- each new call by old ones -----------------------------------------------------------------------

    def _open_tree(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        directory, path, flags = args
        step, of, into, tolerate = how["step"], how["of"], how["into"], how["tolerate"]
        assert isinstance(flags, int) and flags & k.OPEN_TREE_CLONE
        kind = k.MS_BIND | k.MS_REC if flags & k.AT_RECURSIVE else k.MS_BIND
        if not self._count:
            self._open_root(directory, kind, how)
            return
        name, target = self._place()
        source = self._path(directory, self._mount, step) if isinstance(directory, Register) else path
        result = self.register()
        file, failed, done = self.label(), self.label(), self.label()
        # Whether it is a directory or a file is for the kernel to say.
        super().call("mkdirat", self._stage, name, 0o700, step=step)
        first = (ENOTDIR, *tolerate)
        self._old_mount(source, target, 0, kind, step=step, of=of, into=result, tolerate=first)
        self.branch(result, LT, 0, file)
        super().call("openat", self._stage, name, k.O_PATH | k.O_CLOEXEC, step=step, into=into)
        self.jump(done)
        self.place(file)
        if tolerate:
            self.branch(result, NE, -ENOTDIR, failed)
        super().call("mknodat", self._stage, f"{name}f", S_IFREG | 0o600, 0, step=step)
        self._old_mount(source, f"{target}f", 0, kind, step=step, of=of, into=result, tolerate=tolerate)
        if tolerate:
            self.branch(result, LT, 0, failed)
        super().call("openat", self._stage, f"{name}f", k.O_PATH | k.O_CLOEXEC, step=step, into=into)
        self.jump(done)
        self.place(failed)
        self._settle(result, into, tolerate, how["otherwise"])
        self.place(done)
        self.release(result)

    def _open_root(self, root: Argument, kind: int, how: dict[str, Any]) -> None:
        """The first tree, the container's root, comes while init in a user namespace can make no file of its own.

        So it goes on the very root of the stage, where `/..` leads to it.
        """
        step, of = how["step"], how["of"]
        self._place()
        source = self._path(root, self._mount, step)
        self._old_mount(source, f"self/fd/{self._stage}", 0, kind, step=step, of=of)
        super().call("openat", k.AT_FDCWD, "/..", _DIRECTORY, step=step, into=how["into"])

    def _fsopen(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        assert isinstance(args[0], str)
        self._contexts[how["into"].index] = Context(args[0])

    def _fspick(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        assert isinstance(args[0], Register)
        self._contexts[how["into"].index] = Context("", args[0])

    def _fsconfig(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        context, command, name, value, _ = args
        assert isinstance(context, Register)
        told = self._contexts[context.index]
        if command == k.FSCONFIG_SET_FLAG:
            told.settings.append(str(name))
        elif command == k.FSCONFIG_SET_STRING and name == "source":
            told.source = value
        elif command == k.FSCONFIG_SET_STRING:
            told.settings.append(f"{name!s}={value!s}")
        elif command == k.FSCONFIG_CMD_RECONFIGURE:
            assert told.point is not None
            step, of = how["step"], how["of"]
            flags = self._combined(told.point, 0, 0, k.MS_REMOUNT | told.flags(), step)
            self._old_mount(
                0, self._path(told.point, self._point, step), 0, flags, told.data() or 0, step=step, of=of
            )
            self.release(flags)

    def _fsmount(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        context, _, attributes = args
        assert isinstance(context, Register) and isinstance(attributes, int)
        told = self._contexts[context.index]
        step, of, into, tolerate = how["step"], how["of"], how["into"], how["tolerate"]
        flags = told.flags() | flags_of(attributes)
        # mount(2) would make a read-only mount's file system read-only too, for all who share it.
        late = attributes & k.MOUNT_ATTR_RDONLY and not told.flags() & k.MS_RDONLY
        if late:
            flags &= ~k.MS_RDONLY
        name, target = self._place()
        result = self.register()
        super().call("mkdirat", self._stage, name, 0o700, step=step)
        self._old_mount(
            told.source,
            target,
            told.kind,
            flags,
            told.data() or 0,
            step=step,
            of=of,
            into=result,
            tolerate=tolerate,
        )
        self._settle(result, into, tolerate, how["otherwise"])
        self.release(result)
        super().call("openat", self._stage, name, k.O_PATH | k.O_CLOEXEC, step=step, into=into)
        if late:
            self._change(into, k.MOUNT_ATTR_RDONLY, 0, step, of)
        if not self._everything:
            # For the new calls that follow a mount that nobody has seen yet, which only then can be id-mapped.
            staged = self.register()
            self.set(staged, into)
            flags = k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH
            super().call("open_tree", staged, "", flags, step=step, of=of, into=into)
            super().call("close", staged, step=step)
            self.release(staged)

    def _move_mount(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        mount, _, directory, name, _ = args
        step, of = how["step"], how["of"]
        assert isinstance(name, str)
        if isinstance(directory, Register):
            target = self._path(directory, self._point, step, name)
        else:
            target = name
        if target == "/":
            self._leave_stage()
        self._old_mount(self._path(mount, self._mount, step), target, 0, k.MS_MOVE, step=step, of=of)

    def _mount_setattr(self, args: tuple[Argument, ...], how: dict[str, Any]) -> None:
        """Propagation also of the mounts below, attributes of the mount alone: mount(2) can do no more.

        Of read-only paths, for which a room asks for all below, it gives the others one by one.
        """
        mount, path, flags, address, _ = args
        step, of, into, tolerate = how["step"], how["of"], how["into"], how["tolerate"]
        assert isinstance(address, int) and isinstance(flags, int)
        set_, clear, propagation, _ = unpack_from("<QQQQ", self._arena, address - ARENA)
        if propagation:
            target = self._path(mount, self._point, step) if isinstance(mount, Register) else path
            if flags & k.AT_RECURSIVE:
                propagation |= k.MS_REC
            result = self.register()
            self._old_mount(0, target, 0, propagation, step=step, of=of, into=result, tolerate=tolerate)
            self._settle(result, into, tolerate, how["otherwise"])
            if into is not None:
                self.set(into, result)
            self.release(result)
        if set_ or clear:
            self._change(mount if isinstance(mount, Register) else path, set_, clear, step, of)

    # -- flags -------------------------------------------------------------------------------------------

    def _change(self, mount: Argument, set_: int, clear: int, step: str, of: str) -> None:
        """Emit changing attributes of a mount (a descriptor or a path), and of nothing else."""
        flags = self._combined(mount, set_, clear, k.MS_REMOUNT | k.MS_BIND, step)
        target = self._path(mount, self._point, step) if isinstance(mount, Register) else mount
        self._old_mount(0, target, 0, flags, step=step, of=of)
        self.release(flags)

    def _combined(self, mount: Argument, set_: int, clear: int, with_: int, step: str) -> Register:
        """Emit finding the flags for mount(2) that change a mount from what it has; the register with them."""
        if not self._statfs:
            self._statfs = self.buffer(STATFS_SIZE)
        call = "fstatfs" if isinstance(mount, Register) else "statfs"
        super().call(call, mount, self._statfs, step=step)
        flags = self.buffer(8)
        value = self.register()
        # A byte of what is shown tells, by a table, a byte of the flags.
        for shown, byte in ((0, 0), (1, 1), (1, 2), (1, 3)):
            table = self._table(shown, byte, set_, clear, with_)
            entry = self.data(pack("<Q", table))
            self.load(value, self._statfs + STATFS_AT_FLAGS + shown, 1, step=step)
            self.store(entry, value, 1, step=step)
            self.load(value, entry, 8, step=step)
            self.load(value, value, 1, step=step)
            self.store(flags + byte, value, 1, step=step)
        self.load(value, flags, 8, step=step)
        return value

    def _table(self, shown: int, byte: int, set_: int, clear: int, with_: int) -> int:
        """The address, a multiple of 256, of a table: byte number `shown` of what is shown → one of the flags."""
        key = shown, byte, set_, clear, with_
        known = self._tables.get(key)
        if known is None:
            entries = [
                flags_from(number << 8 * shown, set_, clear, with_) >> 8 * byte & 0xFF
                for number in range(256)
            ]
            known = self._tables[key] = self.data(bytes(entries), 256)
        return known
