"""Mount options: what each word of `mounts[].options` means (config.md "Linux mount options", mount(8)).

`OPTIONS` is the whole table; `parse` reads one list. A later word wins over an earlier one that says
otherwise. Words not in the table are data for the file system.

`silent` and `iversion` are flags of mount(2) alone, for a new file system: one with them is mounted by mount(2).
"""

from __future__ import annotations

from pyrunc.kernel.constants import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    Meaning = tuple[str, int, str]

#: The kinds of meaning in `OPTIONS`. The first four are attributes; their word "r" means the whole tree below.
SET: Final = "set"  # value: MOUNT_ATTR_ bits
CLEAR: Final = "clear"
ATIME: Final = "atime"  # value: the MOUNT_ATTR__ATIME choice that the word makes
NOT_ATIME: Final = "not-atime"  # value: the choice that the word takes back
ATTRIBUTES: Final = frozenset((SET, CLEAR, ATIME, NOT_ATIME))
NOTHING: Final = "nothing"
BIND: Final = "bind"  # value 1: recursive
REMOUNT: Final = "remount"
PROPAGATION: Final = "propagation"  # value: MS_ type; word "r": recursive
SUPERBLOCK: Final = "superblock"  # word: which setting; value 1: on
FLAG: Final = "flag"  # of mount(2); word: which; value 1: on
COPY_UP: Final = "copy-up"
IDMAP: Final = "idmap"  # value 1: recursive

