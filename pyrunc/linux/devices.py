"""Device nodes and links of the container's /dev (config-linux.md "Devices", "Default Devices"; mknod(2)).

Everything is made relative to a descriptor of the directory, which was found inside the root, never by a path:
`/dev` may be a symbolic link of the image (CVE-2026-41579). Nothing of the host is ever chowned or chmodded:
where nodes cannot be made (user namespaces) the host's are bind-mounted as they are.
"""

from __future__ import annotations

from errno import EEXIST, EINVAL, EISDIR, ENOENT
from os import makedev
from stat import S_IFBLK, S_IFCHR, S_IFIFO

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_NOFOLLOW,
    O_CLOEXEC,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDWR,
    STATX_TYPE,
)
from pyrunc.kernel.structs import STATX_AT_MODE, STATX_AT_RDEV, STATX_SIZE
from pyrunc.linux.mounts.facts import destination_of, is_bind
from pyrunc.linux.mounts.points import Points
from pyrunc.linux.namespaces import has
from pyrunc.plan.program import ANY, BITS, EQ, NE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Device
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Label, Program, Register
    from pyrunc.validate.report import Report

#: Supplied to every container: name → major, minor; all of them mode 0666.
DEFAULTS: Final = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
KINDS: Final = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
MAJOR_MAX: Final = (1 << 12) - 1
MINOR_MAX: Final = (1 << 20) - 1


def check(config: Config, host: Host, report: Report) -> None:
    """Paths absolute, each once; numbers there and within what the kernel has room for."""
    if config.get("linux", {}).get("devices") and are_bound(config, host) and not has(config, "mount"):
        report.error(
            "linux.devices",
            "bind-mounted in a user namespace, devices need a mount namespace of the container",
            'add {"type": "mount"} to linux.namespaces',
        )
    seen: dict[str, int] = {}
    for index, device in enumerate(config.get("linux", {}).get("devices") or ()):
        where = f"linux.devices[{index}]"
        known = len(report.problems)
        path, kind = device["path"], device["type"]
        if "\0" in path:
            report.error(f"{where}.path", "contains a NUL byte")
            continue
        clean = path_of(device)
        if not path.startswith("/") or clean == "/":
            report.error(f"{where}.path", f'"{path}" is not the absolute path of a file', "such as /dev/fuse")
        elif clean in seen:
            report.error(
                f"{where}.path", f'"{path}" is that of linux.devices[{seen[clean]}] too', "list it once"
            )
        seen[clean] = index
        if kind not in KINDS:
            report.error(f"{where}.type", f'"{kind}" is not a device type', "use c, b, u or p")
            continue
        if kind != "p":
            for name, most in (("major", MAJOR_MAX), ("minor", MINOR_MAX)):
                number = device.get(name)
                if number is None:
                    report.error(f"{where}.{name}", f'is missing, which type "{kind}" needs')
                elif not 0 <= number <= most:  # type: ignore[operator]
                    report.error(f"{where}.{name}", f"{number} is not from 0 to {most}")
        for name in ("uid", "gid"):
            owner = device.get(name, 0)
            if not 0 <= owner < 0xFFFF_FFFF:  # type: ignore[operator]
                report.error(f"{where}.{name}", f"{owner} is not a {name}")
        if clean in host.nodes and len(report.problems) == known:
            from pyrunc.linux import host_nodes

            host_nodes.check_node(where, device, host.nodes[clean], config, report)


def explain(step: str, number: int) -> str:
    """What to do about errno `number` from a step of this room."""
    if number == EEXIST:
        return "remove it from the image, or leave the device out"
    if number == ENOENT and step.startswith("bind-mount"):
        return "in a user namespace the host's node is bind-mounted: it must exist on the host"
    return ""


def are_bound(config: Config, host: Host) -> bool:
    """Whether the host's nodes are bind-mounted, because mknod(2) makes none in a user namespace."""
    return has(config, "user") or host.rootless


def path_of(device: Device) -> str:
    """The clean absolute path of a device."""
    return destination_of({"destination": device["path"]})


