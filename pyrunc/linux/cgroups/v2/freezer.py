"""Freezing a cgroup v2 (cgroup-v2.rst "cgroup.freeze", "cgroup.events")."""

from __future__ import annotations

import os
import select
import time

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.files import keyed, write

#: How long processes may take to stop, in seconds.
PATIENCE = 10.0


def freeze(home: str, patience: float = PATIENCE) -> None:
    """Stop every process in `home` and below. Raises PyruncError if they do not within `patience` s; they run then."""
    tree.refuse_own(home)
    write(home, "cgroup.freeze", "1")
    try:
        if not _freezes(home, time.monotonic() + patience):
            raise PyruncError(
                f"freeze cgroup {home}: its processes do not stop", remedy="try again", code="cannot-freeze"
            )
    except BaseException:
        thaw(home)
        raise


def _freezes(home: str, until: float) -> bool:
    try:
        descriptor = os.open(f"{home}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLPRI)
            # The file is read before each wait: a change after the read ends the wait.
            while not keyed(os.pread(descriptor, 4096, 0).decode(), "frozen"):
                if (left := until - time.monotonic()) <= 0:
                    return False
                poll.poll(left * 1000)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError.of(f"read cgroup.events in {home}", error) from error
    return True


def thaw(home: str) -> None:
    """Let the processes go on."""
    write(home, "cgroup.freeze", "0")
