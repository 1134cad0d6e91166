"""Namespaces: which are new, which are joined, and how init gets into them (config-linux.md "Namespaces").

Where nothing is joined, one clone3(2) by the runtime puts init into all new namespaces at once. Otherwise
init starts in the runtime's own namespaces as a first stage, joins with setns(2), and clones the second
stage, a child of the runtime too (CLONE_PARENT), into the new ones; only a child gets into a joined PID
namespace (setns(2), pid_namespaces(7)).
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT, EPERM
from fcntl import ioctl
from struct import pack

from pyrunc.errors import kernel_word
from pyrunc.kernel.constants import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    NS_GET_NSTYPE,
    NS_GET_USERNS,
    PR_SET_DUMPABLE,
)
from pyrunc.kernel.structs import CLONE_ARGS_SIZE
from pyrunc.plan.program import EQ, TALK
from pyrunc.plan.talk import SAY_PID, hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The spec's namespace types: their clone flag and the name of their file in /proc/PID/ns.
KINDS: Final = {
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "mount": (CLONE_NEWNS, "mnt"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "user": (CLONE_NEWUSER, "user"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}

#: The order of joining: the mount namespace late, because it moves root and cwd; user apart, see plan_join.
JOIN_ORDER: Final = ("ipc", "uts", "network", "pid", "cgroup", "time", "mount")


def listed(config: Config) -> dict[str, str]:
    """Type → path of the namespaces in the config; the path is "" for a new one."""
    return {entry["type"]: entry.get("path", "") for entry in config.get("linux", {}).get("namespaces") or ()}


def has(config: Config, kind: str) -> bool:
    """Whether the container has a namespace of its own of this type, new or joined."""
    return kind in listed(config)


def is_new(config: Config, kind: str) -> bool:
    """Whether a namespace of this type is created for the container."""
    return listed(config).get(kind) == ""


def joined(config: Config) -> dict[str, str]:
    """Type → path of the namespaces to join."""
    return {kind: path for kind, path in listed(config).items() if path}


def new_flags(config: Config) -> int:
    """The clone3(2) flags of the namespaces to create, without those that init makes itself.

    The root of a new cgroup namespace is the cgroup of the process that makes it, so init makes that one
    with unshare(2) after it has entered its cgroup (cgroup_namespaces(7)). A time namespace takes its offsets
    only before a process is in it (`pyrunc.linux.time_offsets`).
    """
    flags = 0
    for kind, path in listed(config).items():
        if not path and kind != "cgroup":
            flags |= KINDS[kind][0]
    offsets = config.get("linux", {}).get("timeOffsets") or {}
    if "monotonic" in offsets or "boottime" in offsets:
        flags &= ~CLONE_NEWTIME
    return flags


def check(config: Config, host: Host, report: Report) -> None:
    """Each type once; paths absolute, existing and of their type; a mount namespace where mounts need one."""
    seen: set[str] = set()
    for index, entry in enumerate(config.get("linux", {}).get("namespaces") or ()):
        kind, path = entry["type"], entry.get("path", "")
        where = f"linux.namespaces[{index}]"
        if kind in seen:
            report.error(f"{where}.type", f'namespace "{kind}" is listed twice', "list each type once")
        seen.add(kind)
        if path:
            _check_path(f"{where}.path", kind, path, host, report)
    if host.rootless and host.euid != 0 and "user" not in seen:
        report.error(
            "linux.namespaces",
            "rootless container requires user namespaces",
            'add {"type": "user"} with uidMappings and gidMappings, as `pyrunc spec --rootless` does',
        )


def _check_path(where: str, kind: str, path: str, host: Host, report: Report) -> None:
    if not path.startswith("/"):
        report.error(
            where, f'"{path}" is not absolute', "give the path of a namespace file such as /proc/PID/ns/net"
        )
        return
    found = host.namespaces.get(path)
    if found is None or found == -ENOENT:
        report.error(where, f"{path}: no such file or directory", "is the process or container still there?")
    elif found == -EINVAL:
        report.error(
            where, f"{path} is not a namespace file", f"give a file such as /proc/PID/ns/{KINDS[kind][1]}"
        )
    elif found < 0:
        report.error(where, f"cannot open {path}: {kernel_word(-found)}")
    elif found != KINDS[kind][0]:
        names = [name for name, (flag, _) in KINDS.items() if flag == found]
        report.error(where, f'{path} is a namespace of type "{names[0] if names else found}", not "{kind}"')


def plan_join(config: Config, host: Host, program: Program) -> None:
    """Emit the first stage: join what is to be joined, clone the second stage, say its pid, exit."""
    joins = joined(config)
    if not joins:
        return
    if host.euid == 0:
        # Seen from a joined PID namespace this process is a door to the runtime's root until pivot_root
        # (CVE-2016-9962). Its files in /proc then belong to the root of the user namespace that it was
        # executed in, which is the runtime; an ordinary user could not map its ids any more.
        program.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0, step="make init not dumpable")
    plan_setns(joins, program)
    plan_second_stage(new_flags(config), program)


def plan_setns(joins: Mapping[str, str], program: Program) -> None:
    """Emit joining namespaces: type → what to call it. Each is inherited as `namespace-TYPE`.

    Namespaces other than user are tried first with the runtime's own privileges, which reach those owned by
    any user namespace below; what is refused (EPERM) is tried again after the user namespace was joined,
    as in a rootless pod, whose members are owned by the pod's user namespace.
    """
    retry = []
    for kind in JOIN_ORDER:
        if kind in joins:
            outcome = program.register()
            label = f"join the {kind} namespace {joins[kind]}"
            fd = program.inherit(f"namespace-{kind}")
            tolerate = (EPERM,) if "user" in joins else ()
            program.call(
                "setns",
                fd,
                KINDS[kind][0],
                step=label,
                of="linux.namespaces",
                into=outcome,
                tolerate=tolerate,
            )
            retry.append((outcome, fd, kind, label))
    if "user" in joins:
        fd = program.inherit("namespace-user")
        program.call(
            "setns", fd, CLONE_NEWUSER, step=f"join the user namespace {joins['user']}", of="linux.namespaces"
        )
        for outcome, fd, kind, label in retry:
            done = program.label()
            program.branch(outcome, EQ, 0, done)
            program.call("setns", fd, KINDS[kind][0], step=label, of="linux.namespaces")
            program.place(done)
    program.release(*(outcome for outcome, *_ in retry))


def plan_second_stage(flags: int, program: Program) -> None:
    """Emit the end of the first stage: it clones the second into the new namespaces `flags`, and says its pid.

    The second waits until the runtime has heard that, or what it says itself might come first.
    """
    pid = program.register()
    second = program.label()
    step = "clone init into the container's namespaces"
    if flags:
        # struct clone_args of clone3(2): flags, pidfd, child_tid, parent_tid, exit_signal, the rest zero.
        arguments = program.data(pack("<5Q6Q", flags | CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        program.call("clone3", arguments, CLONE_ARGS_SIZE, step=step, into=pid)
    else:
        # Seccomp filters cannot see what clone3 is to do, so they refuse it.
        program.call("clone", CLONE_PARENT, 0, 0, 0, 0, step=step, into=pid)
    program.branch(pid, EQ, 0, second)
    message = program.data(pack("<IIq", SAY_PID, 0, 0))
    program.store(message + 8, pid, 8)
    program.call("write", TALK, message, 16, step="tell the runtime the pid of init")
    program.call("exit_group", 0, step="end the first stage")
    program.place(second)
    hear(program, "wait until the runtime knows the pid of init")
    program.release(pid)


def plan_enter(flags: int, program: Program) -> None:
    """Emit joining the namespaces `flags` of the container's first process, whose pidfd is in the slot "init".

    All in one call: the kernel checks each with the privileges from before, so that their order does not matter, and
    changes all or none (setns(2), Linux 5.8). A pidfd leads to no other process, whatever becomes of the pid.
    """
    init = program.inherit("init")
    if flags:
        program.call("setns", init, flags, step="join the container's namespaces", of="linux.namespaces")
    program.call("close", init, step="close the pidfd of the container's first process")


def apart(config: Config, pid: int) -> int:
    """The clone flags of those namespaces of the config that process `pid` is in and this process is not.

    One that both are in needs no joining, and a user namespace cannot be joined twice. Raises OSError.
    """
    flags = 0
    for kind in listed(config):
        flag, name = KINDS[kind]
        if os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            flags |= flag
    return flags


def plan_cgroup(config: Config, program: Program) -> None:
    """Emit the new cgroup namespace, after init has entered its cgroup."""
    if is_new(config, "cgroup"):
        program.call("unshare", CLONE_NEWCGROUP, step="create the cgroup namespace", of="linux.namespaces")


def open_joined(config: Config) -> tuple[dict[str, int], dict[str, int]]:
    """Open the namespaces to join, once, so that what was checked is what gets joined.

    Returns path → clone flag of the namespace found there (or the negated errno), for `Host.namespaces`, and
    slot name → descriptor, for `spawn`. The caller closes the descriptors.
    """
    found: dict[str, int] = {}
    descriptors: dict[str, int] = {}
    for kind, path in joined(config).items():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            found[path] = -(error.errno or 0)
            continue
        descriptors[f"namespace-{kind}"] = fd
        try:
            found[path] = ioctl(fd, NS_GET_NSTYPE)
        except OSError:
            found[path] = -EINVAL
    return found, descriptors


def open_of(pid: int, kinds: Iterable[str]) -> dict[str, int]:
    """Open the namespaces of these types that process `pid` is in and this one is not: type → descriptor.

    The caller closes them, and holds a pidfd that shows afterwards that `pid` was the process that it means. For
    namespaces that are joined one after the other: setns(2) with the pidfd, called twice, would follow a process that
    goes into others in between. Raises OSError.
    """
    opened: dict[str, int] = {}
    try:
        for kind in kinds:
            name = KINDS[kind][1]
            descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            opened[kind] = descriptor
            if is_own(descriptor, kind):
                os.close(opened.pop(kind))
    except BaseException:
        for descriptor in opened.values():
            os.close(descriptor)
        raise
    return opened


def open_owner(namespace: int) -> int:
    """The user namespace that owns `namespace`, whose rights decide what may be done to it; -1: this process's own.

    ioctl_nsfs(2); raises OSError, EPERM where the owner is neither this process's nor one below.
    """
    owner = ioctl(namespace, NS_GET_USERNS)
    if not is_own(owner, "user"):
        return owner
    os.close(owner)
    return -1


def is_own(namespace: int, kind: str) -> bool:
    """Whether this process is in the namespace behind the descriptor."""
    own, other = os.stat(f"/proc/self/ns/{KINDS[kind][1]}"), os.fstat(namespace)
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
