"""A daemon of the tests: started with its log in the scratch folder, waited for, stopped by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support import footprint
from tests.support.patience import patient
from tests.support.runtime import wait_for


class Daemon:
    """A process in the background that has to be ready before it is used."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        footprint.own_children.add(self.process.pid)
        self.command = command

    def wait_until(self, ready: Callable[[], bool], patience: float = 60) -> None:
        """Wait until `ready()`; a daemon that ends before is an error with its last words."""

        def ready_or_dead() -> bool:
            dead = self.process.poll() is not None
            assert not dead, f"{self.command} ended:\n{self.last_words()}"
            return ready()

        wait_for(ready_or_dead, patience, f"readiness of {self.command[0]}")

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help; its children, left to us, are ended too."""
        children = set(footprint.descendants(self.process.pid))
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(patient(20))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        footprint.own_children.discard(self.process.pid)
        footprint.end(children)
