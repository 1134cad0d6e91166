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
        self.command = command
        self.env = env
        self._start()

    def _start(self) -> None:
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        footprint.own_children.add(self.process.pid)

    def wait_until(self, ready: Callable[[], bool], patience: float = 60) -> None:
        """Wait until `ready()`; a daemon that ends before is an error with its last words."""

        def ready_or_dead() -> bool:
            footprint.reap()  # a dead child of its predecessor, which it takes for alive
            dead = self.process.poll() is not None
            assert not dead, f"{self.command} ended:\n{self.last_words()}"
            return ready()

        wait_for(ready_or_dead, patience, f"readiness of {self.command[0]}")

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it this signal, and SIGKILL if that does not help; what it has started lives on."""
        os.kill(self.process.pid, number)
        try:
            self.process.wait(patient(20))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        footprint.own_children.discard(self.process.pid)

    def start_again(self) -> None:
        """Start it once more after `end`."""
        assert self.process.poll() is not None, "it is still running"
        self._start()

    def stop(self) -> None:
        """End it, and its children, which are left to us."""
        children = set(footprint.descendants(self.process.pid))
        self.end()
        footprint.end(children)
