"""Is the process that a record names still the same one? A pid alone does not tell: it is used again."""

from __future__ import annotations

import os
import select

from pyrunc.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: Seconds that a killed process may take to end.
PATIENCE: Final = 10.0


def stat_of(pid: int | str) -> tuple[str, int] | None:
    """State letter and start time (clock ticks since boot) of the process `pid`; None if there is none.

    From /proc/PID/stat (proc(5)).
    """
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise KernelError.of(f"read /proc/{pid}/stat", error) from None
    try:
        return parse_stat(os.read(file, 4096))
    except ProcessLookupError:  # it ended between open and read
        return None
    finally:
        os.close(file)


def parse_stat(line: bytes) -> tuple[str, int]:
    """Fields 3 and 22 of a line of /proc/PID/stat."""
    # Field 2 is the name in parentheses, which the process chooses itself: it may hold ") Z 1 1". No later
    # field has a parenthesis, so the last one ends the name.
    fields = line[line.rfind(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def start_time(pid: int) -> int | None:
    """When the process `pid` started, in clock ticks since boot; None if there is no such process."""
    found = stat_of(pid)
    return found[1] if found else None


def is_alive(pid: int, start_time: int) -> bool:
    """Whether the process that started at `start_time` as `pid` runs; a zombie does not."""
    if pid <= 0:
        return False
    found = stat_of(pid)
    return found is not None and found[1] == start_time and found[0] not in ("Z", "X", "x")


def open_process(pid: int, start_time: int) -> int:
    """A pidfd of the living process that started at `start_time` as `pid`, or -1."""
    if pid <= 0:
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    except OSError as error:
        raise KernelError.of(f"open process {pid}", error) from None
    # Compared after opening: from here on the descriptor cannot come to mean another process.
    try:
        alive = is_alive(pid, start_time)
    except BaseException:
        os.close(pidfd)
        raise
    if alive:
        return pidfd
    os.close(pidfd)
    return -1


def wait_end(pidfd: int, patience: float = PATIENCE) -> bool:
    """Wait until the process of `pidfd` has ended, at most `patience` seconds; tells whether it has.

    A zombie has ended, too: its parent need not have reaped it.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(int(patience * 1000)))
