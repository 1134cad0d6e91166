"""A signal to every process of a cgroup, while none can fork away from it."""

from __future__ import annotations

import os

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.signals import SIGKILL, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from pyrunc.linux.cgroups.manager import Manager

#: How many processes are held by descriptors at a time; a limit of open files is 1024 by default.
_BATCH: Final = 128


def signal_everyone(manager: Manager, number: int) -> set[int]:
    """Send signal `number` to every process in the cgroup and below, once each; returns their pids.

    They are frozen meanwhile, so that the children of one that forks get it, too; what was frozen before stays so,
    and takes the signal when it is thawed. One that blocks the signal can have another child afterwards, and so can
    one in fork(3), which blocks all for a moment. SIGKILL is carried out at once, also where they are frozen. Raises
    KernelError where a process may not be signalled; the others have got it then.
    """
    if number == SIGKILL:
        found = set(manager.pids())
        if found:
            manager.kill()
        return found
    if not manager.pids():
        return set()
    held, ours = manager.frozen(), False
    if not held:
        try:
            manager.freeze()
            held = ours = True
        except PyruncError:
            pass  # no freezer, or they do not stand still: several rounds find those that fork meanwhile
    try:
        return _rounds(manager, number, 1 if held else tree.TRIES)
    finally:
        # Unless it is gone: in cgroup v2 others can kill what is frozen, and then delete the container.
        if ours and manager.frozen():
            manager.thaw()


def _rounds(manager: Manager, number: int, rounds: int) -> set[int]:
    reached: set[int] = set()
    refused: KernelError | None = None
    for _ in range(rounds):
        fresh = [pid for pid in manager.pids() if pid not in reached]
        if not fresh:
            break
        for first in range(0, len(fresh), _BATCH):
            refused = _signal(manager, fresh[first : first + _BATCH], number) or refused
        reached.update(fresh)
    if refused:
        raise refused
    return reached


def _signal(manager: Manager, pids: Iterable[int], number: int) -> KernelError | None:
    """Send `number` to those of `pids` that still are in the cgroup; the error for one that may not be reached."""
    pidfds: dict[int, int] = {}
    refused = None
    try:
        for pid in pids:
            try:
                pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass  # it has ended
            except OSError as error:
                raise KernelError.of(f"open process {pid}", error) from None
        # Asked again, now that each is held: in cgroup v2 a frozen process can be killed by others, and its pid may
        # already have been somebody else's when it was opened. Whoever has the pid and is in there now, is held.
        for pid in pidfds.keys() & manager.pids():
            try:
                send(pidfds[pid], number)
            except ProcessLookupError:
                pass  # it has ended
            except OSError as error:
                refused = KernelError.of(f"send signal {number} to process {pid}", error)
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)
    return refused
