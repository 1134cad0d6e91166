"""Reads the configuration out of docs/engines.md: the lines under test are the lines a person copies."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.payload import REPOSITORY

PAGE = REPOSITORY / "docs" / "engines.md"

#: The path that the page gives the runtime (the default PREFIX of `make install`).
INSTALLED = "/usr/local/bin/pyrunc"

_BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """The fenced blocks of the page that carry a name, by name: "```json daemon.json"."""
    return {name: text for _, name, text in _BLOCK.findall(PAGE.read_text())}


def block(name: str, runtime: Path) -> str:
    """One block, with the runtime at `runtime`."""
    return blocks()[name].replace(INSTALLED, str(runtime))
