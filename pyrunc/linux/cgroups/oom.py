"""Word from the kernel that a container lacks memory, as a descriptor for poll(2).

cgroup v1 signals an eventfd(2) (admin-guide/cgroup-v1/memory.rst, "OOM Control"). cgroup v2 wakes whoever polls its
file memory.events for POLLPRI: earlier than it sends inotify(7) events, and with a descriptor less to keep.
"""

from __future__ import annotations

import os
import select
import time
from errno import ENODEV

from pyrunc.errors import KernelError
from pyrunc.linux.cgroups.files import get, keyed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    from pyrunc.linux.cgroups.manager import Manager

    class Watch(Protocol):
        """Attention to one cgroup.

        `descriptor`, `condition`: what to poll, and for what. `over`: the cgroup is gone, there is no more to come.
        """

        descriptor: int
        condition: int
        over: bool

        def happened(self) -> bool:
            """Whether memory was lacking since the last call. Never waits. Raises KernelError."""

        def close(self) -> None:
            """Give the descriptors back; harmless when repeated."""


#: Seconds from the limit to the end of a cgroup whose process was killed for it; generous for a busy machine.
_JUST: Final = 2.0


def watch(manager: Manager) -> Watch | None:
    """Attention to the container whose cgroups are those of `manager`; None if nothing limits its memory.

    Raises KernelError.
    """
    paths = manager.paths()
    home = paths.get("memory") or paths.get("", "")
    try:
        if "memory" in paths:
            return Signalled(home)
        return Counted(home, "memory.events", "oom_kill") if home else None
    except (FileNotFoundError, IsADirectoryError):
        return None  # the controller is not enabled there; a directory is a cgroup that the container has named so
    except OSError as error:
        raise KernelError.of(f"watch {home} for lack of memory", error) from error


class Signalled:
    """An eventfd that cgroup v1 signals when memory lacks, and once when the cgroup is removed."""

    condition = select.POLLIN

    def __init__(self, home: str) -> None:
        self.over = False
        self.descriptor = -1
        self._control = f"{home}/memory.oom_control"
        subject = os.open(self._control, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            control = os.open(f"{home}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(control, f"{self.descriptor} {subject}".encode())
            finally:
                os.close(control)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(subject)

    def happened(self) -> bool:
        """See `Watch`."""
        try:
            signals = os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return False
        self.over = not os.access(self._control, os.F_OK)
        return signals > self.over

    def close(self) -> None:
        """See `Watch`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Counted:
    """A file of events of cgroup v2, whose number behind `key` grows.

    The kernel wakes for every number in the file, and at most every 10 ms, so one call may stand for several events.
    The last of them may have been what emptied the cgroup, and systemd removes an empty cgroup at once. Then the
    cgroup above, which counts those below it as well, tells. Its other children it counts, too, but only a cgroup
    that has just been woken, being at its limit, can have taken part.
    """

    condition = select.POLLPRI

    def __init__(self, home: str, name: str, key: str) -> None:
        self.over = False
        self.descriptor = os.open(f"{home}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self._above = os.path.dirname(home)
        self._name = name
        self._key = key
        try:
            self._take(self._count())
        except BaseException:
            self.close()
            raise

    def _count(self) -> int:
        return keyed(os.pread(self.descriptor, 4096, 0).decode(), self._key)

    def _count_above(self) -> int:
        try:
            return keyed(get(self._above, self._name), self._key)
        except OSError:
            return 0  # the root of the hierarchy counts nothing

    def _take(self, count: int) -> None:
        self._seen = count
        self._seen_above = self._count_above()
        self._when = time.monotonic()

    def happened(self) -> bool:
        """See `Watch`."""
        try:
            count = self._count()
        except OSError as error:
            if error.errno != ENODEV:
                raise KernelError.of(f"read {self._name} of a cgroup in {self._above}", error) from error
            self.over = True
            return time.monotonic() - self._when < _JUST and self._count_above() > self._seen_above
        grown = count > self._seen
        self._take(count)
        return grown

    def close(self) -> None:
        """See `Watch`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
