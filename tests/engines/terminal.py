"""A person at a terminal: starts a command on a pseudo terminal, reads, waits for words, types."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

from tests.support import footprint
from tests.support.patience import patient
from tests.support.runtime import Outcome


class Terminal:
    """A command running on a terminal of 37 rows and 91 columns."""

    rows, columns = 37, 91

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self.command = command
        self._master, slave = os.openpty()
        self.resize(self.rows, self.columns)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd=cwd,
        )
        footprint.own_children.add(self.process.pid)
        os.close(slave)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, patience: float) -> bool:
        """Read once; False when the other side is closed or nothing came."""
        if not select.select([self._master], [], [], max(0.0, patience))[0]:
            return False
        try:
            raw = os.read(self._master, 65536)
        except OSError:  # EIO: the last user of the terminal is gone
            return False
        self.seen += raw.decode(errors="replace")
        return bool(raw)

    def until(self, text: str, patience: float = 20) -> None:
        """Read until `text` has been seen."""
        deadline = time.monotonic() + patient(patience)
        while text not in self.seen:
            alive = self._read(deadline - time.monotonic())
            assert alive or text in self.seen, f"{text!r} did not come:\n{self.command}\n{self.seen}"

    def type(self, text: str) -> None:
        """Type, and forget what has been seen so far."""
        self.seen = ""
        os.write(self._master, text.encode())

    def end(self, patience: float = 20) -> Outcome:
        """Read to the end and wait for it."""
        deadline = time.monotonic() + patient(patience)
        while self._read(deadline - time.monotonic()):
            pass
        try:
            status = self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = -1
        footprint.own_children.discard(self.process.pid)
        os.close(self._master)
        outcome = Outcome(self.command, status, self.seen, "")
        assert status != -1, f"no end after {patience} s: {outcome!r}"
        return outcome


def size_arrives(shell: Terminal, rows: int, columns: int) -> None:
    """The client tells the size of its window some time after the start, and after each change that it sees."""
    for _ in range(50):
        shell.resize(rows, columns + 1)
        shell.resize(rows, columns)
        shell.type("testify tty\n")
        shell.until('"ask":"tty"')
        shell.until("# ")
        if f'"size":[{rows},{columns}]' in shell.seen:
            return
        time.sleep(0.1)
    raise AssertionError(f"the size does not arrive: {shell.seen}")
