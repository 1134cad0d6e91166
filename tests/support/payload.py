"""Builds the static program of `tests/payload` that testifies from inside a container, and reads what it says."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "tests" / "payload" / "testify.c"
BUILD = REPOSITORY / "build" / "tests"


def testify() -> Path:
    """The path of the built payload; compiled once per content of its source."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    built = BUILD / f"testify-{digest}"
    if built.exists():
        return built
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "testify.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            fresh = built.with_suffix(".new")
            command = ["cc", "-O1", "-static", "-Wall", "-Wextra", "-o", str(fresh), str(SOURCE)]
            subprocess.run(command, check=True, timeout=120)
            os.rename(fresh, built)
    return built


def busybox() -> Path:
    """The host's static busybox."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return Path(path)
    raise FileNotFoundError("busybox-static is not installed")


class Testimony(dict[str, Any]):
    """What the payload answered, by question: `testimony["stat /dev/null"]["mode"]`.

    `said` holds every (question, answer) in order, for questions that were answered more than once.
    """

    __test__ = False  # pytest takes the name for that of a test class

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[tuple[str, Any]] = []
        for line in text.splitlines():
            if line.startswith('{"ask":'):
                entry = json.loads(line)
                self.said.append((entry["ask"], entry["answer"]))
                self[entry["ask"]] = entry["answer"]

    def __missing__(self, question: str) -> Any:
        raise KeyError(f"the payload did not answer {question!r}; it answered {list(self)}")
