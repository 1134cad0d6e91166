"""features --probe: what this kernel lets this user do here, of all that this build supports, and why not the rest.

It walks the features document (`pyrunc.cli.features`), so that nothing is probed that is not announced, and nothing
announced that is not probed. Every answer is an attempt, not a look at a version number: namespaces are made and
policies set by a child process that ends at once, options and flags are given to the kernel with an argument
that it refuses only after it has understood them, cgroups are made and removed (`pyrunc.lifecycle.probe_cgroups`, where
also is what cannot be tried without a trace).
"""

from __future__ import annotations

import os
from errno import EBADF, EFAULT, ENOSYS
from struct import pack

from pyrunc.errors import PyruncError, kernel_word
from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    FSCONFIG_CMD_CREATE,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_IDMAP,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    SECCOMP_GET_ACTION_AVAIL,
    SECCOMP_SET_MODE_FILTER,
)
from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.probe_cgroups import cgroup, resctrl
from pyrunc.linux import capabilities, lsm, memory_policy, seccomp
from pyrunc.linux.mounts.options import ATIME, ATTRIBUTES, IDMAP, NOT_ATIME, OPTIONS
from pyrunc.linux.namespaces import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

    #: Why something is not available here, "" if it is.
    Reason = str

#: The return values of filters by which the kernel knows actions (linux/seccomp.h).
ACTION_VALUES: Final = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}


def probe(static: dict[str, Any]) -> dict[str, Any]:
    """The features document `static` with an answer in place of each element and each truth value.

    An answer is {"supported": by this build, "available": here, "reason": why not}.
    """
    linux = static["linux"]
    filters = linux["seccomp"]
    idmap = _idmap()
    return {
        "ociVersionMin": static["ociVersionMin"],
        "ociVersionMax": static["ociVersionMax"],
        "hooks": _each(static["hooks"], _always),
        "mountOptions": _each(static["mountOptions"], lambda word: _option(word, idmap)),
        "linux": {
            "namespaces": _each(linux["namespaces"], _namespace),
            "capabilities": _each(linux["capabilities"], _capability),
            "cgroup": {name: _answer(on, cgroup(name)) for name, on in linux["cgroup"].items()},
            "seccomp": {
                "enabled": _answer(filters["enabled"], _seccomp_flag("SECCOMP_FILTER_FLAG_TSYNC")),
                "actions": _each(filters["actions"], _seccomp_action),
                "operators": _each(filters["operators"], _always),
                "archs": _each(filters["archs"], _architecture),
                "flags": _each(filters["knownFlags"], _seccomp_flag),
            },
            "apparmor": {"enabled": _answer(linux["apparmor"]["enabled"], _module(lsm.APPARMOR, "AppArmor"))},
            "selinux": {"enabled": _answer(linux["selinux"]["enabled"], _module(lsm.SELINUX, "SELinux"))},
            "intelRdt": {name: _answer(on, resctrl(name)) for name, on in linux["intelRdt"].items()},
            "memoryPolicy": {
                "modes": _each(linux["memoryPolicy"]["modes"], _memory_mode),
                "flags": _each(linux["memoryPolicy"]["flags"], _memory_flag),
            },
            "mountExtensions": {
                "idmap": {"enabled": _answer(linux["mountExtensions"]["idmap"]["enabled"], idmap)}
            },
            "netDevices": {"enabled": _answer(linux["netDevices"]["enabled"], _net_devices())},
        },
    }


def _answer(supported: bool, reason: Reason) -> dict[str, Any]:
    if not supported:
        return {"supported": False, "available": False, "reason": "not supported by this version of pyrunc"}
    answer: dict[str, Any] = {"supported": True, "available": not reason}
    if reason:
        answer["reason"] = reason
    return answer


def _each(names: Iterable[str], ask: Callable[[str], Reason]) -> dict[str, Any]:
    return {name: _answer(True, ask(name)) for name in names}


def _always(_name: str) -> Reason:
    """pyrunc's own doing, which needs nothing of the kernel."""
    return ""


