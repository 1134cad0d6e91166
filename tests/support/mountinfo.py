"""What is mounted in a container, as its mountinfo tells."""

from __future__ import annotations

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime


class Mount:
    """One line of mountinfo."""

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        words, tail = left.split(), right.split()
        self.root, self.point = words[3], words[4]
        self.options = set(words[5].split(","))
        self.tags = {word.split(":")[0] for word in words[6:]}
        self.type, self.source = tail[0], tail[1]
        self.data = set(tail[2].split(","))


def table(text: str) -> dict[str, Mount]:
    """The topmost mount on each mount point."""
    return {mount.point: mount for mount in map(Mount, text.splitlines())}


def mounts(runtime: Runtime, bundle: Bundle) -> dict[str, Mount]:
    """What is mounted in a container of this bundle."""
    return table(runtime.ask(bundle, "mounts")["mounts"])
