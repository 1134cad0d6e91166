"""Where below its mount point a container's cgroup lies (config-linux.md "Cgroups Path")."""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.cgroups.layout import Hierarchy


def fault(path: str) -> str:
    """What is wrong with the `cgroupsPath` `path`, "" if nothing."""
    if "\0" in path or "\n" in path:
        return "holds a NUL or a newline, which no cgroup name can hold"
    parts = path.split("/")
    if ".." in parts:
        return 'holds "..", which could lead out of the place it names'
    if path and not any(part not in ("", ".") for part in parts):
        return "is the root of the hierarchy, which cannot be a container's cgroup"
    return ""


def place(cgroups_path: str, container_id: str, hierarchy: Hierarchy, version: int) -> str:
    """The container's cgroup relative to the mount point of `hierarchy`, "/a/b".

    An absolute `cgroups_path` is taken as it is. A relative one, and the container's id where it is empty,
    lie in cgroup v1 below this process's own cgroup; in cgroup v2 beside it, because a cgroup with processes
    cannot have controllers for its children. Raises PyruncError.
    """
    if wrong := fault(cgroups_path):
        raise PyruncError(f"linux.cgroupsPath {cgroups_path!r} {wrong}")
    base = ""
    if not cgroups_path.startswith("/"):
        base = hierarchy.own if version == 1 else hierarchy.own.rpartition("/")[0]
    parts = f"{base}/{cgroups_path or container_id}".split("/")
    return "/" + "/".join([part for part in parts if part not in ("", ".")])
