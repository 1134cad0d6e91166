"""Mounts: what is mounted in the container, in the listed order (config.md "Mounts", mount_namespaces(7)).

The whole mount phase, and why in this order:

1. `rootfs.plan_enter`: propagation first, so that nothing of the rest shows outside; then the root as a mount.
2. `plan_sources`: in a user namespace, while init still is who may reach the sources.
3. `plan`: the mounts as listed. A mount point may lie in an earlier mount. Read-only ones of type tmpfs and
   on / or /dev stay writable for now, for later mount points, devices and links are made in them.
4. `devices.plan`, then `terminal.plan_console`: in the container's own /dev and devpts, while the root is
   still reached by a descriptor and the host's device nodes are there to bind-mount.
5. createContainer hooks (another room): they see the host, and the root before it is closed.
6. `rootfs.plan_switch`: the host's mounts are gone from here on.
7. sysctl (another room) before /proc/sys becomes read-only.
8. `rootfs.plan_finish`, `plan_late`: read-only, when nothing is left to write.
9. `masking.plan`: read-only paths, then masks on top of them, when nothing needs what they hide.

A bind mount costs seven system calls (`bind.Alike`). Paths are resolved as `points` tells.
"""

from __future__ import annotations

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    F_DUPFD_CLOEXEC,
    MOUNT_ATTR_RDONLY,
    O_CLOEXEC,
    O_PATH,
    STATX_MODE,
)
from pyrunc.kernel.structs import STATX_AT_MODE, STATX_SIZE
from pyrunc.linux.idmap import host_id, root_ids
from pyrunc.linux.mounts import bind, filesystem
from pyrunc.linux.mounts.facts import destination_of, is_bind, is_directory, source_of
from pyrunc.linux.mounts.options import Options, parse
from pyrunc.linux.mounts.points import Points
from pyrunc.linux.mounts.rules import ORDINARY
from pyrunc.linux.namespaces import has, is_new
from pyrunc.plan.program import EQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Mount
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register

    #: Mounts that become read-only at the end: the arena address that holds the descriptor, label, JSON path.
    Late = list[tuple[int, str, str]]

#: Mount points with steps of their own: "/" takes the place of the root, /dev stays writable for now, and what
#: takes the place of /proc is looked at.
SPECIAL: Final = frozenset(("/", "/dev", "/proc"))


def plan_sources(config: Config, host: Host, program: Program) -> dict[int, int]:
    """Emit opening the bind sources before init becomes root of a user namespace.

    Until then init has the runtime's own uid, to which the directories that lead to a source are open (those
    of engines belong to the host's root and are closed to others, 0700), and already all capabilities in
    the namespace that owns the mounts. Without a user namespace, or where it is the caller's own uid that init
    becomes (rootless), there is no difference, and sources are opened one by one when they are mounted.

    All are held open until they are mounted; `Program.held` tells the runtime how many they are, for the limit of
    open files may be lower.

    Returns index of the mount → arena address that will hold the descriptor of its detached tree.
    """
    if not has(config, "user") or _keeps_uid(config, host):
        return {}
    return plan_opened(config, host, program)


def plan_opened(config: Config, host: Host, program: Program) -> dict[int, int]:
    """As `plan_sources`, whoever init is."""
    opened: dict[int, int] = {}
    for index, mount in enumerate(config.get("mounts") or ()):
        if is_bind(mount):
            options = _options(mount, {})
            if options.remount:
                continue
            source = source_of(mount, host.bundle)
            tree = program.register()
            step = f"open {source}, the source of the mount on {destination_of(mount)}"
            if host.old_mounts:
                # There is nothing to clone it to yet.
                path = source, O_PATH | O_CLOEXEC
                program.call("openat", AT_FDCWD, *path, step=step, of=f"mounts[{index}]", into=tree)
            else:
                bind.open_source(program, source, options, tree, step, f"mounts[{index}]")
            opened[index] = program.buffer(8)
            program.store(opened[index], tree, 8)
            program.release(tree)
    program.held = len(opened)
    return opened


def _keeps_uid(config: Config, host: Host) -> bool:
    """Whether the uid that init becomes in its user namespace is the one that the caller has outside."""
    mappings = config.get("linux", {}).get("uidMappings") or ()
    return host_id(mappings, root_ids(config)[0]) == host.euid


