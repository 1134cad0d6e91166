"""The caller's side of a terminal: a console socket that receives the master, and a pty to run a program on."""

from __future__ import annotations

import array
import os
import select
import socket
import termios
import time
from pathlib import Path

from tests.support.patience import patient
from tests.support.payload import Testimony


class Master:
    """The master of a pseudo terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = ""

    def read(self, until: str = "", patience: float = 10) -> str:
        """Read until `until` has come, or the slave is closed; gives all text so far."""
        deadline = time.monotonic() + patient(patience)
        while not until or until not in self.text:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    more = os.read(self.fd, 65536)
                except OSError:  # EIO: no slave is open any more
                    break
                if not more:
                    break
                self.text += more.decode(errors="replace")
            assert time.monotonic() < deadline, f"{until!r} did not come; there is {self.text!r}"
        return self.text

    def answers(self) -> Testimony:
        """What the payload said until it ended."""
        return Testimony(self.read().replace("\r\n", "\n"))

    def write(self, text: str) -> None:
        """Type."""
        os.write(self.fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Change the window size."""
        termios.tcsetwinsize(self.fd, (rows, columns))

    def close(self) -> None:
        """Hang up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class ConsoleSocket:
    """Listens on a unix socket for the master that a runtime sends (`--console-socket`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = b""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._masters: list[Master] = []

    def __enter__(self) -> ConsoleSocket:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._listener.settimeout(10)
        return self

    def receive(self) -> Master:
        """The master; asserts one message with one descriptor and a name shorter than 4096 bytes."""
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(10)
            self.name, ancillary, flags, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16))
            assert not flags & socket.MSG_CTRUNC
            ((level, kind, data),) = ancillary
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            (fd,) = array.array("i", data)
            assert self.name
        master = Master(fd)
        self._masters.append(master)
        return master

    def __exit__(self, *exception: object) -> None:
        for master in self._masters:
            master.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)
