"""Word from the kernel that a container lacks memory, as a descriptor for poll(2).

cgroup v1 signals an eventfd(2) (admin-guide/cgroup-v1/memory.rst, "OOM Control"). cgroup v2 wakes whoever polls its
file memory.events for POLLPRI: earlier than it sends inotify(7) events, and with a descriptor less to keep.
"""

from __future__ import annotations

import os
import select
from errno import ENODEV, ENOENT

from pyrunc.errors import KernelError
from pyrunc.linux.cgroups.files import keyed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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


_EVENTS: Final = "memory.events"


def watch(manager: Manager) -> Watch | None:
    """Attention to the container whose cgroups are those of `manager`; None if nothing limits its memory.

    Raises KernelError.
    """
    paths = manager.paths()
    home = paths.get("memory") or paths.get("", "")
    try:
        if "memory" in paths:
            return Signalled(home)
        return Counted(home, _EVENTS, "oom_kill", manager.oom_kills) if home else None
    except FileNotFoundError:
        return None  # the controller is not enabled there
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
    `left`: tells the number when the file is gone; systemd removes a cgroup as soon as it is empty.
    """

    condition = select.POLLPRI

    def __init__(self, home: str, name: str, key: str, left: Callable[[], int]) -> None:
        self.over = False
        self.descriptor = os.open(f"{home}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self._key = key
        self._left = left
        try:
            self._seen = self._count()
        except BaseException:
            self.close()
            raise

    def _count(self) -> int:
        try:
            return keyed(os.pread(self.descriptor, 4096, 0).decode(), self._key)
        except OSError as error:
            if error.errno not in (ENODEV, ENOENT):
                raise
        self.over = True
        return self._left()

    def happened(self) -> bool:
        """See `Watch`."""
        try:
            count = self._count()
        except OSError as error:
            raise KernelError.of("read the events of a cgroup", error) from error
        grown = count > self._seen
        self._seen = max(count, self._seen)
        return grown

    def close(self) -> None:
        """See `Watch`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
