"""Host: frozen facts about this machine and this caller, probed once and passed to every room."""

from __future__ import annotations

import os

from pyrunc.kernel.procfs import in_user_namespace
from pyrunc.linux.capabilities import passable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.host_nodes import Nodes


class Host:
    """What `check` and `plan` may know about the machine.

    `euid`, `egid`: the caller's effective ids. `rootless`: euid is not 0, or it is 0 only inside a user
    namespace. `sources`: for each bind-mount source of the config, its `st_mode`, or the negated errno of
    stat(2). `namespaces`: for each namespace path to join, its clone flag, or the negated errno.

    `cgroups`: the container's cgroups-to-be, as `Manager.paths` tells. `cgroup_flags`: what the host's cgroup v2 is
    mounted with, asked only where a mount of the container would change it.

    `memory_nodes`: the NUMA nodes that have memory, asked for linux.memoryPolicy only; empty: not known.

    `security_modules`: those of "apparmor" and "selinux" that are at work, asked only where something is labelled.

    `capabilities`: what this process can pass on (bit n: capability n); `last_capability`: the kernel's last.

    Filled by `pyrunc.linux.mounts.facts.gather`: `bundle`: the bundle's absolute path; `bundle_real`: with
    symbolic links resolved. `no_pivot`: the caller asked for --no-pivot. `root`: the absolute path of
    `root.path`. `root_mode`: its `st_mode` (of a symbolic link: the link's own), or the negated errno.
    `root_real`: the same path with every symbolic link resolved. `links`: for mount points whose path has
    symbolic links in the image, the path they lead to. `pseudo_mounts`: where procfs and sysfs are mounted
    whole on the host, for --no-pivot only. `old_mounts`: the mount calls of Linux 5.2 to 5.12 are missing (an outer
    sandbox may refuse them), so that mount(2) has to do. `data_pages`: a mount of the config says what only
    mount(2) takes. `nodes`: the host's nodes of linux.devices, where they are bind-mounted
    (`pyrunc.linux.host_nodes.nodes`). `own_mounts`: the mount namespace to join is the runtime's own.
    """

    __slots__ = (
        "bundle",
        "bundle_real",
        "capabilities",
        "cgroup_flags",
        "cgroups",
        "data_pages",
        "egid",
        "euid",
        "last_capability",
        "links",
        "memory_nodes",
        "namespaces",
        "no_pivot",
        "nodes",
        "old_mounts",
        "own_mounts",
        "pseudo_mounts",
        "root",
        "root_mode",
        "root_real",
        "rootless",
        "security_modules",
        "sources",
    )

    def __init__(self, euid: int, egid: int, rootless: bool, sources: dict[str, int]) -> None:
        self.euid = euid
        self.egid = egid
        self.rootless = rootless
        self.sources = sources
        self.namespaces: dict[str, int] = {}
        self.cgroups: dict[str, str] = {}
        self.cgroup_flags: tuple[str, ...] = ()
        self.memory_nodes: frozenset[int] = frozenset()
        self.security_modules: frozenset[str] = frozenset(("apparmor", "selinux"))
        self.last_capability = 40
        self.capabilities = (1 << self.last_capability + 1) - 1
        self.bundle = "/"
        self.bundle_real = "/"
        self.no_pivot = False
        self.root = ""
        self.root_mode = 0
        self.root_real = ""
        self.old_mounts = False
        self.data_pages = False
        self.own_mounts = False
        self.nodes: Nodes = {}
        self.links: dict[str, str] = {}
        self.pseudo_mounts: tuple[str, ...] = ()


def probe() -> Host:
    """Ask the system for the facts."""
    euid = os.geteuid()
    rootless = euid != 0 or in_user_namespace()
    host = Host(euid, os.getegid(), rootless, {})
    host.capabilities, host.last_capability = passable()
    return host
