"""What resctrl tells of a container's group: its shares, what they are shares of, and what is measured of its use.

Names are those of runc's events; Documentation/filesystems/resctrl.rst has the meanings. A container without
linux.intelRdt has none of it.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError
from pyrunc.kernel import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Final

#: Resource of `info` and `schemata` → beginning of the names, name and numbers of what is known of it.
_RESOURCES: Final = {
    "L3": ("l3_cache", "l3_cache_info", ("min_cbm_bits", "num_closids")),
    "MB": ("mem_bw", "mem_bw_info", ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")),
}
#: What is measured, by the list that it stands in.
_MEASURED: Final = {"mbm_stats": ("mbm_total_bytes", "mbm_local_bytes"), "cmt_stats": ("llc_occupancy",)}


def read(record: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the group whose `intel_rdt.Group.record` this is; none of one that an older pyrunc wrote.

    Raises KernelError, also if the group is gone.
    """
    if "directory" not in record:
        return {}
    mount, directory, monitor = record["mount"], record["directory"], record["monitor"]
    try:
        shares = _lines(f"{directory}/schemata")
        whole = _lines(f"{mount}/schemata")
        found: dict[str, Any] = {}
        for resource, (begin, info, names) in _RESOURCES.items():
            place = f"{mount}/info/{resource}"
            if not os.path.isdir(place):
                continue  # the processor has no such shares, or the kernel was told not to use them
            mask = {"cbm_mask": procfs.read(f"{place}/cbm_mask").strip()} if resource == "L3" else {}
            found[info] = mask | {name: int(procfs.read(f"{place}/{name}")) for name in names}
            found[f"{begin}_schema_root"] = _of(resource, whole)
            found[f"{begin}_schema"] = _of(resource, shares)
        return {**found, "schemata": shares, **_measured(f"{monitor or directory}/mon_data", mount)}
    except OSError as error:
        raise KernelError.of(f"read the resctrl group {directory}", error) from error


def _lines(path: str) -> list[str]:
    return [line.strip() for line in procfs.read(path).splitlines()]


def _of(resource: str, lines: Iterable[str]) -> str:
    """The line of `resource`; "" where there is none, as with code and data apart (L3CODE, L3DATA)."""
    return next((line for line in lines if line.startswith(f"{resource}:")), "")


def _measured(directory: str, mount: str) -> dict[str, Any]:
    """For each cache what was measured there."""
    features = f"{mount}/info/L3_MON/mon_features"
    if not os.path.exists(features):
        return {}
    known = _lines(features)
    caches = sorted(name for name in os.listdir(directory) if name.startswith("mon_L3_"))
    return {
        kind: [_numbers(f"{directory}/{cache}", names) for cache in caches]
        for kind, names in _MEASURED.items()
        if set(names) & set(known)
    }


def _numbers(directory: str, names: Iterable[str]) -> dict[str, int]:
    """The numbers in these files, without those that cannot be told now ("Unavailable", "Error")."""
    found = {}
    for name in names:
        if os.path.exists(f"{directory}/{name}"):
            word = procfs.read(f"{directory}/{name}").strip()
            if word.isdigit():
                found[name] = int(word)
    return found
