"""Mounts into and out of a container that runs: what `pyrunc mounts` has pyrunc-init do.

The process that does it begins where init of `create` began: in a copy of the host's mounts that belongs to the
container's user namespace. So a source is reached with the same rights, and what the host's mount forbids (ro,
nosuid, nodev, ...) is locked for the container in the same way. There every mount is made, in the namespaces that
its file system shows, with all its options, still detached. Only then it enters the container's mount namespace.

The container's processes are hostile and run meanwhile:

* Whose namespaces are joined is settled by descriptors that were opened before (`namespaces.open_of`).
* It is not in the container's cgroup (which may be frozen, or full), not dumpable, and not in its PID namespace. What a
  procfs has to have there is told in `running_procfs`.
* It acts as the container's root, and after setns(2) its own root is that of the container's mount namespace, which
  no chroot(2) of a process changes. From there mount points are resolved as `points` tells.
* A mount point is a descriptor that was looked at, and the mount is moved onto it. What a process exchanges
  meanwhile is at worst another place in the container.
* What is unmounted again is named by a descriptor, below a procfs of the runtime's own.

The runtime holds a descriptor of every mount before the first is attached (SAY_MOUNT): so it takes away what was
attached where a later one fails, however it fails.
"""

from __future__ import annotations

from errno import EBADF, EINVAL, ENOENT, ENOTDIR

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_NEWNS,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    PR_SET_NAME,
    STATX_ATTR_MOUNT_ROOT,
    STATX_MNT_ID,
    STATX_MNT_ID_UNIQUE,
)
from pyrunc.kernel.structs import STATX_AT_ATTRIBUTES, STATX_AT_MNT_ID, STATX_SIZE
from pyrunc.linux import namespaces, procfs, rootfs
from pyrunc.linux.idmap import plan_root
from pyrunc.linux.mounts import bind, filesystem
from pyrunc.linux.mounts import plan as mounts
from pyrunc.linux.mounts.facts import destination_of, is_bind, is_directory, source_of
from pyrunc.linux.mounts.options import parse
from pyrunc.linux.mounts.points import INSIDE, STRAIGHT, Points
from pyrunc.linux.mounts.rules import ORDINARY
from pyrunc.linux.mounts.running_procfs import plan_check, plan_contexts, plan_unseen
from pyrunc.plan.program import BITS, EQ, TALK, Program
from pyrunc.plan.talk import NAME, READY, SAY_MOUNT, give, hear, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Final

    from pyrunc.config.spec import Config, Mount
    from pyrunc.linux.mounts.options import Options
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Label, Register

#: Which bits of statx(2) tell a mount's id: the one that is never used again, before Linux 6.8 the other.
MOUNT_ID: Final = STATX_MNT_ID | STATX_MNT_ID_UNIQUE
#: What an error calls the namespaces.
_WHOSE: Final = "of the container"


def kinds_for(entries: Sequence[Mount]) -> list[str]:
    """The types of the container's namespaces, besides mount and user, that its file systems have to be made in."""
    made = {entry.get("type", "") for entry in entries if not is_bind(entry)}
    kinds = ["ipc", "uts", "network"] if made else []
    return [*kinds, "pid"] if "proc" in made else kinds


def plan_add(config: Config, host: Host, joins: Collection[str]) -> Program:
    """Compile mounting `config["mounts"]` into the container that `config` is of.

    `joins`: the types of namespaces that are not the runtime's own, "mount" among them; each is inherited.
    """
    program = _begin()
    contexts = plan_contexts(config, joins, _WHOSE, program)
    namespaces.plan_setns({kind: _WHOSE for kind in joins if kind not in ("mount", "pid")}, program)
    program.call("unshare", CLONE_NEWNS, step="copy the host's mounts")
    rootfs.plan_cut(config, program)
    points = Points(program, program.register())
    failures = filesystem.Failures(program)
    # As at create: with the runtime's own ids, which the directories on the way to the sources may be open to alone.
    kept = mounts.plan_opened(config, host, program)
    _plan_become_root(config, program)
    for index, mount in enumerate(config["mounts"]):
        tree = program.register()
        if index in kept:
            program.load(tree, kept[index], 8)
        else:
            program.release(tree)
            tree = _plan_filesystem(config, points, failures, index, contexts.get(index, 0))
            kept[index] = _keep(program, tree)
        of = f"mounts[{index}]"
        options = parse(mount.get("options") or ())
        if is_bind(mount):
            bind.change_tree(points, tree, options, False, _step(mount), of)
        else:
            mounts.plan_propagation(points, tree, options, _step(mount), of)
        give(program, tree, SAY_MOUNT, index, step=f"{_step(mount)}: show it to the runtime", of=of)
        program.release(tree)
    hear(program, "wait until the runtime knows the mounts")
    program.held = len(kept)
    _plan_enter(program, points.root)
    _plan_attach(config, host, points, kept)
    failures.emit()
    say(program, READY, "tell the runtime that all is mounted")
    program.call("exit_group", 0, step="end")
    return program


