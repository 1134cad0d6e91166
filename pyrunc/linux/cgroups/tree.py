"""Directories of one hierarchy: making, walking, removing. The same in both versions of cgroups."""

from __future__ import annotations

import os
import time
from errno import EBUSY, ENODEV, ENOENT, ENOTEMPTY, EOPNOTSUPP

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.files import DENIED, get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

#: Tries to remove a cgroup whose processes are dying, and the wait after the first, in seconds; it doubles.
TRIES, FIRST_WAIT = 10, 0.001
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(path: str, top: str, made: list[str]) -> bool:
    """Make the cgroup `path` and its missing parents below the existing `top`.

    What was made is appended to `made`, parents first. Returns whether `path` is new. Raises OSError.
    """
    # Another container that is just going away may take a common parent with it between the two calls.
    for _ in range(TRIES):
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return False
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if len(parent) < len(top):
                raise
            make(parent, top, made)
        else:
            made.append(path)
            return True
    raise FileNotFoundError(ENOENT, os.strerror(ENOENT), path)


def missing(path: str, top: str) -> list[str]:
    """`path` and its parents below `top` that do not exist, parents first: what `make` is going to make."""
    found: list[str] = []
    while len(path) > len(top) and not os.access(path, os.F_OK):
        found.insert(0, path)
        path = os.path.dirname(path)
    return found


def make_failed(path: str, error: OSError) -> KernelError:
    """The error for a cgroup that cannot be made."""
    remedy = ""
    if error.errno in DENIED:
        remedy = "run as root, or let linux.cgroupsPath name a cgroup that is delegated to you"
    return KernelError.of(f"make cgroup {path}", error, remedy=remedy)


def below(path: str) -> Iterator[tuple[int | None, str]]:
    """`path` and every cgroup below it, children first. Nothing if it does not exist.

    Each is the descriptor of the cgroup above, valid until the next one is asked for, and its name there; at last
    None and `path` itself. A container that may make cgroups may nest them deeper than a path, a stack or a
    table of descriptors reaches, so this steps down and up again by descriptors, one at a time; no cgroup ever gets
    another parent, so `..` leads back. Raises KernelError.
    """
    here = -1
    try:
        try:
            here = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            return
        names: list[str] = []
        left = [_children(here)]
        while True:
            if left[-1]:
                name = left[-1].pop()
                try:
                    child = os.open(name, _DIRECTORY, dir_fd=here)
                except FileNotFoundError:
                    continue  # removed meanwhile
                os.close(here)
                here = child
                names.append(name)
                left.append(_children(here))
            elif names:
                above = os.open("..", _DIRECTORY, dir_fd=here)
                os.close(here)
                here = above
                left.pop()
                yield here, names.pop()
            else:
                yield None, path
                return
    except OSError as error:
        raise KernelError.of(f"list the cgroups in {path}", error) from error
    finally:
        if here >= 0:
            os.close(here)


def _children(directory: int) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []  # removed meanwhile


def pids(path: str) -> list[int]:
    """The processes in `path` and below, without those of a foreign PID namespace (the kernel's 0)."""
    found: list[int] = []
    for above, name in below(path):
        try:
            words = get(name, "cgroup.procs", above).split()
        except OSError as error:
            if error.errno == EOPNOTSUPP:
                found += _of_threads(name, above)
                continue
            if error.errno in (ENOENT, ENODEV):
                continue  # removed meanwhile
            raise KernelError.of(f"read cgroup.procs in {path}", error) from error
        found += [int(word) for word in words if word != "0"]
    return found


def refuse_own(path: str) -> None:
    """Raise PyruncError if this very process is in `path` or below: it could freeze that, but not thaw it again."""
    if os.getpid() in pids(path):
        raise PyruncError(
            f"freeze cgroup {path}: this process is in it",
            remedy="move it elsewhere first",
            code="cannot-freeze",
        )


def _of_threads(cgroup: str, above: int | None) -> list[int]:
    """The processes of a threaded cgroup, which lists threads only (cgroup-v2.rst "Threads")."""
    found: dict[int, None] = {}
    try:
        threads = get(cgroup, "cgroup.threads", above).split()
    except OSError as error:
        if error.errno in (ENOENT, ENODEV):
            return []
        raise KernelError.of(f"read cgroup.threads in {cgroup}", error) from error
    for thread in threads:
        try:
            status = get(f"/proc/{thread}", "status")
        except OSError:
            continue  # ended meanwhile
        found[int(status.partition("\nTgid:")[2].split(None, 1)[0])] = None
    return list(found)


def remove(path: str) -> None:
    """Remove `path` with every cgroup below it; one that is missing is fine.

    Dying processes keep a cgroup busy for a moment, so this is tried for half a second. Raises KernelError.
    """
    wait = FIRST_WAIT
    for attempt in range(TRIES):
        number = _rmdir(path)
        if number in (EBUSY, ENOTEMPTY):
            for above, name in below(path):
                number = _rmdir(name, above)
        if number in (0, ENOENT):
            return
        if number not in (EBUSY, ENOTEMPTY):
            break
        if attempt < TRIES - 1:
            time.sleep(wait)
            wait *= 2
    remedy = ""
    if number in (EBUSY, ENOTEMPTY) and (left := pids(path)):
        remedy = f"{len(left)} process(es) still in it, such as {left[0]}: kill them first"
    raise KernelError(f"remove cgroup {path}", number, call="rmdir", remedy=remedy)


def remove_made(homes: list[str], made: list[str]) -> None:
    """Remove those of `homes` that are among `made`, and the parents in `made` that nobody uses.

    What was there before the container is not the container's to remove (runtime.md "Delete"). Raises
    KernelError.
    """
    own = [home for home in homes if home in made]
    for home in own:
        remove(home)
    remove_empty([path for path in made if path not in own])


def remove_empty(paths: list[str]) -> None:
    """Remove those of `paths`, made parents in the order made, that nobody uses."""
    for path in reversed(paths):
        _rmdir(path)


def _rmdir(path: str, above: int | None = None) -> int:
    try:
        os.rmdir(path, dir_fd=above)
    except OSError as error:
        return error.errno or 0
    return 0
