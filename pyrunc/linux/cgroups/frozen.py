"""Is a container's cgroup frozen? A module of its own, for `state` and `start` ask nothing else of cgroups."""

from __future__ import annotations

from pyrunc.linux.cgroups.files import get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def told(home: str, version: int, above: int | None = None) -> bool:
    """Whether the cgroup `home` itself, not a parent, was told to freeze. False if it does not exist.

    `above`: a descriptor that `home` is relative to.
    """
    try:
        # Not freezer.state, which a frozen parent changes, too.
        return get(home, "freezer.self_freezing" if version == 1 else "cgroup.freeze", above) == "1"
    except OSError:
        return False  # removed: no process is held there


def holds_frozen(record: Mapping[str, Any]) -> bool:
    """Whether processes in there may be frozen so that SIGKILL does not end them.

    In cgroup v1 a container can have frozen cgroups of its own inside, too; in v2 a frozen process dies.
    """
    if is_frozen(record):
        return True
    if record["version"] == 1:
        from pyrunc.linux.cgroups import tree

        for path, _, controllers in record["homes"]:
            if "freezer" in controllers:
                return any(told(name, 1, above) for above, name in tree.below(path))
    return False


def is_frozen(record: Mapping[str, Any]) -> bool:
    """The same of the cgroup whose manager wrote `record`."""
    if record["version"] == 2:
        return bool(record["home"]) and told(record["home"], 2)
    unified = ""
    for path, _, controllers in record["homes"]:
        if "freezer" in controllers:
            return told(path, 1)
        if "" in controllers:
            unified = path
    return bool(unified) and told(unified, 2)


def stops_in(paths: Mapping[str, str]) -> bool:
    """Whether a process that enters the cgroup `paths` (controller → directory) is stopped: it, or a parent, is frozen.

    Of a parent `is_frozen` says nothing: whoever has frozen that has not paused the container.
    """
    for controller, version in (("freezer", 1), ("", 2)):
        path = paths.get(controller, "")
        while path.count("/") > 1:
            if told(path, version):
                return True
            path = path.rpartition("/")[0]
    return False
