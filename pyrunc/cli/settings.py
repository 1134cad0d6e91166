"""What the commands make of the values of options."""

from __future__ import annotations

import os

from pyrunc.cli.parse import boolean
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cli.options import Value, Values
    from pyrunc.store.store import Store


def store(settings: Values) -> Store:
    """The state directories of containers that --root names."""
    from pyrunc.store.root import choose
    from pyrunc.store.store import Store

    root = settings["root"]
    return Store(*choose(None if root is None else str(root)))


def absolute(path: Value) -> str:
    """`path` from the current directory on; "" stays.

    Joined only: taking ".." out by the letter would mean another directory behind a symbolic link.
    """
    return os.path.join(os.getcwd(), str(path)) if path else ""


def manager_kind(settings: Values) -> str:
    """--cgroup-manager, or --systemd-cgroup. Raises PyruncError for another word."""
    from pyrunc.linux.cgroups.manager import KINDS, SYSTEMD

    manager = str(settings["cgroup-manager"])
    if manager not in KINDS:
        raise PyruncError(
            f"invalid cgroup-manager: {manager}", remedy="use cgroupfs, systemd or disabled", code="usage"
        )
    return SYSTEMD if settings["systemd-cgroup"] else manager


def rootless(settings: Values) -> bool | None:
    """--rootless; None for auto. Raises PyruncError for another word."""
    choice = str(settings["rootless"])
    chosen = None if choice == "auto" else boolean(choice)
    if chosen is None and choice != "auto":
        raise PyruncError(f"invalid rootless: {choice}", remedy="use true, false or auto", code="usage")
    return chosen
