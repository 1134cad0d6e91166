"""The mounts of a mount namespace, as the kernel lists them (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: How the kernel writes what would split a word (mangle() of fs/seq_file.c).
_ESCAPES: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\043", "#"), ("\\134", "\\"))


class Mount:
    """One mount.

    `id`: its number, unique as long as it exists. `device`: "major:minor" of its file system. `root`: the directory of
    that which it shows. `point`: where it is, seen from the root of the process that reads. `kind`: the file system's
    type, with subtype ("fuse.sshfs"). `options`: of the file system ("super options"). `peers`: the optional fields,
    which tell its peer group and its master ("shared:1", "master:2"); () for a private mount. `flags`: of the mount
    itself ("ro", "nosuid").
    """

    __slots__ = ("device", "flags", "id", "kind", "options", "peers", "point", "root")

    def __init__(self, line: str) -> None:
        own, _, file_system = line.partition(" - ")
        words, rest = own.split(" "), file_system.split(" ")
        self.id = int(words[0])
        self.device = words[2]
        self.root = _unescape(words[3])
        self.point = _unescape(words[4])
        self.flags = tuple(words[5].split(","))
        self.peers = tuple(words[6:])
        self.kind = rest[0]
        self.options = tuple(rest[-1].split(","))


def mounts(*kinds: str, table: bytes | None = None) -> list[Mount]:
    """The mounts of this process, oldest first as the kernel lists them; of file systems of these types only, if any.

    `table`: instead of /proc/self/mountinfo. Raises OSError.
    """
    if table is None:
        with open("/proc/self/mountinfo", "rb") as file:
            table = file.read()
    lines = table.split(b"\n")
    if kinds:  # by the letter first: a host of many containers has thousands of lines
        wanted = [os.fsencode(f" - {kind} ") for kind in kinds]
        lines = [line for line in lines if any(word in line for word in wanted)]
    found = [Mount(os.fsdecode(line)) for line in lines if line]
    return [mount for mount in found if not kinds or mount.kind in kinds]


def mounts_of(pid: int) -> list[Mount]:
    """The mounts that process `pid` sees from its root. Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        return mounts(table=file.read())


def _unescape(word: str) -> str:
    if "\\" in word:
        for code, character in _ESCAPES:
            word = word.replace(code, character)
    return word
