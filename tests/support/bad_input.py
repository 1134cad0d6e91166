"""What the tests of bad input spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.bundle import Bundle
from tests.support.runtime import Outcome, Runtime


class Case:
    """What a case works on."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.bundle: Bundle = runtime.bundle().ask("pid")
        self.folder: Path = runtime.folder
        self.rootfs: Path = self.bundle.rootfs
        self.config: dict[str, Any] = self.bundle.config

    def create(self, *flags: str, **how: Any) -> Outcome:
        """`create` of the spoiled bundle."""
        id = self.runtime.new_id()
        return self.runtime.verb("create", "--bundle", self.runtime.put(self.bundle, id), *flags, id, **how)

    def put(self, path: str, text: str, mode: int = 0o755) -> None:
        """Make a file of the image."""
        place = self.rootfs / path
        place.write_text(text)
        place.chmod(mode)

    def program(self, *args: str) -> None:
        """Run this in the container."""
        self.bundle.process["args"] = list(args)
