"""The root file system: into the root, over to it, and what it is like (config.md "Root"; pivot_root(2)).

`plan_enter` makes the root a mount of its own in the container's mount namespace, `plan_switch` makes it `/`,
`plan_finish` gives it its propagation and makes it read-only. `pyrunc.linux.mounts.plan` has the whole order.
"""

from __future__ import annotations

from errno import EINVAL, ENOENT, ENOTDIR, EPERM
from stat import S_ISDIR, S_ISLNK
from struct import pack

from pyrunc.errors import kernel_word
from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG_CMD_CREATE,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    O_CLOEXEC,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from pyrunc.kernel.structs import MOUNT_ATTR_SIZE
from pyrunc.linux.namespaces import has
from pyrunc.plan.program import GE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

PROPAGATIONS: Final = {
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "private": MS_PRIVATE,
    "unbindable": MS_UNBINDABLE,
}
_PROPAGATION_PATH: Final = "linux.rootfsPropagation"
#: sizeof(struct mount_attr), mount_setattr(2).


def check(config: Config, host: Host, report: Report) -> None:
    """The root must be given and be a directory itself, not a link to one; the propagation must be known."""
    if host.own_mounts:
        # As the peers do, pivot_root(2) in a joined namespace changes the root of all that are in it.
        report.error(
            "linux.namespaces",
            "the mount namespace to join is pyrunc's own: the container's root would take the place of the host's",
            "leave its path out, to have a new one",
        )
    names = set(config)  # the schema requires it of none, the spec on Linux
    if "root" not in names:
        report.error("root", "must be specified", 'give the root file system, such as {"path": "rootfs"}')
    else:
        root = config["root"]
        _check_path(root["path"], host, report)
        if root.get("readonly") and not has(config, "mount"):
            report.error(
                "root.readonly", "needs a mount namespace", 'add {"type": "mount"} to linux.namespaces'
            )
    word = config.get("linux", {}).get("rootfsPropagation")
    if word:
        _check_propagation(word, config, host, report)


def _check_path(path: str, host: Host, report: Report) -> None:
    where = "root.path"
    if not path:
        report.error(where, "is empty", "give the directory of the root file system")
    elif "\0" in path:
        report.error(where, "contains a NUL byte")
    elif host.root_mode < 0:
        number = -host.root_mode
        remedy = "create the directory, or correct the path" if number in (ENOENT, ENOTDIR) else ""
        report.error(where, f"invalid rootfs: {host.root}: {kernel_word(number)}", remedy)
    elif S_ISLNK(host.root_mode):
        report.error(
            where,
            f"invalid rootfs: {host.root} is a symbolic link to {host.root_real}",
            "name the directory itself",
        )
    elif not S_ISDIR(host.root_mode):
        report.error(where, f"invalid rootfs: {host.root}: {kernel_word(ENOTDIR)}", "name a directory")
    elif not path.startswith("/") and _leaves(host):
        report.error(
            where,
            f"invalid rootfs: {host.root} passes a symbolic link and leads to {host.root_real}",
            "a relative path must lead to where it says; give an absolute one for a root elsewhere",
        )


def _leaves(host: Host) -> bool:
    """Whether symbolic links below the bundle lead somewhere else than the path says."""
    below = host.root[len(host.bundle) :]
    return host.root.startswith(host.bundle + "/") and host.root_real != host.bundle_real + below


def _check_propagation(word: str, config: Config, host: Host, report: Report) -> None:
    kind = word.removeprefix("r")
    if kind not in PROPAGATIONS:
        report.error(
            _PROPAGATION_PATH,
            f'"{word}" is not a propagation type',
            "use shared, slave, private or unbindable, each also with an r before it",
        )
    elif not has(config, "mount"):
        report.error(
            _PROPAGATION_PATH, "needs a mount namespace", 'add {"type": "mount"} to linux.namespaces'
        )
    elif kind == "shared" and host.old_mounts:
        report.error(
            _PROPAGATION_PATH,
            f"{word} needs mount_setattr(2), which this kernel lacks, or a seccomp filter around pyrunc refuses",
            "use slave",
        )
    elif kind == "shared" and host.data_pages:
        # The stage for mount(2) (mounts/old.py) would show on the host.
        report.error(
            _PROPAGATION_PATH,
            f"{word} is not possible with mounts that only mount(2) makes",
            "use slave, or leave out silent and iversion, and options longer than 255 bytes",
        )
    elif kind == "private" and host.no_pivot:
        # Nothing would tell the host's unmounts to the copies below the container's root any more.
        report.error(
            _PROPAGATION_PATH,
            f"{word} is not safe with --no-pivot, which keeps the host's mounts below the container's",
            "use slave, or leave --no-pivot out",
        )


