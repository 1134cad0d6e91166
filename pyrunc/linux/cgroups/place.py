"""Where below its mount point a container's cgroup lies (config-linux.md "Cgroups Path")."""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.linux.cgroups.layout import Hierarchy

#: Parents are made one from within the other, and Python's stack is not endless.
DEEPEST: Final = 300


def clean(path: str) -> str:
    """`path` without empty components, `.` and `..`, which goes up at most to where the path begins.

    Cgroup names are no symbolic links, so this is what the text means; a relative path stays below its base.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def fault(path: str) -> str:
    """What is wrong with the `cgroupsPath` `path`, "" if nothing."""
    if "\0" in path or "\n" in path:
        return "holds a NUL or a newline, which no cgroup name can hold"
    if path.count("/") > DEEPEST:
        return f"is nested deeper than {DEEPEST} levels"
    if path and not clean(path):
        return "is the root of the hierarchy, which cannot be a container's cgroup"
    return ""


def place(cgroups_path: str, container_id: str, hierarchy: Hierarchy, version: int) -> str:
    """The container's cgroup relative to the mount point of `hierarchy`, "/a/b".

    An absolute `cgroups_path` is taken as it is. A relative one, and the container's id where it is empty,
    lie in cgroup v1 below this process's own cgroup; in cgroup v2 beside it, because a cgroup with processes
    cannot have controllers for its children. Raises PyruncError.
    """
    if wrong := fault(cgroups_path):
        raise PyruncError(f"linux.cgroupsPath {cgroups_path!r} {wrong}", code="invalid-config")
    path = clean(cgroups_path) or container_id
    if cgroups_path.startswith("/"):
        return f"/{path}"
    base = hierarchy.own if version == 1 else hierarchy.own.rpartition("/")[0]
    return f"{base.rstrip('/')}/{path}"
