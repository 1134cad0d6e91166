"""kill: send a signal to the first process of a container, or to all (runtime-spec runtime.md "Kill").

Takes no lock: it changes nothing on disk, the process is held by a pidfd and cannot be mistaken, and a
`start` that hangs in a hook must not stand in the way of ending it.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError
from pyrunc.lifecycle.liveness import open_process
from pyrunc.lifecycle.status import CREATING, STOPPED, check_allowed, current, load
from pyrunc.linux.signals import SIGKILL, number_of, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.store.record import Record
    from pyrunc.store.store import Store


def kill(store: Store, container_id: str, signal: str, *, everyone: bool = False) -> None:
    """Send `signal` (a name or a number as text) to container `container_id`.

    `everyone`: to every process in its cgroup, and a container that is not running is no error: engines clean up so.
    SIGKILL to a container without a PID namespace of its own ends every process in its cgroup anyway, even after its
    first process ended: no namespace does that for it.
    """
    number = number_of(signal)
    with store.open(container_id) as directory:
        record = load(directory, newer_is_fine=True)
        status = current(directory, record)
        if status == STOPPED and everyone and record.pid_namespace_private:
            return  # with the first process all of the container's have ended; who else is in its cgroup is not its
        kill_all = number == SIGKILL and (not record.pid_namespace_private or _holds_frozen(record))
        reached = False
        # Without a pid `create` was killed before anything was in the cgroup: who is there is not ours.
        if (everyone or kill_all) and record.pid and status != CREATING:
            ours = status != STOPPED or not _is_taken(store, record)
            found = _signal_cgroup(record, number) if ours else set()
            # A process with CAP_SYS_ADMIN may have moved out of it. Everyone else has got the signal now.
            reached = record.pid in found or (bool(found) and status == STOPPED)
        if reached or (status == STOPPED and everyone):
            return
        check_allowed("kill", container_id, status)
        if not signal_init(record, number) and not everyone:
            check_allowed("kill", container_id, STOPPED)


def _signal_cgroup(record: Record, number: int) -> set[int]:
    """Send signal `number` to every process in the container's cgroup; returns their pids."""
    if record.cgroup is None:
        return set()
    from pyrunc.lifecycle.interrupt import Undisturbed
    from pyrunc.linux.cgroups.everyone import signal_everyone
    from pyrunc.linux.cgroups.manager import restore

    # They are frozen meanwhile, and would stay so if this process ended then.
    with Undisturbed():
        return signal_everyone(restore(record.cgroup), number)


def _is_taken(store: Store, record: Record) -> bool:
    from pyrunc.lifecycle.sharing import taken

    return bool(taken(store, record))


def _holds_frozen(record: Record) -> bool:
    from pyrunc.linux.cgroups.frozen import holds_frozen

    return record.cgroup is not None and holds_frozen(record.cgroup)


def signal_init(record: Record, number: int) -> bool:
    """Send signal `number` to the container's first process; False if that has ended."""
    pidfd = open_process(record.pid, record.start_time)
    if pidfd < 0:
        return False
    try:
        send(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError.of(f"send signal {number} to container {record.id}", error) from None
    finally:
        os.close(pidfd)
    return True


def kill_cgroup(record: Record) -> bool:
    """SIGKILL every process in the container's cgroup, also frozen ones; False if there is none."""
    if record.cgroup is None:
        return False
    from pyrunc.linux.cgroups.manager import restore

    manager = restore(record.cgroup)
    if not manager.pids():
        return False
    manager.kill()
    return True