def plan_enter(config: Config, host: Host, program: Program) -> Register:
    """Emit making the root a mount of its own. Returns the register of its descriptor (O_PATH).

    Without a mount namespace it only is opened.
    """
    path = host.root_real
    root, place = program.register(), program.register()
    # For the directories that are made as mount points; the process gets its own umask later.
    program.call("umask", 0o022, step="set the umask of init")
    if not has(config, "mount"):
        flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
        program.call("openat", AT_FDCWD, path, flags, step=f"open the root {path}", of="root.path", into=root)
        program.release(place)
        return root
    plan_cut(config, program)
    kind = _kind(config)
    program.call(
        "openat",
        AT_FDCWD,
        path,
        O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        step=f"open the root {path}",
        of="root.path",
        into=place,
    )
    if kind == MS_SHARED:
        _plan_private_parent(path, program)
    program.call(
        "open_tree",
        place,
        "",
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH,
        step=f"clone the mounts of the root {path}",
        of="root.path",
        into=root,
    )
    if kind == MS_SHARED:
        # Mounts that the host has below the root: what goes on top of them is the container's alone.
        flags = AT_EMPTY_PATH | AT_RECURSIVE
        _propagate(
            program,
            root,
            "",
            flags,
            MS_SLAVE,
            "cut the mounts below the root off the host's",
            _PROPAGATION_PATH,
        )
    program.call(
        "move_mount",
        root,
        "",
        place,
        "",
        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        step=f"mount the root on {path}",
        of="root.path",
    )
    program.call("close", place, step="close the root below the mount")
    program.release(place)
    return root


def plan_cut(config: Config, program: Program) -> None:
    """Emit cutting the mounts of init's mount namespace off those that they were copied from.

    Nothing of what follows may show on the host. With "shared" volumes are to, so there only the root is cut
    off. Recursively also where the config does not say so: the host's other mounts are left behind anyway.
    "unbindable" comes at the end, else the root could not be cloned.
    """
    kind = _kind(config)
    of = _PROPAGATION_PATH if kind else "root.path"
    if kind != MS_SHARED:
        before = MS_SLAVE if kind in (0, MS_SLAVE) else MS_PRIVATE
        _propagate(program, AT_FDCWD, "/", AT_RECURSIVE, before, "cut the mounts off the host's", of)


def _kind(config: Config) -> int:
    word = config.get("linux", {}).get("rootfsPropagation")
    return PROPAGATIONS[word.removeprefix("r")] if word else 0


def _propagate(
    program: Program, at: int | Register, path: str, flags: int, kind: int, step: str, of: str
) -> None:
    attributes = program.data(pack("<QQQQ", 0, 0, kind, 0))
    program.call("mount_setattr", at, path, flags, attributes, MOUNT_ATTR_SIZE, step=step, of=of)


def _plan_private_parent(path: str, program: Program) -> None:
    """Emit making private the mount that the root lies in, so that mounting the root does not show in its peers.

    mount_setattr(2) takes the root of a mount only, and which directory on the way up that is only the kernel
    knows: EINVAL says that it is not this one.
    """
    private = program.data(pack("<QQQQ", 0, 0, MS_PRIVATE, 0))
    done = program.label()
    result = program.register()
    step = "make the mount that holds the root private"
    while path != "/":
        program.call(
            "mount_setattr",
            AT_FDCWD,
            path,
            0,
            private,
            MOUNT_ATTR_SIZE,
            step=step,
            of=_PROPAGATION_PATH,
            into=result,
            tolerate=(EINVAL,),
        )
        program.branch(result, GE, 0, done)
        path = path.rpartition("/")[0] or "/"
    program.call("mount_setattr", AT_FDCWD, "/", 0, private, MOUNT_ATTR_SIZE, step=step, of=_PROPAGATION_PATH)
    program.place(done)
    program.release(result)


def plan_switch(config: Config, host: Host, program: Program, root: Register) -> None:
    """Emit making the container's root `/`, and the host's mounts unreachable."""
    if not has(config, "mount"):
        program.call("fchdir", root, step="enter the root", of="root.path")
    elif host.no_pivot:
        _plan_move(config, host, program, root)
    else:
        _plan_pivot(config, program, root)
        program.call("close", root, step="close the root")
        program.call("chdir", "/", step="go to / of the container", of="root.path")
        return
    program.call("chroot", ".", step="change the root", of="root.path")
    program.call("close", root, step="close the root")
    program.call("chdir", "/", step="go to / of the container", of="root.path")


