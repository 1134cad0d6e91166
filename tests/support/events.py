"""Calls of `events`, and what they have told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.support.limits import SWAP, M
from tests.support.runtime import Container, Running, wait_for

MEMORY = {"limit": 32 * M, **({"swap": 32 * M} if SWAP else {})}


def told(container: Container) -> dict[str, Any]:
    """The data of `events --stats`."""
    (line,) = container.runtime.verb("events", "--stats", container.id).ok().out.splitlines()
    event: dict[str, Any] = json.loads(line)
    assert line.startswith(f'{{"type":"stats","id":"{container.id}","data":{{"cpu":{{')
    assert set(event) == {"type", "id", "data"}
    data: dict[str, Any] = event["data"]
    return data


def events(container: Container, *flags: str) -> Running:
    """`events` that goes on, and by now watches."""
    running = container.runtime.spawn("events", *flags, container.id)
    wait_for(lambda: watches(running.process.pid), say="the watch")
    return running


def watches(pid: int) -> bool:
    """Whether the process sleeps with a pidfd, which is opened before what else is watched."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return any("pidfd" in link for link in links) and "poll" in Path(f"/proc/{pid}/wchan").read_text()


def lines(running: Running) -> list[dict[str, Any]]:
    """The whole lines so far."""
    return [json.loads(line) for line in running.out.splitlines(keepends=True) if line.endswith("\n")]


def kinds(running: Running) -> list[str]:
    return [event["type"] for event in lines(running)]
