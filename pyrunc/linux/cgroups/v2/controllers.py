"""Handing controllers down to a container's cgroup (cgroup-v2.rst "Enabling and Disabling", "Threads")."""

from __future__ import annotations

import os

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.files import get, put, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Those that work inside a threaded subtree.
THREADED = ("cpu", "cpuset", "perf_event", "pids")


def provide(home: str, top: str, offered: Collection[str]) -> None:
    """Let the cgroup `home` have all the controllers `offered` at the mount point `top`, as far as possible.

    Each parent, from the top down, is asked for all at once, and for each by itself if it refuses one: a
    delegated subtree has some missing, and its parents belong to somebody else. Whether what is missing
    matters is known only when a limit needs it (`demand`). Raises KernelError if `home` cannot be read.
    """
    if set(read(home, "cgroup.controllers").split()) >= set(offered):
        return
    parents = []
    parent = os.path.dirname(home)
    while len(parent) >= len(top):
        parents.append(parent)
        parent = os.path.dirname(parent)
    for parent in reversed(parents):
        _enable(parent)


def settle(home: str, top: str, need: Mapping[str, str]) -> None:
    """Let the cgroup `home` hold processes where it lies below a threaded one; then it has to be threaded, too.

    Raises PyruncError, before anything is changed, if a value needs a controller (`need`, as for `demand`) that does
    not work there, KernelError if the kernel refuses.
    """
    # Below the root itself every cgroup may be a domain.
    if os.path.dirname(home) == top or read(home, "cgroup.type") != "domain invalid":
        return
    demand(home, need)
    write(home, "cgroup.type", "threaded")


def _enable(parent: str) -> None:
    try:
        names = get(parent, "cgroup.controllers").split()
    except OSError as error:
        raise KernelError.of(f"read cgroup.controllers in {parent}", error) from error
    # One refused name makes the kernel refuse them all; then each has its own chance.
    for change in (" ".join([f"+{name}" for name in names]), *[f"+{name}" for name in names]):
        if not change:
            return
        try:
            put(parent, "cgroup.subtree_control", change)
        except OSError:
            # Not ours, or not possible; `demand` names the controller if a limit needs it.
            continue
        if " " in change:
            return


def demand(home: str, need: Mapping[str, str]) -> None:
    """Raise PyruncError if a controller that a value needs (controller → JSON path) is missing in `home`."""
    if not need:
        return
    have = read(home, "cgroup.controllers").split()
    for controller, path in need.items():
        if controller in have:
            continue
        if controller not in THREADED and read(home, "cgroup.type") in ("threaded", "domain invalid"):
            raise PyruncError(
                f'{path}: the cgroup controller "{controller}" does not work in the threaded cgroup {home}',
                remedy="use a linux.cgroupsPath below a domain cgroup",
                code="unsupported",
            )
        raise PyruncError(
            f'{path}: the cgroup controller "{controller}" is not available in {home}',
            remedy=f"enable it in cgroup.subtree_control of {os.path.dirname(home)} and the cgroups above it, if "
            "cgroup.controllers of the topmost lists it",
            code="unsupported",
        )