def plan_follow(program: Program) -> None:
    """Emit going to the root of a container without a mount namespace, for a process that joins it (setns(2)).

    It is that of the container's first process, which the runtime has opened for the slot "root". A mount namespace
    would bring its root along.
    """
    root = program.inherit("root")
    program.call("fchdir", root, step="enter the container's root", of="root.path")
    program.call("chroot", ".", step="change the root", of="root.path")
    program.call("close", root, step="close the root")


def _plan_pivot(config: Config, program: Program, root: Register) -> None:
    """pivot_root(".", ".") puts the old root on top of the new one, from where it is unmounted (pivot_root(2))."""
    shared = _kind(config) == MS_SHARED
    old = program.register()
    if shared:
        flags = O_PATH | O_DIRECTORY | O_CLOEXEC
        program.call("openat", AT_FDCWD, "/", flags, step="open the old root", into=old)
    program.call("fchdir", root, step="enter the root", of="root.path")
    program.call(
        "pivot_root",
        ".",
        ".",
        step="pivot_root into the container's root; EINVAL: the host's / cannot be moved, use --no-pivot",
        of="root.path",
    )
    if shared:
        # The host's mounts are still shared with the host: it must not see them unmounted.
        flags = AT_EMPTY_PATH | AT_RECURSIVE
        _propagate(program, old, "", flags, MS_SLAVE, "cut the old root off the host's", _PROPAGATION_PATH)
        program.call("close", old, step="close the old root")
    program.call("umount2", ".", MNT_DETACH, step="unmount the old root", of="root.path")
    program.release(old)


def _plan_move(config: Config, host: Host, program: Program, root: Register) -> None:
    """Emit moving the root over `/` (--no-pivot), where pivot_root(2) is impossible, as on an initramfs.

    The host's mounts stay below. The kernel allows a new procfs or sysfs in a user namespace where a whole one
    is mounted somewhere, so those are taken away before, lest the container mount a fresh one over its masks.
    """
    for path in host.pseudo_mounts:
        _plan_hide(path, program)
    program.call("fchdir", root, step="enter the root", of="root.path")
    step = "move the root to /"
    program.call("move_mount", root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH, step=step, of="root.path")


def _plan_hide(path: str, program: Program) -> None:
    """Emit unmounting `path`; where that is not allowed, covering it."""
    result, context, cover = program.register(), program.register(), program.register()
    done = program.label()
    slave = program.data(pack("<QQQQ", 0, 0, MS_SLAVE, 0))
    step = f"take the host's {path} away"
    # Covered by one that was found before: then it is not the root of what is seen here.
    program.call(
        "mount_setattr",
        AT_FDCWD,
        path,
        AT_RECURSIVE,
        slave,
        MOUNT_ATTR_SIZE,
        step=step,
        tolerate=(EINVAL, ENOENT),
        otherwise=done,
    )
    program.call("umount2", path, MNT_DETACH, step=step, into=result, tolerate=(EINVAL, EPERM))
    program.branch(result, GE, 0, done)
    program.call("fsopen", "tmpfs", FSOPEN_CLOEXEC, step=step, into=context)
    program.call("fsconfig", context, FSCONFIG_CMD_CREATE, 0, 0, 0, step=step)
    program.call("fsmount", context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY, step=step, into=cover)
    program.call("move_mount", cover, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH, step=step)
    program.call("close", cover, step="close the cover")
    program.call("close", context, step="close the file system context")
    program.place(done)
    program.release(result, context, cover)


def plan_finish(config: Config, host: Host, program: Program) -> None:
    """Emit the root's propagation and read-only, from inside.

    The propagation of `/` alone, or with r of all below it (config-linux.md "Rootfs Mount Propagation"), can
    only be set now, for pivot_root(2) refuses shared mounts. Read-only comes last: it is a change of the mount,
    not of the file system, and only adds, so flags that the user namespace locks are no obstacle.
    """
    word = config.get("linux", {}).get("rootfsPropagation")
    if word:
        flags = AT_RECURSIVE if word.startswith("r") else 0
        kind = PROPAGATIONS[word.removeprefix("r")]
        _propagate(program, AT_FDCWD, "/", flags, kind, f"make / {word}", _PROPAGATION_PATH)
    if config["root"].get("readonly"):
        attributes = program.data(pack("<QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0))
        program.call(
            "mount_setattr",
            AT_FDCWD,
            "/",
            0,
            attributes,
            MOUNT_ATTR_SIZE,
            step="make / read-only",
            of="root.readonly",
        )
