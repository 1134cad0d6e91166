"""Whose a cgroup is, written on it: an extended attribute with the state directory of its container.

A cgroup outlives the record of its container where that was lost: a state directory removed by hand, or by a cleaner
of stale files. Its name proves nothing, engines choose it. So `create` marks what it makes, and `prune` takes nothing
for pyrunc's that has no mark. A path means another directory in another mount namespace (a pyrunc in a container that
sees the host's cgroups), hence the mark also has the device that it is on.

Root's marks are in the namespace "trusted", where nobody else writes, neither the user of a delegated cgroup nor root
of a user namespace. Those of a user are in "user" (since Linux 5.7), which his containers may be able to write; hence a
mark is never a reason to touch anything but the cgroup that bears it.
"""

from __future__ import annotations

import os

from pyrunc.kernel.procfs import in_user_namespace
from pyrunc.linux.cgroups import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Final

    from pyrunc.linux.cgroups.layout import Layout

#: What a marked cgroup is: the container's own, one above it that was made on the way, or one that systemd keeps.
HOME, PARENT, UNIT = "home", "parent", "unit"
_LONGEST: Final = 4096 + 32


def mark(record: Mapping[str, Any] | None, state: str) -> None:
    """Mark the cgroups that were made for a container; `record`: of its manager, `state`: its state directory.

    One that is not there (any more, or yet) or takes no mark stays without one: `prune` will not know it.
    """
    if record is None:
        return
    # On cgroup v1 without any, as of an ordinary user, there is nothing to mark.
    homes = {path for path, *_ in record["homes"]} if record["version"] == 1 else {record["home"]}
    roles = {path: HOME if path in homes else PARENT for path in record["made"]}
    if record["version"] == 2 and record.get("systemd", {}).get("ours"):
        roles[record["home"]] = UNIT
    name, device = _name(), os.stat(state).st_dev
    for path, role in roles.items():
        try:
            os.setxattr(path, name, os.fsencode(f"{role} {device} {state}"))
        except OSError:
            continue


def marked(layout: Layout, device: int) -> Iterator[tuple[str, str, str]]:
    """(directory, role, state directory) of every marked cgroup in these hierarchies, those inside before others.

    Only of containers with their state on `device`, as stat(2) tells it. Raises KernelError.
    """
    name = _name()
    for hierarchy in (*layout.v1, *((layout.v2,) if layout.v2 else ())):
        for above, last in tree.below(hierarchy.mount):
            try:
                value = os.getxattr(last if above is None else f"/proc/self/fd/{above}/{last}", name)
                # A path too long to be read has a container made, which is not what is looked for.
                path = last if above is None else f"{os.readlink(f'/proc/self/fd/{above}')}/{last}"
            except OSError:
                continue  # no mark, or removed meanwhile
            role, at, state = (*os.fsdecode(value).split(" ", 2), "", "")[:3]
            if role in (HOME, PARENT, UNIT) and at == str(device) and len(value) < _LONGEST:
                yield path, role, state


def _name() -> str:
    return "user.pyrunc" if os.geteuid() or in_user_namespace() else "trusted.pyrunc"
