"""What the steps that make a process take: a host, a configuration, and the way into a small root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrunc.linux import capabilities
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program

HOST = Host(0, 0, False, {})


def able() -> Host:
    host = Host(0, 0, False, {})
    host.capabilities, host.last_capability = capabilities.passable()
    return host


def config(**process: Any) -> Any:
    return {"process": {"cwd": "/", "args": ["/bin/true"], **process}, "linux": {}}


def caps(**sets: list[str]) -> dict[str, list[str]]:
    return {kind: [f"CAP_{name}" for name in names] for kind, names in sets.items()}


def enter(program: Program, root: Path) -> None:
    program.call("chroot", str(root), step="change the root")
    program.call("chdir", "/", step="go to the root")
