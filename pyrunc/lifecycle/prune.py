"""prune: what runtimes that were killed, or state directories that were removed by hand, have left behind.

Only what is provably this store's is found, and only what provably serves no container is removed:

* a state directory without a record, or whose `create` is not finished and has no living creator. With it goes all
  that `delete --force` would remove: its init, cgroup, resctrl group, and what is mounted in the directory;
* with `stopped`, a container that has stopped, for an engine that will not come back to delete it;
* a cgroup whose mark (`linux.cgroups.mark`) names a state directory of this store that is not there, which no
  container's record names either, and in which no process is.

Between looking and removing anything may change, so everything is looked at once more under the lock of its id: as long
as that is held no container of this id can be made, started or deleted.
"""

from __future__ import annotations

import os
import time

from pyrunc.errors import NotFound, PyruncError
from pyrunc.lifecycle.delete import delete_locked
from pyrunc.lifecycle.liveness import is_alive
from pyrunc.lifecycle.sharing import homes
from pyrunc.lifecycle.status import STOPPED, current
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.mark import PARENT, UNIT, marked
from pyrunc.store.store import check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from pyrunc.log import Log
    from pyrunc.store.store import Directory, Store

#: Seconds. A state directory without a record is one that `create` has just made, until it is this old.
_FRESH: Final = 10.0
KEEP, REMOVE, REMOVED, FAILED = "keep", "remove", "removed", "failed"


class Leftover:
    """Something that was left.

    `kind`: "state", "mount" or "cgroup". `paths`: where it is; a cgroup has one in each hierarchy. `why`: it is one, or
    is kept. `action`: what is to be done, or was. `role`: of a cgroup, as its mark says.
    """

    __slots__ = ("action", "id", "kind", "paths", "role", "why")

    def __init__(
        self, kind: str, container_id: str, paths: list[str], why: str, action: str = REMOVE, role: str = ""
    ) -> None:
        self.kind = kind
        self.id = container_id
        self.paths = paths
        self.why = why
        self.action = action
        self.role = role

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "id": self.id,
            "paths": self.paths,
            "reason": self.why,
            "action": self.action,
        }


def leftovers(store: Store, stopped: bool = False) -> list[Leftover]:
    """All that is left under this store; nothing is changed. `stopped`: stopped containers, too."""
    found: list[Leftover] = []
    known: set[str] = set()
    for container_id in store.ids():
        try:
            with store.open(container_id) as directory:
                known |= _cgroups_of(directory)
                found += _state(directory, stopped)
        except NotFound:
            continue  # a file, or removed meanwhile
    return found + _orphans(store, known)


def remove(store: Store, found: Iterable[Leftover], stopped: bool, log: Log) -> list[tuple[str, PyruncError]]:
    """Remove those of `found` that are to be removed and still are leftovers; returns what failed, by id."""
    failures = []
    for leftover in found:
        if leftover.action != REMOVE or leftover.kind == "mount":  # those go with their state directory
            continue
        try:
            if leftover.kind == "state":
                done = _remove_state(store, leftover.id, stopped, log)
            else:
                done = _remove_cgroup(store, leftover)
            leftover.action = REMOVED if done else KEEP
        except PyruncError as error:
            leftover.action = FAILED
            failures.append((leftover.id, error))
    _settle_mounts(found)
    return failures


def _settle_mounts(found: Iterable[Leftover]) -> None:
    became = {leftover.id: leftover.action for leftover in found if leftover.kind == "state"}
    for leftover in found:
        if leftover.kind == "mount":
            leftover.action = became[leftover.id]


# -- state directories -----------------------------------------------------------------------------------------


def _state(directory: Directory, stopped: bool) -> list[Leftover]:
    try:
        why = _why(directory, stopped)
    except PyruncError as error:
        if error.code == "foreign-directory":
            return []
        # Damaged, or not to be read: whether its processes live, only a person can say.
        return [Leftover("state", directory.id, [directory.path], str(error), KEEP)]
    if not why:
        return []
    from pyrunc.lifecycle.left_mounts import mounted_below

    mounts = [
        Leftover("mount", directory.id, [point], "it is in this state directory")
        for point in mounted_below(directory.path)
    ]
    return [Leftover("state", directory.id, [directory.path], why), *mounts]