def plan(config: Config, host: Host, program: Program, root: Register) -> None:
    """Emit the default devices and links, and the devices of the config. They and mounts win over defaults.

    Where the config bind-mounts /dev it belongs to whoever made it, and no defaults are added.
    """
    points = Points(program, root)
    devices = config.get("linux", {}).get("devices") or ()
    bound = are_bound(config, host)
    if bound and not has(config, "mount"):
        # Neither can nodes be made nor can the host's be mounted. `check` has refused devices of the config.
        return
    mounts = config.get("mounts") or ()
    listed = [destination_of(mount) for mount in mounts]
    places = {path_of(device) for device in devices}.union(listed)
    # The modes below are meant as they are; a umask would take from them.
    program.call("umask", 0, step="set the umask for device nodes")
    if not any(is_bind(mount) for mount, path in zip(mounts, listed, strict=True) if path == "/dev"):
        holder, _ = points.parent("/dev/null", step="open /dev", of="linux.devices")
        for name, (major, minor) in DEFAULTS.items():
            if f"/dev/{name}" not in places:
                place = (holder, name, f"/dev/{name}", "linux.devices")
                if bound:
                    from pyrunc.linux import host_nodes

                    host_nodes.plan_bind(points, f"/dev/{name}", *place, S_IFCHR, major, minor)
                else:
                    _plan_node(points, *place, S_IFCHR | 0o666, major, minor, 0, 0)
        _plan_links(points, holder, places)
        points.close(holder)
    for index, device in enumerate(devices):
        _plan_device(host, points, device, f"linux.devices[{index}]", bound)
    program.call("umask", 0o022, step="set the umask of init")


def _plan_device(host: Host, points: Points, device: Device, of: str, bound: bool) -> None:
    path = path_of(device)
    kind, major, minor = number_of(device)
    holder, name = points.parent(path, step=f"make the directory of {path}", of=of)
    if bound and kind != S_IFIFO:
        from pyrunc.linux import host_nodes

        node = host.nodes.get(path, 0)
        source = path if isinstance(node, int) else node.path
        host_nodes.plan_bind(points, source, holder, name, path, of, kind, major, minor)
    else:
        # Callers also pass the type bits of stat(2).
        mode = kind | (device.get("fileMode", 0o666) & 0o7777)
        _plan_node(
            points, holder, name, path, of, mode, major, minor, device.get("uid", 0), device.get("gid", 0)
        )
    if holder is not points.root:
        points.close(holder)


def _plan_node(
    points: Points,
    holder: Register,
    name: str,
    path: str,
    of: str,
    mode: int,
    major: int,
    minor: int,
    uid: int,
    gid: int,
) -> None:
    """Emit making a node, or accepting the same one that is there already; a different file is an error."""
    program = points.program
    step = f"make the device {path}"
    made = program.register()
    done, different = program.label(), program.label()
    number = makedev(major, minor)
    program.call("mknodat", holder, name, mode, number, step=step, of=of, into=made, tolerate=(EEXIST,))
    own = uid or gid
    kind = mode & 0o170000
    if own:
        there = program.label()
        program.branch(made, NE, 0, there)
        node = program.register()
        flags = O_PATH | O_NOFOLLOW | O_CLOEXEC
        program.call("openat", holder, name, flags, step=step, of=of, into=node)
        plan_verify(program, node, "", kind, major, minor, different, step, of)
        program.call("fchownat", node, "", uid, gid, AT_EMPTY_PATH, step=f"give {path} to {uid}:{gid}", of=of)
        points.close(node)
        program.jump(done)
        program.place(there)
    else:
        program.branch(made, EQ, 0, done)
    plan_verify(program, holder, name, kind, major, minor, different, step, of)
    program.jump(done)
    program.place(different)
    plan_refuse(program, path, kind, major, minor, of)
    program.place(done)
    program.release(made)


def plan_refuse(program: Program, path: str, kind: int, major: int, minor: int, of: str) -> None:
    """Emit failing because of what is at the path of a device."""
    program.fail(EEXIST, f"make the device {path} ({numbers(kind, major, minor)}): a different file", of)


def number_of(device: Device) -> tuple[int, int, int]:
    """The type, major and minor number."""
    kind = KINDS[device["type"]]
    if kind == S_IFIFO:
        return kind, 0, 0
    return kind, device.get("major", 0), device.get("minor", 0)


