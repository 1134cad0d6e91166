"""The store: one directory per container below the root.

Those who change a container lock its directory; anyone may read it at any time.

The exclusive lock is flock(2) on the container's directory itself. It belongs to the open file, so the kernel
lets it go however its holder ends, and there is no lock file to leave behind. The lock decides who owns an
id, not mkdir: a directory without state.json that nobody holds is what a killed `create` left, and the next
`create` takes it over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from pyrunc.errors import KernelError, NotFound, PyruncError, Rejected
from pyrunc.store.record import BEGINNING, Record, damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Final

#: The record of a container, in its directory.
STATE: Final = "state.json"
_NEW_STATE: Final = ".state.json.new"
#: The configuration as it was at create, with what `update` has changed of its resources since.
CONFIG: Final = "config.json"
_NEW_CONFIG: Final = ".config.json.new"
#: The socket on which a created container's init waits for `start`, in the container's directory.
START_SOCKET: Final = "start.sock"
#: The directory with the socket for sd_notify(3), which the container sees.
NOTIFY: Final = "notify"
# What a directory without a record may hold and still be pyrunc's own: a mistaken --root must not make
# `create` or `delete --force` empty somebody's directory. `create` saves its first record before it makes
# more.
_OWN: Final = frozenset((_NEW_STATE, START_SOCKET))
#: Directories on their way out, with a number behind it.
_MOVED: Final = ".removed-"
_OWN_WITH_STATE: Final = _OWN | {STATE, CONFIG, _NEW_CONFIG, NOTIFY}

#: NAME_MAX of every Linux file system: the id is a file name. (runc says 1024, and then fails to make it.)
ID_LIMIT: Final = 255
_ID_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-")

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def check_id(container_id: str) -> None:
    """Refuse an id that is not one (runc's rules: letters, digits, `_+.-`, neither `.` nor `..`)."""
    if not container_id:
        raise PyruncError("container id cannot be empty", code="invalid-id")
    if container_id in (".", "..") or not _ID_CHARACTERS.issuperset(container_id):
        raise PyruncError(
            "invalid container ID format",
            remedy="use letters, digits and the characters _ + . -",
            code="invalid-id",
        )
    if len(container_id) > ID_LIMIT:
        raise PyruncError(
            f"invalid container ID format: {len(container_id)} characters, at most {ID_LIMIT} are allowed",
            code="invalid-id",
        )


def _missing() -> NotFound:
    return NotFound("container does not exist")


class Lock:
    """A lock that is held; as a context it is let go at the end."""

    __slots__ = ("_directory",)

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.unlock()


class Directory:
    """The open directory of one container. As a context it is closed, and so unlocked, at the end.

    `path`: absolute; `fd`: the directory, close-on-exec; `id`: the container's.
    """

    __slots__ = ("fd", "id", "path")

    #: Name of the socket in the directory on which init waits for `start`; as long as it exists, it waits.
    socket = START_SOCKET

    def __init__(self, container_id: str, path: str, fd: int) -> None:
        self.id = container_id
        self.path = path
        self.fd = fd

    def __enter__(self) -> Directory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory and let its lock go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self, patience: float | None = None) -> Lock:
        """Wait for the exclusive lock, at most `patience` seconds (None: as long as it takes).

        Raises NotFound if the container was deleted meanwhile, PyruncError after `patience`.
        """
        if patience is None:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + patience
            while not self.try_lock():
                if time.monotonic() > deadline:
                    raise PyruncError(
                        f"container {self.id} is being changed by another pyrunc process",
                        remedy="wait for it, or end it",
                        code="locked",
                    )
                time.sleep(0.01)
        if not self.in_place():
            self.unlock()
            raise _missing()
        return Lock(self)

    def unlock(self) -> None:
        """Let the lock go."""
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def load(self) -> Record | None:
        """The record, or None where `create` was killed before it saved one (or is just about to)."""
        from pyrunc.config.load import read

        try:
            raw = read(STATE, self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KernelError.of(f"read {self.path}/{STATE}", error) from None
        source = f"{self.path}/{STATE}"
        try:
            record = Record.decode(raw, source)
        except Rejected as error:
            raise damaged(source, str(error.problems[0])) from None
        if record.id != self.id:
            raise damaged(source, f"it is the record of container {record.id!r}")
        return record

    def save(self, record: Record) -> None:
        """Put `record` in place at once: a reader sees the old one or the new one. Needs the lock."""
        self._put(STATE, _NEW_STATE, record.encode())

    def save_config(self, raw: bytes) -> None:
        """The same for the configuration: that of `create`, and with its resources changed that of `update`.

        Later edits of the bundle must not change the container (runtime.md), so this is the one that counts.
        """
        self._put(CONFIG, _NEW_CONFIG, raw)

    def _put(self, name: str, new: str, data: bytes) -> None:
        # No fsync: after a crash of the machine the processes are gone too, and the root is a tmpfs by
        # default.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(new, flags, 0o600, dir_fd=self.fd)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(file, rest) :]
            finally:
                os.close(file)
            os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            try:
                os.unlink(new, dir_fd=self.fd)
            except OSError:
                pass  # the first error tells why
            raise KernelError.of(f"save {self.path}/{name}", error) from None

    def has(self, name: str) -> bool:
        """Whether the directory has an entry `name`."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def is_own(self) -> bool:
        """Whether a directory without a sound record is pyrunc's: by what it holds, or by how its state.json begins."""
        names = {name for name in os.listdir(self.fd) if not name.startswith(_MOVED)}
        if (_OWN_WITH_STATE if STATE in names else _OWN).issuperset(names):
            return True
        try:
            file = os.open(STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return False
        try:
            return os.read(file, len(BEGINNING)) == BEGINNING
        finally:
            os.close(file)

    def remove(self) -> None:
        """Remove the directory with all in it, the record last. Needs the lock.

        Killed half-way, the container is still known and can be deleted again.
        """
        try:
            _empty(self.fd, keep=STATE)
            try:
                os.unlink(STATE, dir_fd=self.fd)
            except FileNotFoundError:
                pass
            os.rmdir(self.path)
        except OSError as error:
            raise KernelError.of(f"remove {self.path}", error) from None

    def try_lock(self) -> bool:
        """Take the exclusive lock if nobody has it; tells whether it is taken now."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def in_place(self) -> bool:
        """Whether this still is the directory that its path leads to."""
        # While we waited for the lock its holder may have removed the directory, and a new container of
        # this id may have come: the lock of a directory that nobody can find protects nothing.
        mine = os.fstat(self.fd)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _empty(directory: int, keep: str = "") -> None:
    """Remove all that is in `directory` but `keep`.

    Of a directory below, what is in it is brought up here first. So neither the interpreter's stack nor the number of
    descriptors bounds the depth: a container with CAP_SYS_ADMIN can write to what it sees at /run/notify.
    """
    moved = 0
    while names := [name for name in os.listdir(directory) if name != keep]:
        for name in names:
            if _unlink(name, directory):
                continue
            below = _open_below(name, directory)
            try:
                for inner in os.listdir(below):
                    if not _unlink(inner, below):
                        moved += 1
                        while f"{_MOVED}{moved}" in names:  # of a `delete` that was killed
                            moved += 1
                        os.rename(inner, f"{_MOVED}{moved}", src_dir_fd=below, dst_dir_fd=directory)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=directory)


def _open_below(name: str, directory: int) -> int:
    """Open the directory `name` in `directory`, if nothing is mounted on it: what is in there is somebody else's."""
    from pyrunc.kernel.constants import RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV
    from pyrunc.kernel.native import syscall
    from pyrunc.kernel.paths import open_how
    from pyrunc.kernel.structs import OPEN_HOW_SIZE

    how = open_how(_DIRECTORY, resolve=RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS)
    try:
        return syscall("openat2", directory, os.fsencode(name), how, OPEN_HOW_SIZE)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from None


def _unlink(name: str, directory: int) -> bool:
    """Remove an entry of `directory`; False if it is a directory itself."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


class Store:
    """The containers below `root`. `sticky`: the root lies in a user's runtime directory (`store.root`)."""

    __slots__ = ("root", "sticky")

    def __init__(self, root: str, sticky: bool = False) -> None:
        self.root = root
        self.sticky = sticky

    def create(self, container_id: str) -> Directory:
        """Claim `container_id`: its directory, locked. Of several callers at once exactly one succeeds.

        Raises PyruncError for an id that is not valid or in use, KernelError where nothing can be made.
        """
        check_id(container_id)
        path = f"{self.root}/{container_id}"
        self._make_root()
        while True:
            self._make(path)
            try:
                directory = self.open(container_id)
            except NotFound:
                continue  # just removed by another process: it is free again
            try:
                # Not waiting: whoever holds the lock is creating, starting or deleting this very id.
                if not directory.try_lock():
                    raise _in_use()
                if not directory.in_place():
                    directory.close()
                    continue
                if directory.has(STATE) or not directory.is_own():
                    raise _in_use()
                _empty(directory.fd)
                # mkdir's mode was cut by the umask. Only the runtime looks in here: init has what it needs open.
                os.fchmod(directory.fd, 0o700)
                return directory
            except OSError as error:
                directory.close()
                raise KernelError.of(f"prepare {path}", error) from None
            except PyruncError:
                directory.close()
                raise

    def open(self, container_id: str) -> Directory:
        """The directory of a container, not locked. Raises NotFound if there is none."""
        check_id(container_id)
        path = f"{self.root}/{container_id}"
        try:
            return Directory(container_id, path, os.open(path, _DIRECTORY))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise _missing() from None
            raise KernelError.of(f"open {path}", error, remedy=_remedy(error)) from None

    def ids(self) -> list[str]:
        """The ids below the root, sorted: the directories that have one for a name.

        What begins with a dot belongs to pyrunc itself, everything else to somebody else.
        """
        try:
            with os.scandir(self.root) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KernelError.of(f"read directory {self.root}", error, remedy=_remedy(error)) from None
        return sorted(name for name in names if name[0] != "." and _ID_CHARACTERS.issuperset(name))

    def _make_root(self) -> None:
        try:
            os.makedirs(self.root, 0o700, exist_ok=True)
            if self.sticky:
                os.chmod(self.root, 0o1700)
        except OSError as error:
            raise KernelError.of(f"make state directory {self.root}", error, remedy=_remedy(error)) from None

    def _make(self, path: str) -> None:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # the lock decides
        except OSError as error:
            raise KernelError.of(f"make state directory {path}", error, remedy=_remedy(error)) from None


def _in_use() -> PyruncError:
    return PyruncError("container with given ID already exists", code="exists")


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "run as root, set XDG_RUNTIME_DIR, or name a directory of yours with --root"
    return ""
