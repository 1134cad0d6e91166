"""Containers with limits, and what the files of their cgroups say."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Container, Runtime

M = 1 << 20
V2 = os.path.isfile("/sys/fs/cgroup/cgroup.controllers")
SWAP = V2 or os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
only_v1 = pytest.mark.skipif(V2, reason="this host has cgroup v2")
only_v2 = pytest.mark.skipif(not V2, reason="this host has cgroup v1")


def limited(runtime: Runtime, **resources: Any) -> Bundle:
    """A bundle with these resources."""
    bundle = runtime.bundle().sleeper()
    bundle.linux["resources"] = resources
    return bundle


def value(container: Container, controller: str, file: str) -> str:
    """What a file of the container's cgroup says."""
    return (container.cgroup(controller) / file).read_text().strip()


def held(container: Container, *places: str) -> list[str]:
    """The first line of each file, `controller/file` on cgroup v1."""
    found, pid = [], container.pid
    for place in places:
        controller, _, file = place.rpartition("/")
        found.append((container.cgroup(controller, pid) / file).read_text().partition("\n")[0])
    return found
