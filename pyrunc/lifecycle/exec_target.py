"""The container that a process joins: found by its record, and held by a pidfd of its first process."""

from __future__ import annotations

import os
from errno import ENOMEM

from pyrunc.errors import KernelError, PyruncError
from pyrunc.lifecycle.failure import saved_config
from pyrunc.lifecycle.liveness import open_process, wait_end
from pyrunc.lifecycle.start import open_root
from pyrunc.lifecycle.status import PAUSED, STOPPED, check_allowed, current, load
from pyrunc.linux import namespaces
from pyrunc.spawn.conversation import InitEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.exec_request import ExecRequest
    from pyrunc.store.record import Record

#: Seconds that the container's first process may take to end after it has killed all others of its PID namespace.
_ENDING: Final = 0.5


class Target:
    """The container to join.

    `config`: that it was created with. `pidfd`, `root`: of its first process; the root is -1 where this user may not
    open it, and to be used only after `apart`.
    """

    __slots__ = ("config", "pidfd", "record", "root", "status")

    def __init__(self, record: Record, config: Config, status: str, pidfd: int) -> None:
        self.record = record
        self.config = config
        self.status = status
        self.pidfd = pidfd
        self.root = open_root(record.pid)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.pidfd)
        if self.root >= 0:
            os.close(self.root)

    def apart(self) -> int:
        """The namespaces to join (`namespaces.apart`). Raises PyruncError where the container has stopped."""
        try:
            flags = namespaces.apart(self.config, self.record.pid)
        except OSError as error:
            raise KernelError.of("look at the namespaces of the container's first process", error) from error
        # These, and the root, were found by its pid. If that were another process's by now, such as one of the host,
        # the process would run there. As long as the first one has not ended nobody else can have had it.
        if wait_end(self.pidfd, 0):
            check_allowed("exec", self.record.id, STOPPED)
        return flags

    def explains(self, error: PyruncError) -> bool:
        """Whether what the error means is that the container has stopped: ESRCH of setns, a cgroup that is gone, ..."""
        if not isinstance(error, KernelError):
            return error.code == InitEnded.code and wait_end(self.pidfd, _ENDING)
        # The first process of a PID namespace, as it ends, lets nobody be cloned into it (ENOMEM).
        return wait_end(self.pidfd, _ENDING if error.number == ENOMEM else 0)


def find(request: ExecRequest) -> Target:
    """The container that is asked for. Raises PyruncError where it does not exist, or its status forbids it."""
    with request.store.open(request.container_id) as directory:
        record = load(directory)
        status = current(directory, record)
        if not (status == PAUSED and request.ignore_paused):
            check_allowed("exec", request.container_id, status)
        config = saved_config(directory)
        pidfd = open_process(record.pid, record.start_time)
        if pidfd < 0:
            check_allowed("exec", request.container_id, STOPPED)
        return Target(record, config, status, pidfd)