def _why(directory: Directory, stopped: bool) -> str:
    """Why this state directory is a leftover, "" if it is none."""
    record = directory.load()
    if record is None:
        # `create` makes it for its caller alone: below a mistaken --root an empty directory may be anybody's.
        made = os.fstat(directory.fd)
        private = made.st_uid == os.geteuid() and not made.st_mode & 0o077
        if private and time.time() - made.st_mtime > _FRESH and directory.is_own():
            return "its create was killed before it had made anything"
        return ""
    if record.newer:
        return ""
    if not record.ready:
        pid = record.creator[0]
        return "" if is_alive(*record.creator) else f"its create, process {pid}, was killed"
    return "the container has stopped" if stopped and current(directory, record) == STOPPED else ""


def _remove_state(store: Store, container_id: str, stopped: bool, log: Log) -> bool:
    try:
        with store.open(container_id) as directory:
            # Whoever holds the lock is making, starting or deleting it: then it has somebody.
            if not directory.try_lock() or not directory.in_place() or not _why(directory, stopped):
                return False
            delete_locked(store, directory, log)
    except NotFound:
        pass  # deleted meanwhile
    return True


# -- cgroups ---------------------------------------------------------------------------------------------------


def _cgroups_of(directory: Directory) -> set[str]:
    """The cgroups that the record in `directory` names."""
    try:
        record = directory.load()
    except PyruncError:
        return set()
    paths = homes(record) | set((record.cgroup or {}).get("made", ())) if record else set()
    return {os.path.realpath(path) for path in paths}  # /sys/fs/cgroup/cpu may be a link to cpu,cpuacct


def _orphans(store: Store, known: set[str]) -> list[Leftover]:
    """The marked cgroups of containers that this store has no directory of."""
    by_id: dict[tuple[str, str], list[str]] = {}
    for path, role, state in marked(layout(), _device(store.root)):
        root, _, container_id = state.rpartition("/")
        if root != store.root or os.path.lexists(state) or os.path.realpath(path) in known:
            continue
        try:
            check_id(container_id)
        except PyruncError:
            continue  # no pyrunc has written this
        by_id.setdefault((container_id, role), []).append(path)
    found = []
    going: set[str] = set()
    for (container_id, role), paths in sorted(by_id.items(), key=lambda entry: entry[0][1] == PARENT):
        if role != PARENT:
            inside = {pid for path in paths for pid in tree.pids(path)}
            why = f"no container {container_id} is there any more"
            if inside:
                why += f", but {len(inside)} process(es) in it, such as {min(inside)}"
            else:
                going.update(paths)
            found.append(Leftover("cgroup", container_id, paths, why, KEEP if inside else REMOVE, role))
            continue
        # Made on the way to a container's own; others may have come into it since.
        empty = []
        for path in paths:  # inner ones first
            if _children(path) <= going:
                empty.append(path)
                going.add(path)
        if empty:
            why = f"it was made for container {container_id}, which is not there any more"
            found.append(Leftover("cgroup", container_id, empty, why, role=role))
    return found


def _device(root: str) -> int:
    """The device that the state of containers below `root` is on, also where all of that was removed."""
    while not os.path.isdir(root):
        root = os.path.dirname(root)
    return os.stat(root).st_dev


def _children(path: str) -> set[str]:
    try:
        with os.scandir(path) as entries:
            return {entry.path for entry in entries if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return set()


def _remove_cgroup(store: Store, leftover: Leftover) -> bool:
    """Remove an orphan, with its id claimed: no container can come to it meanwhile."""
    try:
        directory = store.create(leftover.id)
    except PyruncError as error:
        if error.code != "exists":
            raise
        return False
    with directory:
        try:
            gone = [_remove_path(path, leftover.role) for path in leftover.paths]
            return all(gone)
        finally:
            directory.remove()


def _remove_path(path: str, role: str) -> bool:
    if role == PARENT:
        tree.remove_empty([path])
        return not os.path.isdir(path)
    if tree.pids(path):
        return False
    if role == UNIT:
        _stop_unit(path)
    tree.remove(path)
    return True


def _stop_unit(path: str) -> None:
    """Stop the unit that has the cgroup `path`.

    A cgroup with the name of a unit need not be that unit's: a user's containers may write marks, and make cgroups with
    any name inside their own.
    """
    from pyrunc.linux.cgroups.systemd.systemd import Systemd

    unit, hierarchy = os.path.basename(path), layout().v2
    systemd = Systemd(os.geteuid() != 0)
    try:
        if hierarchy and path == hierarchy.mount + systemd.cgroup_of(unit):
            systemd.stop(unit)
    finally:
        systemd.close()
