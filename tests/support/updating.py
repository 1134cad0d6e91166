"""Calls of `update`, and everything that they change: limits, the saved configuration, what processes inside find."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.support.bundle import Bundle
from tests.support.limits import SWAP, V2, held
from tests.support.runtime import Container, Outcome


def with_json(container: Container, resources: Any, *flags: str) -> Outcome:
    """`update --resources` with this on standard input."""
    text = resources if isinstance(resources, str) else json.dumps(resources)
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        return container.runtime.verb("update", "--resources", "-", *flags, container.id, stdin=reader)
    finally:
        os.close(reader)


def update(container: Container, *flags: str) -> Outcome:
    return container.runtime.verb("update", *flags, container.id)


def limits_of(container: Container) -> dict[str, str]:
    """Every limit that a test here changes, as it is."""
    names = (
        "cpu.max cpu.max.burst cpu.weight cpu.idle cpuset.cpus.effective memory.max memory.swap.max memory.low pids.max"
        if V2
        else "cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.cfs_burst_us cpu/cpu.shares cpu/cpu.idle "
        "cpuset/cpuset.cpus memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness "
        "memory/memory.oom_control pids/pids.max blkio/blkio.throttle.read_bps_device"
        + (" memory/memory.memsw.limit_in_bytes" if SWAP else "")
    ).split()
    return dict(zip(names, held(container, *names), strict=True))


def saved(container: Container) -> dict[str, Any]:
    """`linux.resources` in the state directory."""
    config = json.loads((container.runtime.root / container.id / "config.json").read_text())
    resources: dict[str, Any] = config["linux"].get("resources", {})
    return resources


def obstacle(container: Container) -> Path:
    """A directory where the new configuration is going to be written: the last step fails."""
    path = container.runtime.root / container.id / ".config.json.new"
    path.mkdir()
    return path


def waiting(bundle: Bundle, *questions: str) -> Bundle:
    """Ask these, and again as soon as the file /go is there; then wait."""
    asks = "testify " + " -- ".join(questions)
    return bundle.shell(
        f"{asks}; echo first; until [ -e /go ]; do sleep 0.1; done; {asks}; echo second; sleep 1000"
    )


def answers(container: Container) -> list[Any]:
    (container.bundle.rootfs / "go").touch()
    container.says("second")
    return [json.loads(line)["answer"] for line in container.out.splitlines() if '"ask"' in line]