def plan(
    config: Config, host: Host, program: Program, root: Register, sources: dict[int, int] | None = None
) -> Late:
    """Emit all mounts. `root`: the root's descriptor; `sources`: from `plan_sources`.

    Returns what `plan_late` has to make read-only at the end.
    """
    points = Points(program, root)
    failures = filesystem.Failures(program)
    alike = bind.Alike(points)
    late: Late = []
    known: dict[tuple[str, ...], Options] = {}
    # Where the facts were read from the image by this root in this mount namespace, links are resolved
    # already: one that shows up later was put there by somebody else, and is refused.
    image_known = is_new(config, "mount") and not host.rootless
    for index, mount in enumerate(config.get("mounts") or ()):
        of = f"mounts[{index}]"
        options = _options(mount, known)
        kind = mount.get("type", "")
        given = destination_of(mount)
        path = given if kind in ORDINARY else host.links.get(given, given)
        if options.remount:
            _plan_remount(points, failures, mount, options, path, of)
            continue
        if is_bind(mount):
            step = f"bind-mount {mount.get('source', '')} on {path}"
            source = source_of(mount, host.bundle)
            straight = image_known and not points.is_covered(path)
            directory = is_directory(host.sources[source])
            opened = (sources or {}).get(index, 0)
            idmap = is_idmapped(mount, options)
            if straight and path not in SPECIAL and not idmap and not host.old_mounts:
                alike.plan(opened or source, options, path, directory=directory, step=step, of=of)
                points.covered(path, given)
                continue
            point = points.point(path, step=step, of=of, directory=directory, straight=straight)
            tree = _plan_open(host, points, source, options, step, of, opened)
            if idmap:
                from pyrunc.linux.mounts import idmapped

                idmapped.plan(config, program, index, mount, options, tree, step)
            _plan_bind(points, tree, options, path, step, of)
        elif kind in ("cgroup", "cgroup2"):
            from pyrunc.linux.mounts.cgroupfs import plan_cgroup_mount

            plan_cgroup_mount(config, host, program, points, mount, options, path, of)
            points.covered(path, given)
            continue
        else:
            step = f"mount {kind} on {path}"
            straight = kind in ORDINARY or (image_known and not points.is_covered(path))
            point, tree = _plan_filesystem(config, points, failures, mount, options, path, straight, step, of)
            if is_idmapped(mount, options):
                from pyrunc.linux.mounts import idmapped

                idmapped.plan(config, program, index, mount, options, tree, step)
            if options.copy_up:
                from pyrunc.linux.mounts import copyup

                copyup.plan(program, index, point, tree, step)
        points.move(tree, point, step=step, of=of)
        points.covered(path, given)
        if path == "/":
            points.program.call("close", points.root, step="leave the root below the mount on /")
            points.program.set(points.root, tree)
        readonly = options.set if is_bind(mount) else options.attributes
        if readonly & MOUNT_ATTR_RDONLY and _is_late("" if is_bind(mount) else kind, path):
            late.append((_keep(program, tree, path), f"make {path} read-only", of))
            program.release(tree)
        elif path == "/":
            program.release(tree)
        else:
            points.close(tree)
        if path != "/":
            points.close(point)
    alike.finish()
    points.finish()
    failures.emit()
    return late


def plan_late(program: Program, late: Late) -> None:
    """Emit making read-only what had to stay writable until now, by descriptor, not by path."""
    for address, step, of in late:
        mount = program.register()
        program.load(mount, address, 8)
        attributes = program.data(MOUNT_ATTR_RDONLY.to_bytes(8, "little") + bytes(24))
        program.call("mount_setattr", mount, "", AT_EMPTY_PATH, attributes, 32, step=step, of=of)
        program.call("close", mount, step="close a mount")
        program.release(mount)


def _keep(program: Program, tree: Register, path: str) -> int:
    """Emit keeping a mount's descriptor for `plan_late`; the address where it will be."""
    kept = program.buffer(8)
    if path == "/":  # the root itself, which is closed before
        copy = program.register()
        program.call("fcntl", tree, F_DUPFD_CLOEXEC, 3, step="keep the mount on /", into=copy)
        program.store(kept, copy, 8)
        program.release(copy)
    else:
        program.store(kept, tree, 8)
    return kept


def _options(mount: Mount, known: dict[tuple[str, ...], Options]) -> Options:
    words = tuple(mount.get("options") or ())
    options = known.get(words)
    if options is None:
        options = known[words] = parse(words)
    return options


def _is_late(kind: str, path: str) -> bool:
    return path in ("/", "/dev") or kind == "tmpfs"


def is_idmapped(mount: Mount, options: Options) -> bool:
    """Whether the ids of the mount are to be mapped."""
    return options.idmap or bool(mount.get("uidMappings") or mount.get("gidMappings"))


