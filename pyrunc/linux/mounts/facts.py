"""Facts about the root file system and the bind sources, read before anything is checked or compiled.

They let `check` refuse a configuration with a good sentence and let `plan` choose between a file and a
directory as mount point. Nothing relies on them for safety: init opens everything again, inside the root.
"""

from __future__ import annotations

import os
from errno import EINVAL
from stat import S_ISDIR

from pyrunc.kernel.mountinfo import mounts
from pyrunc.kernel.native import syscall
from pyrunc.linux.mounts.options import BIND, FLAGS, OPTIONS
from pyrunc.linux.namespaces import has, joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Mount
    from pyrunc.plan.host import Host

#: fsconfig(2) takes names and values of at most 255 bytes.
VALUE_MAX: Final = 255
#: Flags that no call has.
NO_FLAGS: Final = 0xFFFF_FFFF
#: How many symbolic links one path may have (path_resolution(7)).
LINKS_MAX: Final = 40


def gather(host: Host, config: Config, bundle: str, no_pivot: bool = False) -> None:
    """Fill the fields of `host` that tell of the bundle, its root and its bind sources."""
    host.bundle = bundle
    host.bundle_real = os.path.realpath(bundle)
    host.no_pivot = no_pivot
    names = set(config)
    path = config["root"]["path"] if "root" in names else ""
    if "\0" in path:
        return
    host.root = os.path.normpath(os.path.join(bundle, path)) if path else ""
    if path:
        try:
            host.root_mode = os.lstat(host.root).st_mode
        except OSError as error:
            host.root_mode = -(error.errno or EINVAL)
        host.root_real = os.path.realpath(host.root)
    if joins := joined(config).get("mount"):
        try:
            host.own_mounts = os.path.samefile(joins, "/proc/self/ns/mnt")
        except OSError:
            pass  # `namespaces.check` says what is wrong with the path
    mounts = config.get("mounts") or ()
    host.sources = sources(mounts, bundle)
    host.data_pages = any(is_for_a_page(mount) for mount in mounts if "type" in mount and not is_bind(mount))
    host.old_mounts = lacks_new_calls()
    if mounts and path and host.root_mode > 0:
        host.links = links(mounts, host.root)
    if config.get("linux", {}).get("devices"):
        from pyrunc.linux.host_nodes import nodes

        host.nodes = nodes(config, host)
    if no_pivot and has(config, "mount"):
        host.pseudo_mounts = pseudo_mounts(host.root)


def is_long(text: str) -> bool:
    """Whether fsconfig(2) does not take this as a name or a value."""
    return len(text) > VALUE_MAX // 4 and len(text.encode("utf-8", "surrogateescape")) > VALUE_MAX


def is_for_a_page(mount: Mount) -> bool:
    """Whether a new file system may have to be mounted by mount(2) (`filesystem.way_of`)."""
    for word in mount.get("options") or ():
        if word in FLAGS or is_long(word):
            return True
    return is_long(mount.get("source", ""))


def lacks_new_calls() -> bool:
    """Whether the mount calls are missing that came from Linux 5.2 (open_tree) to 5.12 (mount_setattr).

    Flags that do not exist are refused by the calls themselves (EINVAL), before any privilege is looked at; an older
    kernel or a seccomp filter answers something else, such as ENOSYS or EPERM.
    """
    for name in ("open_tree", "mount_setattr"):
        try:
            syscall(name, -1, b"", NO_FLAGS)
        except OSError as error:
            if error.errno != EINVAL:
                return True
    return False


def source_of(mount: Mount, bundle: str) -> str:
    """The absolute path of a bind mount's source; a relative one is relative to the bundle."""
    source = mount.get("source", "")
    return source if source.startswith("/") else os.path.join(bundle, source)


def is_directory(mode: int) -> bool:
    """Whether a source is mounted on a directory, by what `sources` tells of it.

    What the host's root may not look at, a file system of a user's own (FUSE), usually is one.
    """
    return mode < 0 or S_ISDIR(mode)


def is_bind(mount: Mount) -> bool:
    """Whether this is a bind mount: one of the options says so (config.md "Mounts"), or the type "bind"."""
    if mount.get("type") == "bind":
        return True
    for word in mount.get("options") or ():
        meaning = OPTIONS.get(word)
        if meaning is not None and meaning[0] is BIND:
            return True
    return False


def destination_of(mount: Mount) -> str:
    """The absolute, lexically clean destination; a relative one is relative to `/` (config.md "Mounts")."""
    path = mount["destination"]
    if path.startswith("/") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    clean = os.path.normpath("/" + path)
    return clean[1:] if clean.startswith("//") else clean


def sources(mounts: list[Mount] | tuple[Mount, ...], bundle: str) -> dict[str, int]:
    """Absolute source → st_mode, or the negated errno of stat(2), of every bind mount."""
    found: dict[str, int] = {}
    for mount in mounts:
        if is_bind(mount):
            path = source_of(mount, bundle)
            try:
                found[path] = os.stat(path).st_mode
            except OSError as error:
                found[path] = -(error.errno or EINVAL)
            except ValueError:  # a NUL byte, which check reports
                found[path] = -EINVAL
    return found


def links(mounts: list[Mount] | tuple[Mount, ...], root: str) -> dict[str, str]:
    """Destination → where it leads inside `root`, for destinations that pass symbolic links of the image.

    Init could resolve a link to something that exists by itself, with openat2(2). But images have dangling
    ones at places where engines mount (/etc/resolv.conf → ../run/systemd/resolve/…), and the directories of
    their targets have to be made. What lies below an earlier mount is not the image's and is left out.
    """
    found: dict[str, str] = {}
    covered: set[str] = set()
    clean: dict[str, bool] = {"/": True, "": True}
    for mount in mounts:
        path = destination_of(mount)
        if "\0" not in path:
            parent, _, name = path.rpartition("/")
            if not _is_covered(parent, covered) and name:
                if parent not in clean:
                    clean[parent] = _resolve(root, parent) == parent
                if not clean[parent] or _is_link(f"{root}{path}"):
                    found[path] = _resolve(root, path)
        if path != "/":
            covered.add(path)
    return found


def _is_covered(parent: str, covered: set[str]) -> bool:
    while parent:
        if parent in covered:
            return True
        parent = parent.rpartition("/")[0]
    return False


def _is_link(path: str) -> bool:
    try:
        os.readlink(path)
    except OSError:
        return False
    return True


def _resolve(root: str, path: str) -> str:
    """`path` with its symbolic links followed as if `root` were `/`; what is missing is kept as it is."""
    left = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    followed = 0
    while left:
        part = left.pop()
        if part == ".":
            continue
        if part == "..":
            if done:
                done.pop()
            continue
        try:
            target = os.readlink("/".join((root, *done, part)))
        except OSError:
            done.append(part)
            continue
        followed += 1
        if followed > LINKS_MAX:
            return path
        if target.startswith("/"):
            done = []
        left += [word for word in reversed(target.split("/")) if word]
    return "/" + "/".join(done)


def pseudo_mounts(root: str) -> tuple[str, ...]:
    """Where procfs and sysfs are mounted whole outside `root`, innermost first."""
    found = [mount.point for mount in mounts("proc", "sysfs") if mount.root == "/"]
    return tuple([point for point in reversed(found) if not (point + "/").startswith(root + "/")])
