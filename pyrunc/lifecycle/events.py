"""events: what a container uses, now or from time to time, and word of every lack of memory, until it stops.

The lines are runc's: containerd's go-runc and scripts read them.
"""

from __future__ import annotations

import os
import select
import time

from pyrunc.config.writer import dumps
from pyrunc.errors import PyruncError
from pyrunc.lifecycle.liveness import open_process
from pyrunc.lifecycle.status import STOPPED, check_allowed, current, load
from pyrunc.linux.cgroups import oom, stats
from pyrunc.linux.cgroups.manager import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.log import Log
    from pyrunc.store.record import Record
    from pyrunc.store.store import Store

_OUTPUT: Final = 1
#: The longest that poll(2) can wait, in milliseconds.
_LONGEST: Final = (1 << 31) - 1


def once(store: Store, container_id: str) -> str:
    """The line that tells what a container has used up to now."""
    record = _running(store, container_id)
    return _stats_line(record, _manager(record))


def follow(store: Store, container_id: str, interval: float, put: Callable[[str], None], log: Log) -> bool:
    """Give `put` a line every `interval` seconds and at every lack of memory, until the container stops.

    False: whoever read standard output is gone before that. Takes no lock, and sleeps in one poll(2).
    """
    record = _running(store, container_id)
    stream = _Stream(record, put, log)
    try:
        stream.open()
        return stream.run(interval)
    finally:
        stream.close()


class _Stream:
    """The events of one container."""

    def __init__(self, record: Record, put: Callable[[str], None], log: Log) -> None:
        self.record = record
        self.put = put
        self.log = log
        self.manager = _manager(record)
        self.pidfd = -1
        self.watch: oom.Watch | None = None

    def open(self) -> None:
        """Begin to watch the container."""
        self.pidfd = open_process(self.record.pid, self.record.start_time)
        if self.pidfd < 0:
            check_allowed("events", self.record.id, STOPPED)
        self.watch = oom.watch(self.manager)

    def close(self) -> None:
        """Watch it no more."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self._forget_watch()

    def _forget_watch(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def run(self, interval: float) -> bool:
        """See `follow`."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.register(_OUTPUT, 0)  # whose reader's end is told unasked
        if self.watch is not None:
            poll.register(self.watch.descriptor, self.watch.condition)
        due = time.monotonic() + interval
        while True:
            ready = dict(poll.poll(_milliseconds(due - time.monotonic())))
            if _OUTPUT in ready:
                return False
            ended = self.pidfd in ready
            # What ended the container may have been the lack of memory: that is told first.
            if self.watch is not None and (ended or self.watch.descriptor in ready):
                if self.watch.happened():
                    self.put(_line({"type": "oom", "id": self.record.id}))
                if self.watch.over:
                    poll.unregister(self.watch.descriptor)
                    self._forget_watch()
            if ended:
                return True
            if (now := time.monotonic()) >= due:
                self._tell()
                due = max(due + interval, now)  # as Go's tickers: what is missed is not made up for

    def _tell(self) -> None:
        try:
            line = _stats_line(self.record, self.manager)
        except PyruncError as error:
            # It has just ended; or it goes on without its cgroup, which is said each time instead of the numbers.
            if not _is_over(self.pidfd):
                self.log.warning(str(error))
            return
        self.put(line)


def _running(store: Store, container_id: str) -> Record:
    with store.open(container_id) as directory:
        record = load(directory)
        check_allowed("events", container_id, current(directory, record))
        return record


def _manager(record: Record) -> Manager:
    manager = restore(record.cgroup) if record.cgroup else None
    if manager is None or not manager.paths():
        raise PyruncError(
            f"container {record.id} has no cgroup, so nothing counts what it uses",
            remedy="create it with a cgroup",
            code="no-cgroup",
        )
    return manager


def _stats_line(record: Record, manager: Manager) -> str:
    data = stats.read(manager)
    if record.intel_rdt:
        from pyrunc.linux import intel_rdt_stats

        data["intel_rdt"] = intel_rdt_stats.read(record.intel_rdt)
    return _line({"type": "stats", "id": record.id, "data": data})


def _line(event: dict[str, object]) -> str:
    return dumps(event, compact=True) + "\n"


def _milliseconds(seconds: float) -> int:
    """For poll(2), rounded up so that it does not wake too early."""
    return min(max(0, -int(-seconds * 1000 // 1)), _LONGEST)


def _is_over(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