def _plan_open(
    host: Host, points: Points, source: str, options: Options, step: str, of: str, opened: int
) -> Register:
    program = points.program
    tree = program.register()
    if opened and host.old_mounts:
        found = program.register()
        program.load(found, opened, 8)
        bind.open_source(program, found, options, tree, step, of)
        points.close(found)
    elif opened:
        program.load(tree, opened, 8)
    else:
        bind.open_source(program, source, options, tree, step, of)
    return tree


def _plan_bind(points: Points, tree: Register, options: Options, path: str, step: str, of: str) -> None:
    if path == "/proc":
        bind.require_proc(points.program, tree, step, of)
    bind.change_tree(points, tree, options, _is_late("", path), step, of)


def _plan_filesystem(
    config: Config,
    points: Points,
    failures: filesystem.Failures,
    mount: Mount,
    options: Options,
    path: str,
    straight: bool,
    step: str,
    of: str,
) -> tuple[Register, Register]:
    program = points.program
    kind = mount["type"]
    inherit = takes_mode(kind, options)
    made = program.register()
    point = points.point(path, step=step, of=of, straight=straight, made=made if inherit else None)
    mode = plan_mode(points, point, step, of) if inherit else None
    attributes = options.attributes
    if _is_late(kind, path):
        attributes &= ~MOUNT_ATTR_RDONLY
    tree = plan_tree(config, program, failures, mount, options, attributes, step, of)
    if mode is not None:
        plan_keep_mode(program, tree, made, mode, path, step, of)
    program.release(made)
    plan_propagation(points, tree, options, step, of)
    return point, tree


def plan_tree(
    config: Config,
    program: Program,
    failures: filesystem.Failures,
    mount: Mount,
    options: Options,
    attributes: int,
    step: str,
    of: str,
    context: Register | None = None,
) -> Register:
    """Emit making the file system of `mount`, mounted nowhere yet, with these MOUNT_ATTR_ bits; its register.

    `context`: as in `filesystem.make`, and not where that is done by mount(2).
    """
    kind, source = mount["type"], mount.get("source", "")
    settings = filesystem.settings_of(kind, options)
    labelled = bool(config.get("linux", {}).get("mountLabel"))
    if labelled:
        from pyrunc.linux import selinux

        settings = selinux.with_context(config, kind, settings)
    way = filesystem.way_of(kind, source, settings, options)
    if way == filesystem.PAGE:
        tree = filesystem.make_by_page(program, kind, source, settings, options, attributes, step=step, of=of)
    else:
        if way == filesystem.LAYERS:
            settings = filesystem.layered(settings)
        tree = filesystem.make(
            program, failures, kind, source, settings, attributes, step=step, of=of, context=context
        )
    if labelled:
        selinux.plan_relabel(config, program, kind, tree, step, of)
    return tree


def plan_propagation(points: Points, tree: Register, options: Options, step: str, of: str) -> None:
    """Emit giving a new file system its propagation."""
    for propagation, recursive in options.propagation:
        points.change(
            tree, propagation=propagation, recursive=recursive, step=f"{step}: set the propagation", of=of
        )


def takes_mode(kind: str, options: Options) -> bool:
    """Whether the file system takes the mode of a mount point over that was there before: tmpfs without `mode=`."""
    return kind == "tmpfs" and all(word.partition("=")[0] != "mode" for word in options.data)


def plan_keep_mode(
    program: Program, tree: Register, made: Register, mode: Register, path: str, step: str, of: str
) -> None:
    """Emit giving the root of `tree` that mode, unless the mount point was `made` for it (`Points.point`)."""
    fresh = program.label()
    program.branch(made, EQ, 0, fresh)
    program.call("fchmodat", tree, ".", mode, step=f"{step}: keep the mode of {path}", of=of)
    program.place(fresh)
    program.release(mode)


def plan_mode(points: Points, point: Register, step: str, of: str) -> Register:
    """Emit reading the mode of the mount point, which a tmpfs without `mode=` takes over."""
    program = points.program
    status = program.buffer(STATX_SIZE)
    mode = program.register()
    program.call("statx", point, "", AT_EMPTY_PATH, STATX_MODE, status, step=step, of=of)
    program.load(mode, status + STATX_AT_MODE, 2)
    return mode


def _plan_remount(
    points: Points, failures: filesystem.Failures, mount: Mount, options: Options, path: str, of: str
) -> None:
    """Emit changing an existing mount: its own options, and without `bind` those of the file system too."""
    step = f"remount {path}"
    program = points.program
    point = program.register()
    points.open(path, O_PATH, point, step=step, of=of)
    if not options.bind:
        settings = filesystem.settings_of(mount.get("type", ""), options, remount=True)
        if settings:
            filesystem.reconfigure(program, failures, point, settings, step=step, of=of)
    bind.change_tree(points, point, options, False, step, of)
    points.close(point)