def plan_remove(
    config: Config, host: Host, joins: Collection[str], places: Sequence[tuple[str, int]]
) -> Program:
    """Compile unmounting what is mounted at these destinations, the last first; none if one is not as it should be.

    `places`: destination, and the id of the mount that it has to be. 0: any mount; then no symbolic link on the
    way is followed, for nothing else tells that it is the one that is meant. Negative: it may be missing, for the call
    that was to mount or unmount it was killed.
    """
    program, proc = _begin_unmounting(config, host, joins)
    hear(program, "wait until the runtime has noted what goes")
    root = program.register()
    _plan_enter(program, root)
    points = Points(program, root)
    found = program.register()
    # Of several on one place the uppermost is seen, which is the last.
    for path, number in dict(places).items():
        missing = program.label()
        _plan_find(points, path, number, found, missing)
        program.place(missing)
        program.call("close", found, step="close a descriptor", tolerate=(EBADF,))
    program.call("fchdir", proc, step="go to the procfs")
    slot = program.inherit("reserved-mount")
    for index in reversed(range(len(places))):
        path, number = places[index]
        if any(path.startswith(f"{gone}/") for gone, _ in places[index + 1 :]):
            say(program, index, f"tell the runtime that {path} went with what it was in")
            continue
        missing = program.label()
        _plan_find(points, path, number, found, missing)
        program.call("dup3", found, slot, O_CLOEXEC, step=f"unmount {path}")
        program.call("umount2", f"self/fd/{slot}", MNT_DETACH, step=f"unmount {path}")
        program.place(missing)
        program.call("close", found, step="close a descriptor", tolerate=(EBADF,))
        say(program, index, f"tell the runtime that {path} is unmounted")
    program.call("exit_group", 0, step="end")
    return program


def plan_take_away(config: Config, host: Host, joins: Collection[str], count: int) -> Program:
    """Compile unmounting the mounts behind the inherited descriptors `mount-0` and so on, the last first.

    One that is not attached is left alone; it goes with its descriptors.
    """
    program, proc = _begin_unmounting(config, host, joins)
    _plan_enter(program, program.register())
    program.call("fchdir", proc, step="go to the procfs")
    for index in reversed(range(count)):
        slot = program.inherit(f"mount-{index}")
        step = "take back what was mounted"
        program.call("umount2", f"self/fd/{slot}", MNT_DETACH, step=step, tolerate=(EINVAL,))
    say(program, READY, "tell the runtime that all is as before")
    program.call("exit_group", 0, step="end")
    return program


def _begin() -> Program:
    """A program without stdio, whose process nobody can look into and that ends with the runtime."""
    program = Program(0)
    program.set(TALK, program.inherit("talk"))
    program.call("prctl", PR_SET_NAME, NAME, 0, 0, 0, step="set the name of the process")
    program.call("umask", 0o022, step="set the umask of init")
    plan_unseen(program)
    return program


def _begin_unmounting(config: Config, host: Host, joins: Collection[str]) -> tuple[Program, Register]:
    """As `_begin`, with the container's rights; and the register of a procfs in which this process is `self`."""
    program = _begin()
    if host.euid == 0 and not host.old_mounts:
        proc = procfs.plan_open(program)
    else:  # who cannot make one; nobody with less rights than the host's root mounts anything over the host's
        proc = program.register()
        flags = O_PATH | O_DIRECTORY | O_CLOEXEC
        program.call("openat", AT_FDCWD, "/proc", flags, step="open the host's /proc", into=proc)
    namespaces.plan_setns({kind: _WHOSE for kind in joins if kind != "mount"}, program)
    _plan_become_root(config, program)
    return program, proc


def _plan_become_root(config: Config, program: Program) -> None:
    plan_root(config, program)
    plan_unseen(program)


def _plan_enter(program: Program, root: Register) -> None:
    """Emit entering the container's mount namespace, and opening its root into `root`."""
    step = f"join the mount namespace {_WHOSE}"
    program.call("setns", program.inherit("namespace-mount"), CLONE_NEWNS, step=step, of="linux.namespaces")
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    program.call("openat", AT_FDCWD, "/", flags, step="open the container's root", into=root)


