"""Calls of `mounts add` and `mounts remove`, and what is mounted in the container afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.bundle import Bundle
from tests.support.runtime import Container, Outcome


def entry(destination: str, kind: str, source: Path | str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": str(source), "options": list(options), **more}


def bind(source: Path | str, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    return entry(destination, "bind", source, "bind", *options, **more)


def tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return entry(destination, "tmpfs", "tmpfs", *options)


def maps(inside: int, host: int, size: int = 10) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": host, "size": size}]


def mounts(container: Container, what: str, *entries: dict[str, Any]) -> Outcome:
    file = container.runtime.temporary()
    file.write(json.dumps(entries).encode())
    file.seek(0)
    return container.runtime.verb("mounts", what, container.id, "-", stdin=file)


def add(container: Container, *entries: dict[str, Any]) -> Outcome:
    return mounts(container, "add", *entries)


def remove(container: Container, *entries: dict[str, Any]) -> Outcome:
    return mounts(container, "remove", *entries)


def table(container: Container) -> list[list[str]]:
    """The lines of the container's mountinfo, as words."""
    return [line.split() for line in Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()]


def points(container: Container) -> list[str]:
    return [words[4] for words in table(container)]


def line(container: Container, point: str) -> list[str]:
    return [words for words in table(container) if words[4] == point][-1]


def flags(container: Container, point: str) -> set[str]:
    return set(line(container, point)[5].split(","))


def inside(container: Container, path: str) -> Path:
    """A path in the container's mounts, seen from outside."""
    return Path(f"/proc/{container.pid}/root{path}")


def recorded(container: Container) -> list[str]:
    state = json.loads((container.runtime.root / container.id / "state.json").read_text())
    return [mount["destination"] for mount, _ in state["mounts"]]


def hostile(bundle: Bundle, *capabilities: str) -> Bundle:
    """Give the container's process capabilities of its user namespace."""
    names = [f"CAP_{name}" for name in capabilities]
    bundle.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    return bundle
