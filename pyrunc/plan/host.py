"""Host: frozen facts about this machine and this caller, probed once and passed to every room."""

from __future__ import annotations

import os


class Host:
    """What `check` and `plan` may know about the machine.

    `euid`, `egid`: the caller's effective ids. `rootless`: euid is not 0, or it is 0 only inside a user
    namespace. `sources`: for each bind-mount source of the config, its `st_mode`, or the negated errno of
    stat(2). `namespaces`: for each namespace path to join, its clone flag, or the negated errno.
    """

    __slots__ = ("egid", "euid", "namespaces", "rootless", "sources")

    def __init__(self, euid: int, egid: int, rootless: bool, sources: dict[str, int]) -> None:
        self.euid = euid
        self.egid = egid
        self.rootless = rootless
        self.sources = sources
        self.namespaces: dict[str, int] = {}


def in_user_namespace(uid_map: str) -> bool:
    """Whether the text of /proc/self/uid_map is that of a user namespace other than the initial one."""
    return uid_map.split() != ["0", "0", "4294967295"]


def probe() -> Host:
    """Ask the system for the facts."""
    euid = os.geteuid()
    rootless = euid != 0
    if not rootless:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            rootless = in_user_namespace(file.read())
    return Host(euid, os.getegid(), rootless, {})
