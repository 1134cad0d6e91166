"""Limits of block devices in cgroup v1 (admin-guide/cgroup-v1/blkio-controller.rst, block/bfq-iosched.rst)."""

from __future__ import annotations

import os

from pyrunc.linux.cgroups.files import write_device
from pyrunc.linux.cgroups.resources import THROTTLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.linux.cgroups.resources import Resources


def limit(home: str, values: Resources) -> None:
    """Write `linux.resources.blockIO` to the cgroup `home`. Raises KernelError naming property, file and value.

    Weights go to the files of CFQ, the scheduler of kernels before 5.0, where they are there, else to those of BFQ;
    BFQ knows no leaf weights.
    """
    cfq = os.access(f"{home}/blkio.weight", os.F_OK)
    files = {"weight": "blkio.weight" if cfq else "blkio.bfq.weight", "leafWeight": "blkio.leaf_weight"}
    for key, name in files.items():
        if value := values.get(key):
            write_device(home, name, str(value), f"blockIO.{key}")
        for index, entry in enumerate(values.get("weightDevice") or ()):
            if own := entry.get(key):
                line = f"{entry['major']}:{entry['minor']} {own}"
                write_device(home, f"{name}_device", line, f"blockIO.weightDevice[{index}].{key}")
    for key, (word, _) in THROTTLES.items():
        for index, entry in enumerate(values.get(key) or ()):
            line = f"{entry['major']}:{entry['minor']} {entry['rate']}"
            write_device(home, f"blkio.throttle.{word}", line, f"blockIO.{key}[{index}]")
