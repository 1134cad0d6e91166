"""features --probe: what this user can do with cgroups and resctrl here.

Cgroups are tried: one with a name of its own is made where a container of this user gets his if nothing else is said,
and removed at once. It is empty, so nobody's limits change, and no controller is enabled for it, which would
outlast it. systemd is only asked who it is, for each unit leaves lines in the host's journal; and of resctrl, which
has few groups, the kernel tells who may write.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import AT_EACCESS, AT_FDCWD
from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.interrupt import Undisturbed
from pyrunc.linux import intel_rdt
from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.files import read
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.place import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.linux.cgroups.layout import Hierarchy, Layout

    #: Why something is not available here, "" if it is.
    Reason = str


def cgroup(name: str) -> Reason:
    """Of one entry of `linux.cgroup`."""
    found = layout()
    try:
        if name == "v1":
            if not found.v1:
                return "no cgroup v1 hierarchy is mounted"
            return next(filter(None, (_try(hierarchy, 1) for hierarchy in found.v1)), "")
        if name == "v2":
            return _v2(found)[1] if found.v2 else "cgroup2 is not mounted"
        if name == "rdma":
            return _rdma(found)
        return _systemd(found, user=name == "systemdUser")[1]
    except PyruncError as error:
        return str(error)


def _try(hierarchy: Hierarchy, version: int) -> Reason:
    """Make a cgroup in `hierarchy`, and remove it."""
    path = hierarchy.mount + place("", f"pyrunc-probe-{os.urandom(8).hex()}", hierarchy, version)
    made: list[str] = []
    try:
        with Undisturbed():
            try:
                tree.make(path, hierarchy.mount, made)
            finally:
                tree.remove_made([path], made)
    except OSError as error:
        return str(tree.make_failed(path, error))
    # To bring a process there from beside it, cgroup v2 asks for this of what is above both (cgroup-v2.rst).
    return may_write(f"{os.path.dirname(path)}/cgroup.procs") if version == 2 else ""


def _v2(found: Layout) -> tuple[str, Reason]:
    """The cgroup in which a container's is made, and why that cannot be: by this process, or by the user's systemd."""
    assert found.v2 is not None
    version = 2 if found.pure_v2 else 1  # what holds of places below the mount: see the managers
    reason = _try(found.v2, version)
    if reason and os.geteuid() != 0:
        path, unreachable = _systemd(found, user=True)
        if not unreachable:
            return path, ""
    return found.v2.mount + os.path.dirname(place("", "probe", found.v2, version)), reason


def _rdma(found: Layout) -> Reason:
    for hierarchy in found.v1:
        if "rdma" in hierarchy.controllers:
            return _try(hierarchy, 1)
    if found.v2 is None or "rdma" not in found.v2.controllers:
        return "no mounted hierarchy has the controller rdma"
    path, reason = _v2(found)
    while not reason and "rdma" not in read(path, "cgroup.subtree_control").split():
        # It has to be enabled from here on down.
        reason = may_write(f"{path}/cgroup.subtree_control")
        if path == found.v2.mount:
            break
        path = os.path.dirname(path)
    return reason


def _systemd(found: Layout, *, user: bool) -> tuple[str, Reason]:
    """The cgroup in which the unit of a container is made, and why it cannot be."""
    from pyrunc.linux.cgroups.systemd.manager import at

    if not user and os.geteuid() != 0:
        return "", "only the host's root may have its systemd make units"
    if not found.v1 and found.v2 is None:
        return "", "no cgroup hierarchy is mounted on this host"
    config: Any = {}
    try:
        manager = at(config, "probe", found, user, -1)
    except PyruncError as error:
        return "", str(error)
    manager.service.systemd.close()
    path = next(iter(manager.paths().values()), "")
    while path and not os.path.isdir(path):  # a slice is made with its first unit
        path = os.path.dirname(path)
    return path, ""


def resctrl(name: str) -> Reason:
    """Of one entry of `linux.intelRdt`."""
    try:
        root = intel_rdt.mount_point()
    except PyruncError as error:
        return str(error)
    if name != "monitoring":
        return may_write(root)
    if not os.path.isdir(f"{root}/mon_groups"):
        return "this processor monitors nothing (no mon_groups)"
    return may_write(f"{root}/mon_groups")


def may_write(path: str) -> Reason:
    """Whether this user, by his effective ids, may write to `path`, or make something in it."""
    try:
        syscall("faccessat2", AT_FDCWD, os.fsencode(path), os.W_OK, AT_EACCESS)
    except OSError as error:
        remedy = "run as root, or have it delegated to you"
        return str(KernelError.of(f"write to {path}", error, remedy=remedy))
    return ""
