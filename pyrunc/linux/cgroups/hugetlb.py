"""Limits of huge pages, in both versions of cgroups (admin-guide/cgroup-v1/hugetlb.rst, cgroup-v2.rst "HugeTLB").

config-linux.md "Huge page limits": the limit is one of reservations if the kernel accounts them (since 5.7), else
one of page faults. Where there are reservations both are set, as pages can be faulted in without any
(MAP_NORESERVE).
"""

from __future__ import annotations

import os
from errno import ENOENT

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.files import put, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def limit(home: str, limits: Sequence[Mapping[str, Any]], version: int) -> None:
    """Write `linux.resources.hugepageLimits` to the cgroup `home`. Raises PyruncError."""
    suffix = "limit_in_bytes" if version == 1 else "max"
    for index, entry in enumerate(limits):
        size, value = entry["pageSize"], str(entry["limit"])
        if size not in (known := sizes(home)):
            raise PyruncError(
                f"linux.resources.hugepageLimits[{index}].pageSize: this kernel has no huge pages of {size}",
                remedy=f"use one of {', '.join(known)}" if known else "the kernel has no huge pages at all",
                code="unsupported",
            )
        for name in (f"hugetlb.{size}.rsvd.{suffix}", f"hugetlb.{size}.{suffix}"):
            try:
                put(home, name, value)
            except OSError as error:
                if error.errno == ENOENT and ".rsvd." in name:
                    continue  # Linux before 5.7 accounts no reservations
                raise refused(home, name, value, error, f"hugepageLimits[{index}]") from error


def sizes(home: str) -> list[str]:
    """The page sizes that the cgroup `home` has files for: "2MB", "1GB"."""
    with os.scandir(home) as entries:
        # Only files are the kernel's: a directory is a cgroup, which the container may have named as it likes.
        files = [entry.name for entry in entries if entry.name.startswith("hugetlb.") and entry.is_file()]
    return sorted({name.split(".")[1] for name in files})
