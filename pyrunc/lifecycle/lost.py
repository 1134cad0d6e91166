"""Containers whose record is lost, damaged or not understood: what can still be known of them."""

from __future__ import annotations

import os

from pyrunc.config import POSTSTOP
from pyrunc.errors import PyruncError
from pyrunc.lifecycle.failure import saved_config
from pyrunc.lifecycle.sharing import homes_of_living
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import CGROUPFS, SYSTEMD, choose, restore
from pyrunc.store.record import damaged
from pyrunc.store.store import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.log import Log
    from pyrunc.store.store import Directory, Store


def end_without_record(store: Store, directory: Directory, log: Log) -> None:
    """End the processes in the cgroup that the saved configuration names, and remove that.

    Not where a container that lives has it by now, or had it all along: the directory may be a copy.
    """
    try:
        config = saved_config(directory)
        if not isinstance(config, dict):
            raise damaged(f"{directory.path}/{CONFIG}", "it is not a JSON object")
        # Which manager it had nobody knows any more either, but this form is systemd's.
        path = (config.get("linux") or {}).get("cgroupsPath") or ""
        kind = SYSTEMD if path.count(":") == 2 else CGROUPFS
        chosen = choose(config, directory.id, layout(), os.geteuid() != 0, kind)
    except (OSError, PyruncError) as error:
        log.warning(f"its processes, should there be any, were not found: {error}")
        return
    homes = set(chosen.paths().values())
    if taken := sorted(homes & homes_of_living(store, directory.id)):
        log.warning(f"its cgroup was left, another container has it: {taken[0]}")
        return
    # What was made for it nobody knows any more; its own cgroup surely is what it used last.
    found: dict[str, Any] = {**(chosen.record() or {}), "made": sorted(homes)}
    if "systemd" in found:
        found["systemd"]["ours"] = True
    manager = restore(found)
    if manager.pids():
        manager.kill()
    manager.remove()
    if "intelRdt" in config.get("linux", {}):
        log.warning(
            "its resctrl group, if it has one of its own, was left: who made it is not known any more"
        )
    if (config.get("hooks") or {}).get(POSTSTOP):
        log.warning("its poststop hooks were not run: the state to give them is lost")
