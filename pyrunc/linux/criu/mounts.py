"""Which mounts of a container criu must take for external, and what takes their place at a restore.

criu makes anew what lies wholly in the container: proc, sysfs, a tmpfs with its content. What shows a part of the host
it has to be told by name: bind mounts, the cgroups, and in a user namespace the device nodes and masks that are those
of the host. The name is the mount point, as the kernel tells it (so have runc and crun). At a restore the sources are
taken from the bundle that is restored, never from the image: with every name that there may be comes its source, and
criu looks up those that it meets.
"""

from __future__ import annotations

import os

from pyrunc.errors import PyruncError
from pyrunc.kernel.constants import MOUNT_ATTR_NOSYMFOLLOW
from pyrunc.linux.cgroups.layout import shown_as
from pyrunc.linux.devices import DEFAULTS, path_of
from pyrunc.linux.masking import plain
from pyrunc.linux.mounts.facts import destination_of, is_bind, links, source_of
from pyrunc.linux.mounts.options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.config.spec import Config, Mount
    from pyrunc.kernel.mountinfo import Mount as Mounted

_CGROUPS = ("cgroup", "cgroup2")


def destinations(config: Config, root: str) -> list[tuple[str, Mount]]:
    """Where each mount of the configuration lies in the container, links of the image followed, and the mount."""
    mounts = config.get("mounts") or ()
    resolved = links(mounts, root)
    found = []
    for mount in mounts:
        path = destination_of(mount)
        found.append((resolved.get(path, path), mount))
    return found


def owner(point: str, places: list[tuple[str, Mount]]) -> tuple[str, Mount | None]:
    """The last listed mount that `point` lies on or in, and where that is; "/" and None for the root."""
    best: tuple[str, Mount | None] = ("/", None)
    for path, mount in places:
        if len(path) >= len(best[0]) and f"{point}/".startswith(path.rstrip("/") + "/"):
            best = (path, mount)
    return best


def external(config: Config, root: str, table: list[Mounted], host: list[Mounted]) -> list[str]:
    """The mount points of what is external, of the mounts `table` that the container has, `host` those of the host.

    `root`: the root file system on the host. Raises PyruncError for mounts that no restore could make again.
    """
    places = destinations(config, root)
    for place, listed in places:
        options = parse(listed.get("options") or ())
        lost = "an id-mapped" if options.idmap or listed.get("uidMappings") else ""
        if options.attributes & MOUNT_ATTR_NOSYMFOLLOW:
            lost = "a nosymfollow"
        if lost:
            raise PyruncError(
                f"a container with {lost} mount ({place}) cannot be checkpointed",
                remedy="criu would restore it without that",
                code="unsupported",
            )
    # What criu makes anew; clones of a part of that (masks, read-only paths, the console) it makes from it.
    inside = {(entry.device, entry.root) for entry in table if entry.point == "/"}
    for entry in table:
        _, mount = owner(entry.point, places)
        if mount is not None and not is_bind(mount) and entry.root == "/":
            inside.add((entry.device, "/"))
    devices = {entry.device for entry in host}
    found = []
    for entry in table:
        path, mount = owner(entry.point, places)
        if mount is not None and is_bind(mount):
            outside = True
        else:
            seen = entry.point not in ("/", path) and entry.device in devices
            outside = entry.kind in _CGROUPS or (seen and not _is_part(entry, inside))
        if outside:
            found.append(entry.point)
    return list(dict.fromkeys(found))


def _is_part(entry: Mounted, inside: set[tuple[str, str]]) -> bool:
    return any(
        entry.device == device and f"{entry.root}/".startswith(root.rstrip("/") + "/")
        for device, root in inside
    )


def sources(
    config: Config, bundle: str, root: str, cgroups: Mapping[str, str], table: list[Mounted]
) -> dict[str, str]:
    """Mount point → what of the host takes its place, of every mount that may be external.

    `cgroups`: the directories of the container's cgroups by controller. `table`: the host's mounts, for those below a
    source that is bound with all that is in it.
    """
    found: dict[str, str] = {}
    for entry in table:
        if entry.point.startswith(root.rstrip("/") + "/"):
            found[entry.point[len(root.rstrip("/")) :]] = entry.point
    paths = [f"/dev/{name}" for name in DEFAULTS]
    paths += [path_of(device) for device in config.get("linux", {}).get("devices") or ()]
    found.update({path: path for path in paths})
    for path in config.get("linux", {}).get("maskedPaths") or ():
        found[plain(path)] = os.devnull
    for path, mount in destinations(config, root):
        if is_bind(mount):
            source = source_of(mount, bundle)
            found[path] = source
            found |= _below(path, os.path.realpath(source), table)
        elif mount.get("type") in _CGROUPS:
            found |= _cgroup_mounts(path, cgroups)
    return found


def shares_peers(config: Config, bundle: str, root: str, table: list[Mounted]) -> bool:
    """Whether a bind mount is in the peer group of the root, `table` the host's mounts, and stays in it.

    So it is below shared mounts, unless the mount has a propagation of its own, as engines say. Of such mounts criu's
    newer way (mount-v2) takes one for a part of the other, and fails; its older one makes them.
    """
    group = _peers(root, table)
    return bool(group) and any(
        _peers(source_of(mount, bundle), table) == group
        for mount in config.get("mounts") or ()
        if is_bind(mount) and not parse(mount.get("options") or ()).propagation
    )


def _peers(path: str, table: list[Mounted]) -> tuple[str, ...]:
    """The peer group of the mount that `path` of the host lies in."""
    path = f"{os.path.realpath(path)}/"
    best: tuple[int, tuple[str, ...]] = (0, ())
    for entry in table:
        top = entry.point.rstrip("/") + "/"
        if path.startswith(top) and len(top) >= best[0]:
            best = (len(top), entry.peers)
    return best[1]


def _below(path: str, source: str, table: list[Mounted]) -> dict[str, str]:
    top = source.rstrip("/") + "/"
    return {
        f"{path.rstrip('/')}/{entry.point[len(top) :]}": entry.point
        for entry in table
        if entry.point.startswith(top)
    }


def _cgroup_mounts(path: str, cgroups: Mapping[str, str]) -> dict[str, str]:
    """The mounts of one of type cgroup: of the unified hierarchy itself, or of each hierarchy of v1 in it."""
    if list(cgroups) == [""]:
        return {path: cgroups[""]}
    names: dict[str, list[str]] = {}
    for controller, source in cgroups.items():
        names.setdefault(source, []).append(controller)
    found = {
        f"{path.rstrip('/')}/{shown_as(controllers, cgroups) or 'unified'}": source
        for source, controllers in names.items()
    }
    if "" in cgroups:
        found[path] = cgroups[""]  # of type cgroup2
    return found
