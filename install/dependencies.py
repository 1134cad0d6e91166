"""Reads pyproject.toml: which Python packages pyrunc needs to run, to be built, to be tested.

`dependencies.py run build test` prints the requirements of these kinds for pip, one a line. pyproject.toml is the one
place where they are listed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def _project() -> dict[str, Any]:
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))


def run_time() -> list[str]:
    """What the installed pyrunc imports."""
    return list(_project()["project"]["dependencies"])


def build() -> list[str]:
    """What the build needs."""
    return list(_project()["build-system"]["requires"])


def test() -> list[str]:
    """What `make test` needs."""
    return list(_project()["project"]["optional-dependencies"]["test"])


if __name__ == "__main__":
    kinds = {"run": run_time, "build": build, "test": test}
    print("\n".join(line for kind in sys.argv[1:] for line in kinds[kind]()))
