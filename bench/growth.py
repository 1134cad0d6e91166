"""How the cost grows: with the mounts of a container, with the containers that exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.contenders import Contender, turns

_ROUNDS_MOUNTS = {10: 15, 100: 10}  # and 5 where there are more mounts
_ROUNDS_CONTAINERS = 10

Measured = dict[str, dict[str, list[float]]]


def with_mounts(field: list[Contender], counts: list[int]) -> dict[int, Measured]:
    """Seconds of `create` with so many more bind mounts, by count, contender and verb."""
    found: dict[int, Measured] = {}
    for contender in field:  # crun holds a descriptor per mount, under the limit of the container
        contender.bundle.config["process"]["rlimits"] = [
            {"type": "RLIMIT_NOFILE", "soft": 8192, "hard": 8192}
        ]
    source = field[0].bundle.path
    for count in counts:
        rootfs = Path(field[0].bundle.config["root"]["path"])
        for number in range(count):
            (rootfs / "mnt" / str(number)).mkdir(exist_ok=True)
        binds = [
            {
                "destination": f"/mnt/{number}",
                "type": "bind",
                "source": str(source),
                "options": ["bind", "ro", "nosuid"],
            }
            for number in range(count)
        ]
        found[count] = {contender.name: {"create": []} for contender in field}
        for _, contender in turns(field, _ROUNDS_MOUNTS.get(count, 5)):
            mounts = contender.bundle.config["mounts"]
            contender.bundle.config["mounts"] = mounts + binds
            id = contender.new_id()
            try:
                found[count][contender.name]["create"].append(contender.create(id))
            finally:
                contender.bundle.config["mounts"] = mounts
            contender.delete(id)
    return found


def with_containers(field: list[Contender], counts: list[int]) -> Iterator[tuple[int, Measured]]:
    """Seconds of `list` and `create` beside so many waiting containers, by contender and verb."""
    waiting: dict[str, list[str]] = {contender.name: [] for contender in field}
    for count in counts:
        for contender in field:
            while len(waiting[contender.name]) < count:
                id = contender.new_id()
                contender.create(id)
                waiting[contender.name].append(id)
        found: Measured = {contender.name: {"list": [], "create": []} for contender in field}
        for number, contender in turns(field, _ROUNDS_CONTAINERS + 1):
            listing = contender.must("list")
            id = contender.new_id()
            creating = contender.create(id)
            contender.delete(id)
            if number:
                found[contender.name]["list"].append(listing)
                found[contender.name]["create"].append(creating)
        yield count, found
