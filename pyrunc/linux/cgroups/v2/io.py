"""Limits of block devices in cgroup v2 (cgroup-v2.rst "IO", block/bfq-iosched.rst)."""

from __future__ import annotations

import os

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.files import write_device
from pyrunc.linux.cgroups.resources import THROTTLES, WEIGHT_MAX, WEIGHT_MIN
from pyrunc.linux.cgroups.v2.conversion import io_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.cgroups.resources import Resources


def limit(home: str, values: Resources) -> None:
    """Write `linux.resources.blockIO` to the cgroup `home`. Raises PyruncError naming property, file and value.

    Where the kernel has BFQ, weights are BFQ's, which count as in cgroup v1; else those of the io controller.
    """
    devices = values.get("weightDevice") or ()
    if (weight := values.get("weight")) or devices:
        bfq = os.access(f"{home}/io.bfq.weight", os.F_OK)
        name = "io.bfq.weight" if bfq else "io.weight"
        if weight:
            write_device(home, name, str(_weight(weight, bfq, "weight")), "blockIO.weight")
        for index, entry in enumerate(devices):
            if own := entry.get("weight"):
                own = _weight(own, bfq, f"weightDevice[{index}].weight")
                line = f"{entry['major']}:{entry['minor']} {own}"
                write_device(home, name, line, f"blockIO.weightDevice[{index}]")
    for key, (_, word) in THROTTLES.items():
        for index, entry in enumerate(values.get(key) or ()):
            # 0 takes a limit away in cgroup v1, and is no rate at all in v2.
            line = f"{entry['major']}:{entry['minor']} {word}={entry['rate'] or 'max'}"
            write_device(home, "io.max", line, f"blockIO.{key}[{index}]")


def _weight(weight: int, bfq: bool, name: str) -> int:
    if bfq:
        return weight
    if weight < WEIGHT_MIN:
        raise PyruncError(
            f"linux.resources.blockIO.{name}: is {weight}, which io.weight cannot hold",
            remedy=f"use {WEIGHT_MIN} to {WEIGHT_MAX}",
            code="unsupported",
        )
    return io_weight(weight)
