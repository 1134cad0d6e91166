"""Whose a cgroup is, by the records of all containers below one root: several may have had the same `cgroupsPath`.

`create` takes a cgroup without processes, also that of a container that has stopped and is still there. From then on
the older one must not touch what is in it.
"""

from __future__ import annotations

from pyrunc.errors import PyruncError
from pyrunc.lifecycle.status import STOPPED, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.store.record import Record
    from pyrunc.store.store import Store


def homes(record: Record) -> set[str]:
    """The directories of a container's cgroup, one in each hierarchy."""
    cgroup = record.cgroup or {}
    return {path for path, *_ in cgroup.get("homes", ())} or {cgroup.get("home", "")} - {""}


def homes_of_living(store: Store, but: str = "") -> set[str]:
    """The cgroups of the containers below this root that have not stopped, by their records; not that of `but`."""
    found: set[str] = set()
    for container_id in store.ids():
        if container_id == but:
            continue
        try:
            with store.open(container_id) as directory:
                record = directory.load()
                if record and current(directory, record) != STOPPED:
                    found |= homes(record)
        except PyruncError:
            continue  # it tells of no cgroup
    return found


def taken(store: Store, record: Record) -> str:
    """The cgroup of `record`, whose first process has ended, if a container that lives has it by now; else ""."""
    return min(homes(record) & homes_of_living(store, record.id), default="")
