"""The cgroup v1 hierarchies of this host, and what a test needs there."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyrunc.linux.cgroups import files
from pyrunc.linux.cgroups.layout import layout

HOST = layout()
NEEDS_V1 = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root"),
    pytest.mark.skipif(HOST.pure_v2 or not HOST.v1, reason="this host has no cgroup v1"),
]
SLEEP = ("/bin/sleep", "1000")


def below_cgroups(path: str) -> list[str]:
    """Every directory `path` of a test, in whichever hierarchy."""
    hierarchies = [*HOST.v1, *([HOST.v2] if HOST.v2 else [])]
    return [mount for mount in (h.mount + path for h in hierarchies) if os.path.isdir(mount)]


def held(manager: Any, controller: str, name: str) -> str:
    return files.read(manager.paths()[controller], name)