def numbers(kind: int, major: int, minor: int) -> str:
    """A device in words."""
    if kind == S_IFIFO:
        return "a FIFO"
    return f"{'block' if kind == S_IFBLK else 'character'} device {major}:{minor}"


def plan_verify(
    program: Program,
    at: Register,
    name: str,
    kind: int,
    major: int,
    minor: int,
    different: Label,
    step: str,
    of: str,
) -> None:
    """Emit going to `different` unless `name` in the directory `at` (or, with "", `at` itself) is this node."""
    status = program.buffer(STATX_SIZE)
    found = program.register()
    flags = AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    program.call("statx", at, name, flags, STATX_TYPE, status, step=step, of=of)
    program.load(found, status + STATX_AT_RDEV, 8)
    program.branch(found, NE, major | minor << 32, different)
    program.load(found, status + STATX_AT_MODE, 2)
    # A type is a field of four bits: none of the others, and at least one of its own.
    program.branch(found, BITS, 0o170000 & ~kind, different)
    if kind == S_IFBLK:  # 0o060000; S_IFCHR is 0o020000, S_IFDIR 0o040000
        program.branch(found, BITS, 0o040000, same := program.label())
        program.jump(different)
        program.place(same)
    program.release(found)


def _plan_links(points: Points, holder: Register, places: set[str]) -> None:
    """Emit the links of /dev. What the image or the config has under these names stays, but for ptmx.

    A ptmx that is not that of the container's own devpts would hand out terminals of somebody else.
    """
    program = points.program
    of = "linux.devices"
    for name, target in LINKS.items():
        step = f"link /dev/{name} to {target}"
        program.call("symlinkat", target, holder, name, step=step, of=of, tolerate=(EEXIST,))
    core = program.register()
    missing = program.label()
    step = "link /dev/core to /proc/kcore"
    points.open("/proc/kcore", O_PATH, core, step=step, of=of, tolerate=ANY, otherwise=missing)
    program.call("symlinkat", "/proc/kcore", holder, "core", step=step, of=of, tolerate=(EEXIST,))
    points.close(core)
    program.place(missing)
    if "/dev/ptmx" not in places:
        step = "link /dev/ptmx to pts/ptmx"
        removed, gone = program.register(), program.label()
        program.call("unlinkat", holder, "ptmx", 0, step=step, of=of, into=removed, tolerate=(ENOENT, EISDIR))
        program.branch(removed, NE, -EISDIR, gone)
        program.call("unlinkat", holder, "ptmx", AT_REMOVEDIR, step=step, of=of)
        program.place(gone)
        program.release(removed)
        program.call("symlinkat", "pts/ptmx", holder, "ptmx", step=step, of=of)


def plan_stdio(config: Config, host: Host, program: Program) -> None:
    """Emit replacing stdin, stdout and stderr by the container's /dev/null where they are the host's.

    Runs inside, after the switch of the root. Else the container would hold a descriptor whose owner and
    mode it could change on the host. A container without a sound /dev/null keeps what it was given.
    """
    if config["process"].get("terminal"):
        return
    null = program.register()
    done, different = program.label(), program.label()
    step = "open the container's /dev/null"
    program.call(
        "openat",
        AT_FDCWD,
        "/dev/null",
        O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC,
        step=step,
        into=null,
        tolerate=ANY,
        otherwise=done,
    )
    plan_verify(program, null, "", S_IFCHR, 1, 3, different, step, "")
    status = program.buffer(STATX_SIZE)
    found = program.register()
    for fd, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        other = program.label()
        step = f"replace {name} by the container's /dev/null"
        program.call(
            "statx", fd, "", AT_EMPTY_PATH, STATX_TYPE, status, step=step, tolerate=ANY, otherwise=other
        )
        program.load(found, status + STATX_AT_RDEV, 8)
        program.branch(found, NE, 1 | 3 << 32, other)
        program.load(found, status + STATX_AT_MODE, 2)
        program.branch(found, BITS, 0o150000, other)
        # EINVAL: the very descriptor, where stdio was closed before.
        program.call("dup3", null, fd, 0, step=step, tolerate=(EINVAL,))
        program.place(other)
    program.place(different)
    program.call("close", null, step="close /dev/null")
    program.place(done)
    program.release(null, found)
