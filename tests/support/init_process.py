"""What proc tells of a container's init and of its child, the program."""

from __future__ import annotations

from pathlib import Path

from tests.support.runtime import Container


def status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child_of(container: Container) -> int:
    """The container's program."""
    return children(container.pid)[0]
