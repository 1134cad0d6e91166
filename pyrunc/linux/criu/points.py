"""Mount points in the root file system that is restored into: criu mounts where a path leads, and makes none itself.

A restore may have a fresh root file system, in which those that `create` had made are missing. As everywhere the image
is hostile: they are looked for and made by openat2(2) inside the root, or inside the source of the bind mount that they
lie in; what criu then mounts it mounts in a mount namespace of its own (`linux.criu.start`).
"""

from __future__ import annotations

import os
from errno import EEXIST, ELOOP, ENOENT
from stat import S_ISDIR

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS
from pyrunc.kernel.native import syscall
from pyrunc.kernel.paths import open_how, open_in_root
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.linux.criu.mounts import destinations, owner
from pyrunc.linux.mounts.facts import is_bind, source_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config, Mount

_STRAIGHT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def make(config: Config, bundle: str, root: str) -> None:
    """Make the missing mount points of a container below `root`. Raises KernelError."""
    places = destinations(config, root)
    for index, (path, mount) in enumerate(places):
        above, holder = owner(path, places[:index])
        if holder is None:
            base, below = root, path
        elif is_bind(holder):
            base, below = source_of(holder, bundle), path[len(above.rstrip("/")) :]
        else:
            continue  # criu fills a tmpfs, mount points in it too; the kernel does the others
        if below.strip("/"):
            _make_one(base, below, _is_directory(mount, bundle), path)


def _is_directory(mount: Mount, bundle: str) -> bool:
    return not is_bind(mount) or S_ISDIR(os.stat(source_of(mount, bundle)).st_mode)


def _make_one(base: str, path: str, directory: bool, shown: str) -> None:
    """Make `path` below the directory `base` unless it exists."""
    names = [name for name in path.split("/") if name]
    try:
        here = os.open(base, _DIRECTORY | os.O_CLOEXEC)
        try:
            if _exists(here, path):
                return
            for place, name in enumerate(names):
                last = place == len(names) - 1
                there = _enter(here, name, directory or not last, last)
                os.close(here)
                here = there
        finally:
            os.close(here)
    except OSError as error:
        remedy = "a symbolic link of the image is in its way" if error.errno == ELOOP else ""
        raise KernelError.of(f"make the mount point {shown} for the restore", error, remedy=remedy) from error


def _exists(base: int, path: str) -> bool:
    try:
        os.close(open_in_root(base, path, os.O_PATH))
    except FileNotFoundError:
        return False
    return True


def _enter(here: int, name: str, directory: bool, last: bool) -> int:
    """A descriptor of `name` in the directory `here`, made if it is missing. Symbolic links are refused.

    One component at a time, each from the descriptor of the one before: nobody leads this out of the root.
    """
    raw = os.fsencode(name)
    how = open_how(os.O_PATH if last else _DIRECTORY, 0, _STRAIGHT)
    try:
        return syscall("openat2", here, raw, how, OPEN_HOW_SIZE)
    except OSError as error:
        if error.errno != ENOENT:
            raise
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=here)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=here))
    except OSError as error:
        if error.errno != EEXIST:
            raise
    return syscall("openat2", here, raw, how, OPEN_HOW_SIZE)
