"""Reads the engines' configuration out of the documents: the lines under test are the lines a person copies."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.payload import REPOSITORY

PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "engines.md")

#: The path that the documents give the runtime (the default PREFIX of `make install`).
INSTALLED = "/usr/local/bin/pyrunc"

_BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """The fenced blocks that carry a name, by name: "```json daemon.json"."""
    return {name: text for page in PAGES for _, name, text in _BLOCK.findall(page.read_text())}


def block(name: str, runtime: Path) -> str:
    """One block, with the runtime at `runtime`."""
    return blocks()[name].replace(INSTALLED, str(runtime))


def runtime_class() -> dict[str, str]:
    """The RuntimeClass: the values of its YAML that stand at the left margin."""
    lines = [line.partition(": ") for line in blocks()["runtimeclass.yaml"].splitlines()]
    return {name: value for name, _, value in lines if value and not name.startswith(" ")}
