"""pause and resume: stop every process of a container where it is, and let all go on.

The cgroup's own file is written, also where systemd made the cgroup. systemd's FreezeUnit would do the same write
and hide its failure behind a job; what was written behind its back it neither undoes nor knows: a reload of its
units leaves cgroup.freeze alone, and `status` asks the kernel, not systemd.
"""

from __future__ import annotations

from pyrunc.lifecycle.interrupt import Interruptible
from pyrunc.lifecycle.status import check_allowed, current, load
from pyrunc.linux.cgroups.manager import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.store.store import Store


def pause(store: Store, container_id: str) -> None:
    """Freeze the cgroup of a created or running container, and return when every process in it stands.

    Raises PyruncError where the container is neither, has no cgroup, or cannot be stopped; then it runs on.
    """
    with store.open(container_id) as directory, directory.lock():
        record = load(directory)
        check_allowed("pause", container_id, current(directory, record))
        # Told to end while it waits for them to stand: `freeze` lets all go on when it fails.
        with Interruptible():
            restore(record.cgroup).freeze()


def resume(store: Store, container_id: str) -> None:
    """Thaw the cgroup of a paused container.

    What the container itself has frozen inside stays so. Raises PyruncError where it is not paused.
    """
    with store.open(container_id) as directory, directory.lock():
        record = load(directory)
        check_allowed("resume", container_id, current(directory, record))
        restore(record.cgroup).thaw()