def attempt(*steps: Callable[[], object]) -> Reason:
    """Carry out `steps` in a child process, which ends then; the reason of the first that failed, "" if none did."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        said = b"attempt: failed"  # for what nobody has foreseen
        try:
            for step in steps:
                step()
            said = b""
        except OSError as error:
            said = f"{error.filename or 'attempt'}: {kernel_word(error.errno or 0)}".encode()
        except PyruncError as error:
            said = str(error).encode()
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        reason = answer.read().decode()
    _, status = os.waitpid(child, 0)
    return f"attempt: killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else reason


def _privileged() -> tuple[Callable[[], object], ...]:
    """What an ordinary user does first, as in a container of his: become root of a user namespace and its mounts."""
    return () if os.geteuid() == 0 else (lambda: syscall("unshare", CLONE_NEWUSER | CLONE_NEWNS),)


def _namespace(kind: str) -> Reason:
    flag, file = KINDS[kind]
    if not os.path.exists(f"/proc/self/ns/{file}"):
        return "this kernel has no such namespaces"
    first = () if flag == CLONE_NEWUSER else _privileged()
    return attempt(*first, lambda: syscall("unshare", flag))


def _capability(name: str) -> Reason:
    mask, last = capabilities.passable()
    number = capabilities.NAMES.index(name)
    if number > last:
        return "this kernel does not know it"
    if os.geteuid() == 0 and not mask >> number & 1:
        return "the caller cannot pass it on: it is not in its own bounding and permitted sets"
    return ""


def _option(word: str, idmap: Reason) -> Reason:
    kind, value, scope = OPTIONS[word]
    if kind == IDMAP:
        return idmap
    if kind not in ATTRIBUTES or not value:
        return ""
    whole = MOUNT_ATTR__ATIME if kind in (ATIME, NOT_ATIME) else 0
    attributes = pack("<QQQQ", value, whole, 0, 0)
    reason = attempt(*_privileged(), lambda: _know_attribute(attributes))
    # What is not recursive is done with mount(2) where the kernel has no mount_setattr(2) at all.
    return "" if not scope and reason.endswith(kernel_word(ENOSYS)) else reason


def _know_attribute(attributes: bytes) -> None:
    """An attribute of mounts that the kernel knows is refused for its descriptor, one it does not know for itself."""
    try:
        syscall("mount_setattr", -1, b"", AT_EMPTY_PATH, attributes, len(attributes))
    except OSError as error:
        if error.errno != EBADF:
            raise


def _seccomp_action(name: str) -> Reason:
    try:
        syscall("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, ACTION_VALUES[name].to_bytes(4, "little"))
    except OSError as error:
        return f"seccomp: {kernel_word(error.errno or 0)}"
    return ""


def _seccomp_flag(name: str) -> Reason:
    """A flag that the kernel knows lets it go on to the filter, whose address is none."""
    flag = seccomp.FLAGS[name]
    if flag == SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
        flag |= SECCOMP_FILTER_FLAG_NEW_LISTENER
    try:
        syscall("seccomp", SECCOMP_SET_MODE_FILTER, flag, None)
    except OSError as error:
        if error.errno != EFAULT:
            return f"seccomp: {kernel_word(error.errno or 0)}"
    return ""


def _architecture(name: str) -> Reason:
    from pyrunc.linux.seccomp.compile import ARCHITECTURES

    machine = os.uname().machine
    here = ARCHITECTURES.get(machine, {})
    return (
        "" if name.removeprefix("SCMP_ARCH_") in here else f"{machine} runs no programs of this architecture"
    )


def _module(name: str, title: str) -> Reason:
    return "" if name in lsm.enabled() else f"{title} is not enabled on this host"


def _memory_mode(name: str) -> Reason:
    nodes = (1).to_bytes(8, "little")
    bare = name in memory_policy.WITHOUT_NODES
    return attempt(
        lambda: syscall(
            "set_mempolicy", memory_policy.MODES[name], None if bare else nodes, 0 if bare else 64
        )
    )


def _memory_flag(name: str) -> Reason:
    mode = memory_policy.MODES["MPOL_BIND"] | memory_policy.FLAGS[name]
    return attempt(lambda: syscall("set_mempolicy", mode, (1).to_bytes(8, "little"), 64))


def _idmap() -> Reason:
    """A tmpfs that nobody else ever sees, with the map of a user namespace that is made for it."""
    if os.geteuid() != 0:
        return "only the host's root can make id-mapped mounts"
    return attempt(_map_a_tmpfs)


def _map_a_tmpfs() -> None:
    from pyrunc.lifecycle.mounts import Spaces

    context = syscall("fsopen", b"tmpfs", FSOPEN_CLOEXEC)
    syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
    tree = syscall("fsmount", context, FSMOUNT_CLOEXEC, 0)
    space = Spaces(os.getpid()).get(("0 1 1", "0 1 1"))
    attributes = pack("<QQQQ", MOUNT_ATTR_IDMAP, 0, 0, space)
    syscall("mount_setattr", tree, b"", AT_EMPTY_PATH, attributes, len(attributes))


def _net_devices() -> Reason:
    if os.geteuid() != 0:
        return "only the host's root can take devices out of its network namespace"
    return attempt(lambda: syscall("unshare", CLONE_NEWNET))
