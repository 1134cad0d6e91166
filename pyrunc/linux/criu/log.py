"""criu's log: the lines that tell why it has failed."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: How much of the end of a log is looked at, and how many errors are shown.
_TAIL: Final = 1 << 18
_SHOWN: Final = 3
#: How errors begin that are none, or only follow others: what it says for every failure, at its end; that it may not
#: raise its own limits, and goes on.
_EMPTY: Final = (
    "Dumping FAILED",
    "Restoring FAILED",
    "Pre-dumping FAILED",
    "cg: cgroupd: recv req",
    "rlimit: ",
)


def errors(directory: int, name: str) -> str:
    """The last errors in the log `name` in `directory`, as one line; "" if it tells none.

    A line of it is "(seconds) [pid:] Error (file:line): text".
    """
    try:
        log = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""  # criu ended before it had one
    try:
        size = os.fstat(log).st_size
        text = os.pread(log, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
    finally:
        os.close(log)
    found = []
    for line in text.splitlines():
        _, mark, said = line.partition("Error (")
        said = said.partition("): ")[2]
        if mark and said and not said.startswith(_EMPTY):
            found.append(said)
    return "; ".join(found[-_SHOWN:])
