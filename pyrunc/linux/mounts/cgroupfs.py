"""Mounts of type `cgroup` and `cgroup2`: what of the cgroup hierarchies a container sees (cgroups(7)).

cgroup v1: a tmpfs, in it a directory for each hierarchy with the container's own sub-tree, and a symbolic
link for each controller of several that share one. The sub-tree is bind-mounted and not mounted anew: with a
cgroup namespace both look the same from within, a bind mount takes two system calls where a mount takes six,
and it works in user namespaces too. The sources are paths of the host, opened while init still sees them.

cgroup v2: a mount of the hierarchy; where the kernel does not let this user namespace have one, a bind mount
of the container's own sub-tree. In the cgroup namespace of the host such a mount gives its own flags to the one
hierarchy that there is (cgroup-v2.rst "Mounting"), so there it has to have those of the host: without nsdelegate
what the host has delegated would no longer be kept apart.

`Host.cgroups` holds where the container's cgroups are: `Manager.paths()`.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, ENOENT, EPERM

from pyrunc.kernel.constants import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from pyrunc.linux.cgroups.layout import shown_as
from pyrunc.linux.mounts import filesystem
from pyrunc.linux.mounts.facts import destination_of, is_bind
from pyrunc.linux.mounts.options import parse
from pyrunc.linux.namespaces import is_new
from pyrunc.plan.program import GE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config, Mount
    from pyrunc.linux.mounts.options import Options
    from pyrunc.linux.mounts.points import Points
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register

_CLONE = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC


def plan_cgroup_mount(
    config: Config,
    host: Host,
    program: Program,
    points: Points,
    mount: Mount,
    options: Options,
    path: str,
    of: str,
) -> None:
    """Emit the mount of type cgroup or cgroup2 `mount` on `path`."""
    step = f"mount {mount['type']} on {path}"
    point = points.point(path, step=step, of=of, straight=True)
    if _is_unified(mount, host):
        tree = _plan_v2(host, points, mount.get("source") or "cgroup", options, step, of)
        points.move(tree, point, step=step, of=of)
    else:
        tree = _plan_v1(config, host, points, options, point, step, of)
    for propagation, recursive in options.propagation:
        points.change(
            tree, propagation=propagation, recursive=recursive, step=f"{step}: set the propagation", of=of
        )
    if path == "/":
        program.set(points.root, tree)
        program.release(tree)
    else:
        points.close(tree, point)


def changes_flags(config: Config, host: Host) -> bool:
    """Whether a mount would change the flags of the host's cgroup v2, unless it has the same ones."""
    if is_new(config, "cgroup"):
        return False
    mounts = config.get("mounts") or ()
    return any(
        mount.get("type") in ("cgroup", "cgroup2") and not is_bind(mount) and _is_unified(mount, host)
        for mount in mounts
    )


def warnings(config: Config, host: Host) -> list[str]:
    """The options of cgroup mounts that are without effect, because nothing is mounted that could have them."""
    found = []
    for index, mount in enumerate(config.get("mounts") or ()):
        if mount.get("type") not in ("cgroup", "cgroup2") or is_bind(mount):
            continue
        options = parse(mount.get("options") or ())
        if options.remount:
            continue
        if _is_unified(mount, host):
            words, why = options.of_new_file_system, "only mount(2) takes them, and not for cgroup2"
        else:
            words = options.of_file_system + options.data
            why = "the hierarchies of cgroup v1 are bind-mounted"
        if words:
            shown = ", ".join(words)
            found.append(
                f"mounts[{index}].options: {shown} on {destination_of(mount)}: without effect, for {why} (remove them)"
            )
    return found


def _is_unified(mount: Mount, host: Host) -> bool:
    return mount["type"] == "cgroup2" or (not any(host.cgroups) and "" in host.cgroups)


def _plan_v1(
    config: Config, host: Host, points: Points, options: Options, point: Register, step: str, of: str
) -> Register:
    program = points.program
    attributes = options.attributes
    failures = filesystem.Failures(program)
    settings: list[tuple[str, str | None]] = [("mode", "755")]
    if config.get("linux", {}).get("mountLabel"):
        from pyrunc.linux import selinux

        settings = selinux.with_context(config, "tmpfs", settings)
    writable = attributes & ~MOUNT_ATTR_RDONLY
    base = filesystem.make(program, failures, "tmpfs", "tmpfs", settings, writable, step=step, of=of)
    failures.emit()
    # Attached before anything is mounted in it: older kernels attach nothing to a detached tree.
    points.move(base, point, step=step, of=of)
    for source, controllers in _hierarchies(host.cgroups):
        name = shown_as(controllers, host.cgroups)
        label = f"{step}: {name}"
        program.call("mkdirat", base, name, 0o755, step=label, of=of)
        _plan_hierarchy(points, source, base, name, attributes, host.rootless, label, of)
        if len(controllers) > 1:
            for controller in controllers:
                program.call("symlinkat", name, base, controller, step=f"{label}: link {controller}", of=of)
    if attributes & MOUNT_ATTR_RDONLY:
        points.change(base, set_=MOUNT_ATTR_RDONLY, step=f"{step}: make it read-only", of=of)
    return base