_FLAGS: Final = (
    ("ro", "rw", MOUNT_ATTR_RDONLY),
    ("nosuid", "suid", MOUNT_ATTR_NOSUID),
    ("nodev", "dev", MOUNT_ATTR_NODEV),
    ("noexec", "exec", MOUNT_ATTR_NOEXEC),
    ("nodiratime", "diratime", MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", "symfollow", MOUNT_ATTR_NOSYMFOLLOW),
)
_ATIMES: Final = (
    ("noatime", "atime", MOUNT_ATTR_NOATIME),
    ("relatime", "norelatime", MOUNT_ATTR_RELATIME),
    ("strictatime", "nostrictatime", MOUNT_ATTR_STRICTATIME),
)
_PROPAGATIONS: Final = (
    ("shared", MS_SHARED),
    ("slave", MS_SLAVE),
    ("private", MS_PRIVATE),
    ("unbindable", MS_UNBINDABLE),
)
#: Settings of the superblock: the word for on and for off, as fsconfig(2) FSCONFIG_SET_FLAG knows them.
SUPERBLOCK_WORDS: Final = {
    "sync": ("async", "sync"),
    "dirsync": ("", "dirsync"),
    "lazytime": ("nolazytime", "lazytime"),
    "mand": ("nomand", "mand"),
}


def _table() -> dict[str, Meaning]:
    table: dict[str, Meaning] = {
        "defaults": (NOTHING, 0, ""),
        "silent": (FLAG, 1, "silent"),
        "loud": (FLAG, 0, "silent"),
        "iversion": (FLAG, 1, "iversion"),
        "noiversion": (FLAG, 0, "iversion"),
        "bind": (BIND, 0, ""),
        "rbind": (BIND, 1, ""),
        "remount": (REMOUNT, 0, ""),
        "tmpcopyup": (COPY_UP, 0, ""),
        "idmap": (IDMAP, 0, ""),
        "ridmap": (IDMAP, 1, ""),
    }
    for name, (off, on) in SUPERBLOCK_WORDS.items():
        table[on] = (SUPERBLOCK, 1, name)
        if off:
            table[off] = (SUPERBLOCK, 0, name)
    for scope in ("", "r"):
        for on, off, bit in _FLAGS:
            table[scope + on] = (SET, bit, scope)
            table[scope + off] = (CLEAR, bit, scope)
        for on, off, choice in _ATIMES:
            table[scope + on] = (ATIME, choice, scope)
            table[scope + off] = (NOT_ATIME, choice, scope)
        for word, kind in _PROPAGATIONS:
            table[scope + word] = (PROPAGATION, kind, scope)
    return table


_DATA: Final[Meaning] = ("data", 0, "")
#: Every option that pyrunc knows by itself → its meaning (kind, value, word).
OPTIONS: Final = _table()
#: The words that are flags of mount(2) alone.
FLAGS: Final = frozenset(("silent", "loud", "iversion", "noiversion"))


class Options:
    """What a list of options asks for.

    `set`, `clear`: MOUNT_ATTR_ bits for mount_setattr(2) on the mount itself (`clear` holds the whole atime
    mask where `set` or its absence chooses one); `set_all`, `clear_all`: the same for the tree below it.
    `propagation`: (MS_ type, recursive) in order. `superblock`: settings → on; `flags`: the same for what only
    mount(2) knows. `data`: words for the file
    system, in order. `idmap`, `idmap_all`: an id-mapped mount, with all mounts below it; `idmap_text`: the maps
    that crun's form of the option gives, else "".
    """

    __slots__ = (
        "bind",
        "clear",
        "clear_all",
        "copy_up",
        "data",
        "flags",
        "idmap",
        "idmap_all",
        "idmap_text",
        "propagation",
        "recursive",
        "remount",
        "set",
        "set_all",
        "superblock",
    )

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.remount = False
        self.copy_up = False
        self.set = 0
        self.clear = 0
        self.set_all = 0
        self.clear_all = 0
        self.propagation: list[tuple[int, bool]] = []
        self.superblock: dict[str, bool] = {}
        self.flags: dict[str, bool] = {}
        self.data: list[str] = []
        self.idmap = False
        self.idmap_all = False
        self.idmap_text = ""

    @property
    def readonly(self) -> bool:
        """Whether the mount itself is to be read-only."""
        return bool(self.set & MOUNT_ATTR_RDONLY)

    @property
    def of_file_system(self) -> list[str]:
        """The words, of those in `OPTIONS`, that turn on something of a file system rather than of a mount of it."""
        settings = [SUPERBLOCK_WORDS[name][1] for name, on in self.superblock.items() if on]
        return settings + self.of_new_file_system

    @property
    def of_new_file_system(self) -> list[str]:
        """Those of them that only mount(2) of a new one takes."""
        return [name for name, on in self.flags.items() if on]

    @property
    def attributes(self) -> int:
        """The MOUNT_ATTR_ bits of a new file system, which is a tree of one mount."""
        return self.set_all & ~self.clear | self.set


class _Attributes:
    """The attributes of a mount, or of the tree below it, while the words are read."""

    __slots__ = ("atime", "clear", "set")

    def __init__(self) -> None:
        self.set = 0
        self.clear = 0
        self.atime = -1

    def take(self, kind: str, value: int) -> None:
        if kind is SET:
            self.set |= value
            self.clear &= ~value
        elif kind is CLEAR:
            self.set &= ~value
            self.clear |= value
        elif kind is ATIME:
            self.atime = value
        else:
            self.atime = _without(self.atime, value)

    def result(self) -> tuple[int, int]:
        """The bits to set and to clear. The atime choice is a field: all of it is cleared to set it."""
        if self.atime < 0:
            return self.set, self.clear
        return self.set | self.atime, self.clear | MOUNT_ATTR__ATIME


def parse(words: Sequence[str]) -> Options:
    """Read a list of options; a later word wins."""
    options = Options()
    itself, below = _Attributes(), _Attributes()
    for word in words:
        kind, value, name = OPTIONS.get(word, _DATA)
        if kind in ATTRIBUTES:
            (below if name else itself).take(kind, value)
        elif kind is BIND:
            options.bind = True
            options.recursive = bool(value)
        elif kind is PROPAGATION:
            options.propagation.append((value, name == "r"))
        elif kind is SUPERBLOCK:
            options.superblock[name] = bool(value)
        elif kind is FLAG:
            options.flags[name] = bool(value)
        elif kind is REMOUNT:
            options.remount = True
        elif kind is COPY_UP:
            options.copy_up = True
        elif kind is IDMAP or word.startswith(("idmap=", "ridmap=")):
            options.idmap = True
            options.idmap_all = word.startswith("r")
            options.idmap_text = word.partition("=")[2]
        elif kind is not NOTHING:
            options.data += _split(word)
    options.set, options.clear = itself.result()
    options.set_all, options.clear_all = below.result()
    return options


def _without(choice: int, taken_back: int) -> int:
    """The atime choice after a word such as `atime` (takes back noatime) or `nostrictatime`.

    Taking back what was asked for, or noatime at all, leads to the kernel's default, relatime; taking back
    anything else says nothing about what the mount now has.
    """
    if choice == taken_back or (choice < 0 and taken_back == MOUNT_ATTR_NOATIME):
        return MOUNT_ATTR_RELATIME
    return choice


def _split(word: str) -> list[str]:
    """The settings in one word of data: callers also pass several joined by commas, as mount(8) does.

    Commas in double quotes belong to the value (SELinux contexts).
    """
    if "," not in word:
        return [word] if word else []
    if '"' not in word:
        return [part for part in word.split(",") if part]
    parts, quoted, start = [], False, 0
    for place, letter in enumerate(word):
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            parts.append(word[start:place])
            start = place + 1
    parts.append(word[start:])
    return [part for part in parts if part]
