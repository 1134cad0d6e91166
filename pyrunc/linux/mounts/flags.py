"""Flags and data of mount(2) for what the newer calls are told, and for what statfs(2) shows of a mount."""

from __future__ import annotations

from pyrunc.kernel import constants as k
from pyrunc.linux.selinux import CONTEXTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Argument, Register

#: Attributes of mount_setattr(2) and fsmount(2), and the flags of mount(2) for them.
_FLAGS: Final = (
    (k.MOUNT_ATTR_RDONLY, k.MS_RDONLY),
    (k.MOUNT_ATTR_NOSUID, k.MS_NOSUID),
    (k.MOUNT_ATTR_NODEV, k.MS_NODEV),
    (k.MOUNT_ATTR_NOEXEC, k.MS_NOEXEC),
    (k.MOUNT_ATTR_NODIRATIME, k.MS_NODIRATIME),
    (k.MOUNT_ATTR_NOSYMFOLLOW, k.MS_NOSYMFOLLOW),
)
#: What statfs(2) tells of a mount (ST_), and the flags of mount(2) for it.
_SHOWN: Final = (
    (0x1, k.MS_RDONLY),
    (0x2, k.MS_NOSUID),
    (0x4, k.MS_NODEV),
    (0x8, k.MS_NOEXEC),
    (0x400, k.MS_NOATIME),
    (0x800, k.MS_NODIRATIME),
    (0x1000, k.MS_RELATIME),
    (0x2000, k.MS_NOSYMFOLLOW),
)
#: Words of a file system that are flags of mount(2).
WORDS: Final = {
    "ro": k.MS_RDONLY,
    "sync": k.MS_SYNCHRONOUS,
    "dirsync": k.MS_DIRSYNC,
    "lazytime": k.MS_LAZYTIME,
    "mand": k.MS_MANDLOCK,
    "iversion": k.MS_I_VERSION,
    "silent": k.MS_SILENT,
    "rw": 0,
    "async": 0,
    "nolazytime": 0,
    "nomand": 0,
}
_ATIMES: Final = k.MS_NOATIME | k.MS_RELATIME | k.MS_STRICTATIME


def flags_of(attributes: int) -> int:
    """The flags of mount(2) for attributes of fsmount(2)."""
    flags = 0
    for attribute, flag in _FLAGS:
        if attributes & attribute:
            flags |= flag
    atime = attributes & k.MOUNT_ATTR__ATIME
    if atime == k.MOUNT_ATTR_NOATIME:
        return flags | k.MS_NOATIME
    return flags | (k.MS_STRICTATIME if atime == k.MOUNT_ATTR_STRICTATIME else k.MS_RELATIME)


def flags_from(shown: int, set_: int, clear: int, with_: int) -> int:
    """What a mount has that statfs(2) shows so, changed by attributes, and `with_`: as flags of mount(2)."""
    flags = 0
    for bit, flag in _SHOWN:
        if shown & bit:
            flags |= flag
    if not flags & (k.MS_NOATIME | k.MS_RELATIME):
        flags |= k.MS_STRICTATIME
    for attribute, flag in _FLAGS:
        if set_ & attribute:
            flags |= flag
        elif clear & attribute:
            flags &= ~flag
    if clear & k.MOUNT_ATTR__ATIME:
        flags = flags & ~_ATIMES | flags_of(set_) & _ATIMES
    return flags | with_


class Context:
    """A file system that is being configured: what fsopen, fsconfig and fspick would have been told."""

    __slots__ = ("kind", "point", "settings", "source")

    def __init__(self, kind: str, point: Register | None = None) -> None:
        self.kind = kind
        self.point = point
        self.source: Argument = 0
        self.settings: list[str] = []

    def flags(self) -> int:
        """The settings that are flags of mount(2)."""
        flags = 0
        for word in self.settings:
            flags |= WORDS.get(word, 0)
        return flags

    def data(self) -> str:
        """The others, as the file system reads them. A label may hold commas, which quotes keep together (mount(8))."""
        return ",".join([_quoted(word) for word in self.settings if word not in WORDS])


def _quoted(word: str) -> str:
    name, _, value = word.partition("=")
    return f'{name}="{value}"' if name in CONTEXTS and "," in value and value[:1] != '"' else word
