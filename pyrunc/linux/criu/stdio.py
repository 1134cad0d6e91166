"""What the container's stdin, stdout and stderr are to criu: the names by which a restore puts others in their place.

They belong to the caller of `create`, and outlive no checkpoint. criu takes a pipe of which it sees one end by itself;
of a terminal, file or device of the host, and a socket, it has to be told that they are outside. The names are kept
beside the images in descriptors.json, which runc and crun write and read too: a list of three.
"""

from __future__ import annotations

import os
from stat import S_ISCHR, S_ISSOCK

from pyrunc.errors import KernelError, PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

#: The file, in the directory of the images.
FILE: Final = "descriptors.json"
#: What criu has a name for that a descriptor of a restore can be given under.
_REPLACED: Final = ("pipe:[", "socket:[", "file[", "tty[")
#: Majors of terminals: consoles and serial lines, /dev/tty and /dev/console, Unix98 ptys (Documentation/admin-guide/
#: devices.txt).
_TERMINALS: Final = frozenset((4, 5, *range(136, 144)))


def names(pid: int, inside: Iterable[int]) -> tuple[list[str], list[str]]:
    """The names of stdin, stdout and stderr of process `pid`, and those that criu must take for external.

    `inside`: the ids of the mounts that the process sees, which criu dumps itself. Raises KernelError.
    """
    known = frozenset(inside)
    found: list[str] = []
    external: list[str] = []
    for number in (0, 1, 2):
        path = f"/proc/{pid}/fd/{number}"
        try:
            target = os.readlink(path)
            status = os.stat(path)
            mount = _mount_of(pid, number)
        except FileNotFoundError:
            found.append("")  # closed
            continue
        except OSError as error:
            raise KernelError.of(f"look at {path}", error) from error
        if S_ISSOCK(status.st_mode):
            external.append(f"unix[{status.st_ino}]")
        elif not target.startswith("pipe:[") and mount not in known:
            if S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _TERMINALS:
                target = f"tty[{status.st_rdev:x}:{status.st_dev:x}]"
            else:
                target = f"file[{mount:x}:{status.st_ino:x}]"
            external.append(target)
        found.append(target)
    return found, list(dict.fromkeys(external))


def _mount_of(pid: int, number: int) -> int:
    """The id of the mount that a descriptor was opened through (proc_pid_fdinfo(5))."""
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    return -1


def save(directory: int, found: list[str]) -> None:
    """Put the names beside the images. Raises KernelError."""
    from pyrunc.config.writer import dumps

    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(FILE, flags, 0o600, dir_fd=directory)
        try:
            os.write(file, dumps(found).encode("ascii"))
        finally:
            os.close(file)
    except OSError as error:
        raise KernelError.of(f"write {FILE}", error) from error


def inherited(directory: int, shown: str, stdio: Sequence[int]) -> list[dict[str, object]]:
    """Which of the descriptors `stdio` (stdin, stdout, stderr) take the place of what, as criu's `inherit_fd`.

    `directory`: of the images, `shown` its path. Raises PyruncError where there are none.
    """
    from pyrunc.config.load import load_json, read

    try:
        found = load_json(read(FILE, directory), f"{shown}/{FILE}")
    except OSError as error:
        raise KernelError.of(
            f"read {shown}/{FILE}", error, remedy="is --image-path the directory of a checkpoint?"
        ) from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise PyruncError(f"{shown}/{FILE} is damaged: it is no list of names", code="criu")
    # Several of the same (2>&1) are one to criu, which gives all of them the first.
    given: dict[str, int] = {}
    for name, number in zip(found, stdio, strict=False):
        if name.startswith(_REPLACED):
            given.setdefault(name, number)
    return [{"key": name, "fd": number} for name, number in given.items()]
