"""Freezing a cgroup v2 (cgroup-v2.rst "cgroup.freeze", "cgroup.events")."""

from __future__ import annotations

import os
import select
import time

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.files import get, keyed, write

#: How long processes may take to stop, in seconds.
PATIENCE = 10.0


def freeze(home: str) -> None:
    """Stop every process in `home` and below. Raises PyruncError if they do not stop; they run then."""
    _refuse_own(home)
    write(home, "cgroup.freeze", "1")
    try:
        descriptor = os.open(f"{home}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of(f"read cgroup.events in {home}", error) from error
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        until = time.monotonic() + PATIENCE
        # The file is read before each wait: a change after the read ends the wait.
        while not keyed(os.pread(descriptor, 4096, 0).decode(), "frozen"):
            if (left := until - time.monotonic()) <= 0:
                write(home, "cgroup.freeze", "0")
                raise PyruncError(f"freeze cgroup {home}: its processes do not stop", remedy="try again")
            poll.poll(min(left, 0.1) * 1000)
    finally:
        os.close(descriptor)


def _refuse_own(home: str) -> None:
    for line in get("/proc/self", "cgroup").splitlines():
        if line.startswith("0::/") and len(line) > 4 and f"{home}/".endswith(f"{line[3:]}/"):
            raise PyruncError(
                f"freeze cgroup {home}: this process is in it", remedy="move it elsewhere first"
            )


def thaw(home: str) -> None:
    """Let the processes go on."""
    write(home, "cgroup.freeze", "0")
