"""Where the cgroup hierarchies of this host are mounted, and where in them this process is.

Every create asks this, so it must not grow with the number of containers, as /proc/self/mountinfo does. The
conventional places below /sys/fs/cgroup are looked at first, one stat(2) each; only a hierarchy that is not
at its place, or whose mount does not show its root, makes mountinfo be read.
"""

from __future__ import annotations

import os

from pyrunc.kernel.mountinfo import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Final

    from pyrunc.kernel.mountinfo import Mount

#: Where distributions mount cgroups (file-hierarchy(7)).
ROOT: Final = "/sys/fs/cgroup"
#: The named hierarchy (a v1 hierarchy without controllers) in which systemd follows processes.
SYSTEMD: Final = "name=systemd"
#: What mountinfo lists with them and is none of cgroup v2's own.
_NO_FLAGS: Final = ("ro", "rw", "seclabel")


class Hierarchy:
    """One mounted hierarchy.

    `mount`: the mount point. `controllers`: of cgroup v1 those attached, in the kernel's order
    (`("name=systemd",)` for a named one); of cgroup v2 those available at the mount's root. `own`: the
    cgroup of this process, relative to the mount point, "/" or "/a/b".
    """

    __slots__ = ("controllers", "mount", "own")

    def __init__(self, mount: str, controllers: tuple[str, ...], own: str) -> None:
        self.mount = mount
        self.controllers = controllers
        self.own = own

    def __repr__(self) -> str:
        return f"Hierarchy({self.mount!r}, {self.controllers!r}, {self.own!r})"


class Layout:
    """The hierarchies of this host: `v1` (empty on a pure cgroup v2 host) and `v2` (None on a pure v1 host).

    With both (a hybrid host) each controller is in one of them, the more usual ones in v1. Named hierarchies are among
    those, as far as they are mounted and can be written to; others than systemd's come last, for they may be unmounted
    at any time. On a pure cgroup v2 host v1 hierarchies are left alone.
    """

    __slots__ = ("v1", "v2")

    def __init__(self, v1: tuple[Hierarchy, ...], v2: Hierarchy | None) -> None:
        self.v1 = v1
        self.v2 = v2

    @property
    def pure_v2(self) -> bool:
        """Whether limits are those of cgroup v2."""
        return self.v2 is not None and not self.v1


def layout(root: str = ROOT) -> Layout:
    """Probe the host. Never fails: a host without cgroups has an empty layout."""
    lines = _read("/proc/self/cgroup").splitlines()
    available = _read(root + "/cgroup.controllers")
    own = [line.split(":", 2) for line in lines]
    if available or os.access(root + "/cgroup.controllers", os.F_OK):
        path = next((path for _, names, path in own if not names), "/")
        if os.stat(root).st_ino != 1:
            path = _below(path, _shown_root(root))
        return Layout((), Hierarchy(root, tuple(available.split()), path))
    table: list[Mount] | None = None
    v1: list[Hierarchy] = []
    v2: Hierarchy | None = None
    taken = {name for _, names, _ in own for name in names.split(",")}
    for _, names, whole in own:
        path = whole
        controllers = tuple(names.split(",")) if names else ()
        mount = f"{root}/{shown_as(controllers[:1], taken)}" if names else f"{root}/unified"
        # Inode 1 is the root of a hierarchy: nothing but its own mount shows that below a tmpfs.
        if not _is_root(mount):
            if table is None:
                table = mounts("cgroup", "cgroup2")
            found = _find(table, controllers)
            if found is None:
                continue
            mount, shown = found
            path = _below(path, shown)
        if is_named(controllers) and _is_read_only(mount):
            # Nobody but whoever mounted it is meant to use it; no limit is missed.
            continue
        if names:
            v1.append(Hierarchy(mount, controllers, path))
        else:
            v2 = Hierarchy(mount, tuple(_read(mount + "/cgroup.controllers").split()), path)
    v1.sort(key=lambda hierarchy: is_named(hierarchy.controllers))
    # With nothing but those, no limit is cgroup v1's.
    return Layout(tuple(v1) if v1 and not is_named(v1[0].controllers) else (), v2)


def is_named(controllers: Sequence[str]) -> bool:
    """Whether these are the controllers of a named hierarchy other than systemd's."""
    return bool(controllers) and controllers[0].startswith("name=") and controllers[0] != SYSTEMD


def shown_as(controllers: Sequence[str], others: Collection[str]) -> str:
    """What the directory of a hierarchy is called where all are side by side: "cpu,cpuacct", "systemd".

    A named one whose name one of the `others` has already, such as "memory", keeps the "name=" before it.
    """
    name = ",".join(controllers)
    plain = name.removeprefix("name=")
    return name if name != plain and plain in (*others, "unified") else plain


def _read(path: str) -> str:
    """The text of a small file, "" where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(descriptor, 65536))
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _is_read_only(mount: str) -> bool:
    try:
        return bool(os.statvfs(mount).f_flag & os.ST_RDONLY)
    except OSError:
        return True


def _is_root(mount: str) -> bool:
    try:
        return os.stat(mount).st_ino == 1
    except OSError:
        return False


def _below(path: str, shown: str) -> str:
    """`path`, which is relative to the hierarchy's root, relative to a mount that shows `shown` of it.

    "/" if it is not below, which is so for a process outside of the root of its cgroup namespace.
    """
    if shown == "/":
        return "/" if path.startswith("/..") else path
    if path == shown or path.startswith(shown + "/"):
        return path[len(shown) :] or "/"
    return "/"


def unified_flags() -> tuple[str, ...]:
    """The settings that the cgroup v2 hierarchy of this host is mounted with, such as nsdelegate."""
    for mount in mounts("cgroup2"):
        return tuple([word for word in mount.options if word not in _NO_FLAGS and "=" not in word])
    return ()


def _find(table: Sequence[Mount], controllers: tuple[str, ...]) -> tuple[str, str] | None:
    """Mount point and shown root of the hierarchy of `controllers` (none: the cgroup v2 hierarchy)."""
    kind = "cgroup" if controllers else "cgroup2"
    for mount in table:
        if mount.kind == kind and set(controllers) <= set(mount.options):
            return mount.point, mount.root
    return None


def _shown_root(point: str) -> str:
    """What the topmost cgroup2 mount on `point` shows of its hierarchy."""
    for mount in reversed(mounts("cgroup2")):
        if mount.point == point:
            return mount.root
    return "/"
