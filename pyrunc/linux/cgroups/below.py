"""Cgroups below the container's own: those that `exec --cgroup` names, and the one that its first process is in."""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT, EOPNOTSUPP

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.files import get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(given: Sequence[str]) -> dict[str, str]:
    """Controller → path, of arguments such as `cpu,memory:a/b`; "" → path of one without controllers.

    A path is relative to the container's cgroup, with or without a slash at its begin. Raises PyruncError.
    """
    found: dict[str, str] = {}
    for text in given:
        names, colon, path = text.partition(":")
        if not colon:
            names, path = "", text
            if len(given) > 1:
                raise PyruncError(
                    f"invalid --cgroup argument: {text} (missing <controller>: prefix)", code="usage"
                )
        if ":" in path or (colon and not names):
            raise PyruncError(
                f"invalid --cgroup argument: {text}",
                remedy="write [CONTROLLER[,CONTROLLER]:]PATH",
                code="usage",
            )
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in path or "\n" in path:
            raise PyruncError(f"invalid --cgroup argument: {path!r} is not a sub cgroup path", code="usage")
        for name in names.split(","):
            if name in found:
                raise PyruncError(
                    f"invalid --cgroup argument(s): controller {name} specified multiple times", code="usage"
                )
            found[name] = "/".join(parts)
    return found


def open_with(home: str, pid: int) -> int:
    """The directory (O_PATH) of the cgroup below `home` that process `pid` is in; -1 if it is in none of them.

    In cgroup v2 a cgroup whose children have controllers takes no process, so the first process of a container that
    makes some, such as systemd, has moved on into one of them. What the process itself says is not asked: `home` is
    searched, so nothing outside of it is ever found.
    """
    for above, name in tree.below(home):
        try:
            if str(pid) in get(name, "cgroup.procs", above).split():
                return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except OSError as error:
            if error.errno in (ENOENT, ENODEV, EOPNOTSUPP):
                continue  # removed meanwhile, or threaded, which holds threads of the processes of one above
            raise KernelError.of(f"look for process {pid} in the cgroups in {home}", error) from error
    return -1
