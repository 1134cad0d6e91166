"""Containers that processes join, and where these are then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.bundle import Bundle
from tests.support.limits import V2
from tests.support.runtime import Container, Runtime


def started(runtime: Runtime, bundle: Bundle) -> Container:
    """A container of this bundle whose first process waits."""
    container = runtime.container(bundle.sleeper())
    container.create().ok()
    container.start().ok()
    container.says("ready")
    return container


def in_same_namespaces(container: Container, **how: Any) -> dict[str, str]:
    """Assert it of a process that joins; its namespaces."""
    found: dict[str, str] = container.asks("namespaces", **how)["namespaces"]
    assert len(found) == 8
    for name, link in found.items():
        assert link == os.readlink(f"/proc/{container.pid}/ns/{name}"), name
    return found


def cgroups_of(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def pid_of(container: Container, *flags: str) -> int:
    """The pid of a detached process that waits."""
    file = container.runtime.folder / "pid"
    container.exec(["sleep", "1000"], "-d", "--pid-file", str(file), *flags).ok()
    return int(file.read_text())


def home_v2(container: Container) -> Path:
    (path,) = [line[3:] for line in cgroups_of(container.pid).splitlines() if line.startswith("0::")]
    top = "/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/unified"
    return Path(top, path.lstrip("/"))
