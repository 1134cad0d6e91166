"""Putting back what files of a cgroup held before they were written.

    with Keeping(homes, push):     # `push`: takes a function for each write; called in reverse they undo it all
        limits.apply(…)

What a file says is not always what it takes: a file with a line for each device is written line by line. `line` knows.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError
from pyrunc.linux.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType
    from typing import Final

    #: What takes a function that undoes one thing.
    Push = Callable[[Callable[[], object]], None]

#: What takes a device out of a file that has not named it, behind its numbers; elsewhere "default".
_NO_LIMIT: Final = {"io.max": "rbps=max wbps=max riops=max wiops=max", "io.latency": "target=max"}

#: What the kernel does not let become empty again while there are processes (ENOSPC, kernel/cgroup/cpuset.c): all that
#: the parent has means the same.
_NEVER_EMPTIED: Final = ("cpuset.cpus", "cpuset.mems")


class Keeping:
    """While the block runs, each value that is written to a file directly in one of `homes` leaves a way back.

    One at a time in a process.
    """

    def __init__(self, homes: Collection[str], push: Push) -> None:
        self._homes = frozenset(homes)
        self._push = push

    def __enter__(self) -> None:
        files.watcher = self._before_write

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        files.watcher = None

    def _before_write(self, home: str, name: str, value: str) -> Callable[[], None]:
        if home not in self._homes:
            return _nothing
        try:
            text = files.get(home, name)
        except OSError:
            return _nothing  # missing, and so the write is going to fail; or it only does something (memory.reclaim)
        if name in _NEVER_EMPTIED and not text.strip():
            text = files.get(os.path.dirname(home), f"{name}.effective")
        former = [line(name, text, value)]

        def back() -> None:
            for found in former:
                put_back(home, name, found)

        # Before the write, for an interruption may come right behind it.
        self._push(back)
        return former.clear


def _nothing() -> None:
    """There is no way back, or it is not looked for."""


def put_back(home: str, name: str, value: str) -> None:
    """Write the former value. Raises KernelError."""
    files.watcher = None  # an interruption may have come right before the end of the block
    try:
        files.put(home, name, value or "\n")
    except OSError as error:
        raise KernelError.of(f'put "{value}" back into {name} in {home}', error) from error


def line(name: str, text: str, value: str) -> str:
    """What is to be written to the file `name`, whose text was `text`, to undo the writing of `value`."""
    if name == "memory.oom_control":
        return str(files.keyed(text, "oom_kill_disable"))
    if name == "cgroup.subtree_control":
        enabled = text.split()
        names = [word[1:] for word in value.split()]
        return " ".join([("+" if name in enabled else "-") + name for name in names])
    lines = text.splitlines()
    key, space, _ = value.partition(" ")
    if not space:
        # A weight for all devices stands before those of each.
        return lines[0] if lines else ""
    for found in lines:
        if found.partition(" ")[0] == key:
            return found
    if ":" not in key:
        return text  # such as cpu.max, whose first word is a value itself
    if name.startswith("blkio.throttle."):
        return f"{key} 0"
    return f"{key} {_NO_LIMIT.get(name, 'default')}"