def _hierarchies(paths: dict[str, str]) -> list[tuple[str, list[str]]]:
    """The container's directory in each v1 hierarchy, with the controllers there."""
    found: dict[str, list[str]] = {}
    for controller, path in paths.items():
        if controller:
            found.setdefault(path, []).append(controller)
    return list(found.items())


def _plan_hierarchy(
    points: Points,
    source: str,
    base: Register,
    name: str,
    attributes: int,
    optional: bool,
    step: str,
    of: str,
) -> None:
    program = points.program
    tree = program.register()
    missing = program.label()
    # Rootless without limits the cgroup may not exist; then the directory stays empty.
    program.call(
        "open_tree",
        AT_FDCWD,
        source,
        _CLONE,
        step=step,
        of=of,
        into=tree,
        tolerate=(ENOENT, EACCES) if optional else (),
        otherwise=missing,
    )
    if attributes:
        points.change(tree, set_=attributes, step=step, of=of)
    program.call("move_mount", tree, "", base, name, MOVE_MOUNT_F_EMPTY_PATH, step=step, of=of)
    program.call("close", tree, step="close a descriptor")
    program.place(missing)
    program.release(tree)


def _plan_v2(host: Host, points: Points, source: str, options: Options, step: str, of: str) -> Register:
    """The mount's register: the hierarchy, else the container's own sub-tree, else nothing at all."""
    program = points.program
    attributes = options.attributes
    context, result, tree = program.register(), program.register(), program.register()
    refused, done = program.label(), program.label()
    denied = (EPERM, EBUSY, EACCES)
    program.call("fsopen", "cgroup2", FSOPEN_CLOEXEC, step=step, of=of, into=context)
    settings = [("source", source), *[(flag, None) for flag in host.cgroup_flags]]
    settings += [word for word in filesystem.settings_of("cgroup2", options) if word not in settings]
    for name, value in settings:
        if value is None:
            program.call("fsconfig", context, FSCONFIG_SET_FLAG, name, 0, 0, step=f"{step}: {name}", of=of)
        else:
            program.call(
                "fsconfig", context, FSCONFIG_SET_STRING, name, value, 0, step=f"{step}: {name}", of=of
            )
    program.call(
        "fsconfig",
        context,
        FSCONFIG_CMD_CREATE,
        0,
        0,
        0,
        step=step,
        of=of,
        into=result,
        tolerate=denied,
        otherwise=refused,
    )
    program.call(
        "fsmount",
        context,
        FSMOUNT_CLOEXEC,
        attributes,
        step=step,
        of=of,
        into=tree,
        tolerate=denied,
        otherwise=refused,
    )
    program.jump(done)
    program.place(refused)
    _plan_own(host, points, attributes, tree, f"{step}: the container's own cgroup", of)
    program.place(done)
    program.call("close", context, step="close the file system context")
    program.release(context, result)
    return tree


def _plan_own(host: Host, points: Points, attributes: int, tree: Register, step: str, of: str) -> None:
    """Emit a bind mount of the own sub-tree; without one an empty, read-only directory hides the host's.

    A writable view of cgroups that are not the container's would let it move out of its limits
    (CVE-2023-25809).
    """
    program = points.program
    opened = program.label()
    source = host.cgroups.get("")
    if source:
        tolerate = (ENOENT, EACCES) if host.rootless else ()
        program.call("open_tree", AT_FDCWD, source, _CLONE, step=step, of=of, into=tree, tolerate=tolerate)
        program.branch(tree, GE, 0, opened)
    failures = filesystem.Failures(program)
    mask = filesystem.make(
        program,
        failures,
        "tmpfs",
        "tmpfs",
        [("mode", "755")],
        attributes | MOUNT_ATTR_RDONLY,
        step=step,
        of=of,
    )
    failures.emit()
    program.set(tree, mask)
    program.release(mask)
    program.place(opened)
    if attributes:
        points.change(tree, set_=attributes, step=step, of=of)
