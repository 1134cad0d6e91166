"""Containers that count, so that one sees whether they go on where they were, and what such tests need around them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Container, Runtime, wait_for

COUNTER = "n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done"


def beside(runtime: Runtime) -> Path:
    """A folder outside of what the footprint looks at, for images and what the containers write."""
    path = runtime.folder.with_name(f"{runtime.folder.name}-beside")
    path.mkdir(exist_ok=True)
    return path


class Named(Container):
    """A container whose stdout and stderr are files with a name: criu opens them anew, and checks their size."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        super().__init__(runtime, bundle, runtime.new_id())
        names = [beside(runtime) / f"{self.id}-{name}" for name in ("out", "err")]
        self._out, self._err = (open(name, "a+b", buffering=0) for name in names)
        runtime._files += [self._out, self._err]
        for name in names:
            name.chmod(0o666)  # opened anew by the root of the container's user namespace

    def truncate(self, length: int = 0) -> None:
        """Cut off of stderr what the runtime itself has written there since."""
        os.ftruncate(self._err.fileno(), length)


def ticks(container: Container) -> list[int]:
    """The numbers that the container has said so far."""
    return [int(line.split()[1]) for line in container.out.splitlines() if line.startswith("tick ")]


def goes_on(container: Container) -> None:
    """Wait until it has counted some further, and see that it has left none out and begun none again."""
    before = len(ticks(container))
    wait_for(
        lambda: len(ticks(container)) > before + 3, say=f"more ticks ({container.out!r} {container.err!r})"
    )
    assert ticks(container) == list(range(1, len(ticks(container)) + 1))


def started(runtime: Runtime, bundle: Bundle, said: str = "tick 3\n") -> Named:
    """A container that has said so much."""
    container = Named(runtime, bundle)
    container.create().ok()
    container.start().ok()
    container.says(said)
    return container


def counting(runtime: Runtime, bundle: Bundle | None = None) -> Named:
    """A container that counts."""
    return started(runtime, (bundle or runtime.bundle()).shell(COUNTER))


def mounted(pid: int) -> list[tuple[str, str, bool]]:
    """(mount point, type, read-only) of what a process sees."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        own, _, rest = line.partition(" - ")
        words = own.split()
        found.append((words[4], rest.split()[0], "ro" in words[5].split(",")))
    return sorted(found)


def process_of(pid: int) -> str:
    """What tells one process from all others."""
    entry = footprint.stat_of(pid)
    return f"{pid} {entry[3]}" if entry else ""
