"""Limits of RDMA devices, the same in both versions of cgroups (admin-guide/cgroup-v1/rdma.rst)."""

from __future__ import annotations

from errno import EINVAL

from pyrunc.linux.cgroups.files import put, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def limit(home: str, devices: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `linux.resources.rdma` to the cgroup `home`, a line for each device. Raises KernelError."""
    for device, limits in devices.items():
        words = [device]
        for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if limits.get(key) is not None:
                words.append(f"{name}={limits[key]}")
        line = " ".join(words)
        try:
            put(home, "rdma.max", line)
        except OSError as error:
            remedy = f"is {device} an RDMA device of this host (see /sys/class/infiniband)?"
            if error.errno != EINVAL:
                remedy = ""
            raise refused(home, "rdma.max", line, error, f"rdma[{device!r}]", remedy) from error
