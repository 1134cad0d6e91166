"""What to do when a mount is refused: the kernel's errno alone tells nobody (features of the peers lack this)."""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ELOOP, ENODEV, ENOENT, ENOTDIR, EPERM, EROFS

from pyrunc.linux.mounts.facts import destination_of, is_bind
from pyrunc.linux.namespaces import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Mount

#: (file system type, "bind", or "" for any; errno) → what to do.
REMEDIES: Final = {
    (
        "proc",
        EPERM,
    ): "a new procfs needs a PID namespace of its own, and in a user namespace also a procfs outside "
    "that nothing is mounted over: where an outer container masks parts of its /proc, start that one with "
    "unmasked paths, or bind-mount /proc with rbind",
    (
        "sysfs",
        EPERM,
    ): "a new sysfs in a user namespace needs a network namespace of its own, and a sysfs outside that "
    'nothing is mounted over: add {"type": "network"} to linux.namespaces, or bind-mount /sys with rbind and ro',
    ("mqueue", EPERM): "mqueue in a user namespace needs an IPC namespace of its own: add "
    '{"type": "ipc"} to linux.namespaces, or bind-mount /dev/mqueue',
    ("devpts", EINVAL): "an unknown option, or gid= names a group that is not mapped in the user namespace: "
    "remove gid=5, as `pyrunc spec --rootless` does",
    ("cgroup2", EPERM): "cgroup2 in a user namespace needs a cgroup namespace of its own: "
    'add {"type": "cgroup"} to linux.namespaces, or bind-mount /sys/fs/cgroup',
    (
        "overlay",
        EPERM,
    ): "overlay in a user namespace needs Linux 5.11 and, on most hosts, the option userxattr",
    (
        "overlay",
        EINVAL,
    ): "an option or its value is wrong, or the kernel is older than 6.8 and the layers do not fit into a page",
    ("bind", EPERM): "the source's own mount has flags (ro, nosuid, nodev, noexec, noatime, ...) that the "
    "user namespace may not take away: repeat them in the options, or do not ask for rw, suid, dev, exec, atime",
    (
        "bind",
        EINVAL,
    ): "source and destination must both be directories or both files, and below a source whose "
    "mounts belong to another user namespace only rbind works, not bind",
    ("bind", ENOTDIR): "source and destination must both be directories or both files",
    ("bind", ENOENT): "the source must exist where the container's mount namespace comes from",
    (
        "bind",
        EACCES,
    ): "root of the container's user namespace cannot reach the path: check the permissions of "
    "its parent directories",
    (
        "",
        EPERM,
    ): "this kind of file system may not be mounted in a user namespace: mount it outside and bind-mount it",
    ("", EACCES): "check the permissions of the directories on the path",
    ("", ENODEV): "the kernel does not know this file system: see /proc/filesystems, load its module",
    ("", ELOOP): "the destination passes a symbolic link that may not be followed here: "
    "a magic link of procfs, or a link at the place of /proc or /sys",
    ("", ENOTDIR): "the destination, or what leads to it, is not a directory in the image",
    (
        "",
        EROFS,
    ): "the mount point is missing and cannot be made: create it in the image, or mount something writable "
    "above it first",
    ("", EBUSY): "this file system exists with other settings already",
    (
        "",
        EINVAL,
    ): "an option or its value is wrong for this file system, or the destination is not a directory",
}


def remedy(kind: str, number: int, user_namespace: bool) -> str:
    """What to do about errno `number` from mounting a `kind` ("bind" for a bind mount); "" if nothing is known."""
    found = REMEDIES.get((kind, number))
    if found is None and not (kind == "bind" and number in (EINVAL, ENODEV)):
        found = REMEDIES.get(("", number))
    if number == EPERM and not user_namespace and (kind, number) not in REMEDIES:
        return "the caller lacks CAP_SYS_ADMIN, or a security module forbids it"
    return found or ""


def explain(path: str, config: Config, number: int) -> str:
    """What to do about errno `number` from the step whose JSON path is `path`, such as `mounts[3]`."""
    place = path.partition("[")[2].partition("]")[0]
    mounts = config.get("mounts") or ()
    if not place.isdecimal() or int(place) >= len(mounts):
        return ""
    mount = mounts[int(place)]
    return remedy(_kind(mount), number, has(config, "user"))


def _kind(mount: Mount) -> str:
    return "bind" if is_bind(mount) else mount.get("type", "")


def subject(mount: Mount) -> str:
    """How to call a mount in a sentence: `proc on /proc`."""
    return f"{_kind(mount)} on {destination_of(mount)}"


def kernel_sentence(detail: str) -> str:
    """The kernel's message from a file system context without its level (`e `, `w `, `i `; fsopen(2))."""
    text = detail.strip("\0\n ")
    return text[2:] if text[:2] in ("e ", "w ", "i ") else text
