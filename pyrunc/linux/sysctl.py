"""Kernel parameters of the container's own namespaces (config-linux.md "Sysctl"; sysctl(8), proc(5))."""

from __future__ import annotations

import os

from pyrunc.kernel.constants import (
    O_WRONLY,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from pyrunc.kernel.paths import open_how
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.linux.namespaces import has, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

#: The parameters that belong to an IPC namespace (ipc_namespaces(7)), besides everything below fs.mqueue.
IPC: Final = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)

_SWAP: Final = str.maketrans("./", "/.")


def dotted(key: str) -> str:
    """The key in its form with dots.

    sysctl(8) takes either separator, and the first one met decides: `net/ipv4/conf/eth0.1/mtu` and
    `net.ipv4.conf.eth0/1.mtu` are the same parameter.
    """
    dot, slash = key.find("."), key.find("/")
    return key.translate(_SWAP) if slash >= 0 and (dot < 0 or slash < dot) else key


def path_of(key: str) -> str:
    """The key's path below /proc/sys."""
    return dotted(key).translate(_SWAP)


def check(config: Config, host: Host, report: Report) -> None:
    """Only parameters of a namespace that the container does not share with the host, each once."""
    seen: dict[str, str] = {}
    for key in config.get("linux", {}).get("sysctl") or {}:
        where = f"linux.sysctl.{key}"
        name = dotted(key)
        if any(part in ("", ".", "..") for part in path_of(key).split("/")):
            report.error(where, "is not the name of a kernel parameter", "write it as net.ipv4.ip_forward")
            continue
        if name in seen:
            report.error(where, f"is the same kernel parameter as {seen[name]}", "give it once")
        seen[name] = key
        _check_namespace(where, name, config, report)


def _check_namespace(where: str, name: str, config: Config, report: Report) -> None:
    if name in IPC or name.startswith("fs.mqueue."):
        kind = "ipc"
    elif name.startswith("net."):
        kind = "network"
    elif name.startswith("user."):
        kind = "user"
    elif name in ("kernel.hostname", "kernel.domainname"):
        kind = "uts"
    else:
        text = f'sysctl "{name}" is not in a separate kernel namespace'
        report.error(where, text, "it would change the host; set it there with sysctl(8)")
        return
    if not has(config, kind):
        text = f'sysctl "{name}" is not allowed in the host {kind} namespace'
        report.error(where, text, f'add {{"type": "{kind}"}} to linux.namespaces or remove the key')
    elif kind == "network" and _is_own_network(listed(config)["network"]):
        text = f'sysctl "{name}" is not allowed in the host network namespace'
        report.error(where, text, "linux.namespaces joins the runtime's own one by its path")
    elif name == "kernel.hostname" or (name == "kernel.domainname" and config.get("domainname")):
        field = name.partition(".")[2]
        text = f'sysctl "{name}" is not allowed as it conflicts with the OCI "{field}" field'
        report.error(where, text, f"use {field}")


def _is_own_network(path: str) -> bool:
    # The one question to the system in this room: only a joined network namespace needs it, and only the
    # inode tells whether the path leads to the one that the runtime itself is in.
    if not path:
        return False
    try:
        return os.path.samestat(os.stat(path), os.stat("/proc/self/ns/net"))
    except OSError:
        return False  # a path that cannot be joined is refused by pyrunc.linux.namespaces


def plan(config: Config, host: Host, program: Program, proc: Register) -> None:
    """Emit the writes, through the procfs that the descriptor in `proc` is the root of.

    `proc` must be a procfs of our own and not one found in the image, and no link or mount is followed
    below it: otherwise a mount made by the container redirects the write (CVE-2025-52881).
    """
    parameters = config.get("linux", {}).get("sysctl")
    if not parameters:
        return
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = program.data(open_how(O_WRONLY, 0, resolve))
    fd = program.register()
    for key, value in parameters.items():
        raw = value.encode("utf-8", "surrogateescape")
        of = f"linux.sysctl.{key}"
        step = f"set sysctl {key} to {value}"
        program.call("openat2", proc, "sys/" + path_of(key), how, OPEN_HOW_SIZE, step=step, of=of, into=fd)
        program.call("write", fd, raw, len(raw), step=step, of=of)
        program.call("close", fd, step=f"close sysctl {key}", of=of)
    program.release(fd)