def _step(mount: Mount) -> str:
    path = destination_of(mount)
    return (
        f"bind-mount {mount.get('source', '')} on {path}"
        if is_bind(mount)
        else f"mount {mount['type']} on {path}"
    )


def _keep(program: Program, tree: Register | int) -> int:
    address = program.buffer(8)
    program.store(address, tree, 8)
    return address


def _plan_filesystem(
    config: Config, points: Points, failures: filesystem.Failures, index: int, opened: int
) -> Register:
    """Emit making the file system of mount `index`; read-only only later where another mount point lies in it.

    `opened`: the address of the descriptor that `plan_contexts` has opened for it, or 0.
    """
    program = points.program
    mount = config["mounts"][index]
    options = parse(mount.get("options") or ())
    attributes = options.attributes
    if _is_late(config["mounts"], index, options):
        attributes &= ~MOUNT_ATTR_RDONLY
    of = f"mounts[{index}]"
    step = _step(mount)
    if not opened:
        return mounts.plan_tree(config, program, failures, mount, options, attributes, step, of)
    context = program.register()
    program.load(context, opened, 8)
    plan_check(program, context, step, of)
    tree = mounts.plan_tree(config, program, failures, mount, options, attributes, step, of, context)
    bind.require_proc(program, tree, step, of)
    return tree


def _is_late(entries: Sequence[Mount], index: int, options: Options) -> bool:
    if is_bind(entries[index]) or not options.attributes & MOUNT_ATTR_RDONLY:
        return False
    below = destination_of(entries[index]) + "/"
    return any(destination_of(entry).startswith(below) for entry in entries[index + 1 :])


def _plan_attach(config: Config, host: Host, points: Points, kept: dict[int, int]) -> None:
    """Emit moving each mount, whose descriptor is at the address in `kept`, onto its mount point."""
    program = points.program
    late: mounts.Late = []
    for index, mount in enumerate(config["mounts"]):
        of, step, path = f"mounts[{index}].destination", _step(mount), destination_of(mount)
        options = parse(mount.get("options") or ())
        kind = "" if is_bind(mount) else mount["type"]
        tree = program.register()
        program.load(tree, kept[index], 8)
        if kind and mounts.takes_mode(kind, options):
            made = program.register()
            point = points.point(path, step=step, of=of, made=made)
            mode = mounts.plan_mode(points, point, step, of)
            mounts.plan_keep_mode(program, tree, made, mode, path, step, of)
            program.release(made)
        else:
            directory = bool(kind) or is_directory(host.sources[source_of(mount, host.bundle)])
            point = points.point(path, step=step, of=of, directory=directory, straight=kind in ORDINARY)
        if options.copy_up:
            from pyrunc.linux.mounts import copyup

            copyup.plan(program, index, point, tree, step)
        points.move(tree, point, step=step, of=of)
        points.covered(path)
        if _is_late(config["mounts"], index, options):
            late.append((kept[index], f"make {path} read-only", of))
        points.close(point)
        program.release(tree)
    points.finish()
    mounts.plan_late(program, late)


def _plan_find(points: Points, path: str, number: int, into: Register, missing: Label) -> None:
    """Emit opening what is mounted on `path`, and failing if that is no mount, or not the one of this id.

    With a negative id it goes on at `missing` instead; then `into` may be no descriptor.
    """
    program = points.program
    step = f"unmount {path}"
    resolve = INSIDE if number else STRAIGHT
    if number < 0:
        points.open(path, O_PATH, into, step=step, of="", tolerate=(ENOENT, ENOTDIR), otherwise=missing)
    else:
        points.open(path, O_PATH, into, step=step, of="", resolve=resolve)
    status, value = program.buffer(STATX_SIZE), program.register()
    mounted, right = program.label(), program.label()
    program.call("statx", into, "", AT_EMPTY_PATH, MOUNT_ID, status, step=step)
    program.load(value, status + STATX_AT_ATTRIBUTES, 8)
    program.branch(value, BITS, STATX_ATTR_MOUNT_ROOT, mounted)
    if number < 0:
        program.jump(missing)
    else:
        program.fail(0, f"{step}: nothing is mounted there")
    program.place(mounted)
    if number:
        program.load(value, status + STATX_AT_MNT_ID, 8)
        program.branch(value, EQ, abs(number), right)
        if number < 0:
            program.jump(missing)
        else:
            program.fail(0, f"{step}: what is mounted there is not what `mounts add` has mounted")
        program.place(right)
    program.release(value)
