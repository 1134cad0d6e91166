"""A service manager's end of sd_notify(3): a real datagram socket that hears what a unit would say to systemd."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path
from types import TracebackType

from pyrunc.kernel.constants import CLONE_NEWNET


def _socket(in_new_network: bool) -> socket.socket:
    """A datagram socket; in a new network namespace its queue has ten places, systemd gives its host's 512."""
    made: list[socket.socket] = []

    def make() -> None:
        if in_new_network:
            assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
        made.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))

    thread = threading.Thread(target=make)  # only this thread leaves the host's network, and ends
    thread.start()
    thread.join()
    return made[0]


class ServiceManager:
    """Listens on `address`, a path or `@` and an abstract name.

    As systemd it closes the descriptors it is sent, unless `keeps`: then they stay open until the end.
    """

    def __init__(self, address: Path | str, keeps: bool = False) -> None:
        self.name = str(address)
        self.keeps = keeps
        #: (pid of the sender, text, how many descriptors came with it), in the order of arrival.
        self.heard: list[tuple[int, str, int]] = []
        self._kept: list[int] = []
        self._socket = _socket(in_new_network=not self.name.startswith("@") and os.geteuid() == 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + self.name[1:] if self.name.startswith("@") else self.name)

    @property
    def env(self) -> dict[str, str]:
        """What systemd adds to a unit's environment."""
        return {"NOTIFY_SOCKET": self.name}

    @property
    def texts(self) -> list[str]:
        """What was said, without barriers."""
        return [text for _, text, _ in self.heard if text != "BARRIER=1"]

    def lines(self) -> list[str]:
        """What was said, line by line, without barriers."""
        return [line for text in self.texts for line in text.splitlines()]

    def hear(self, patience: float = 0.0) -> bool:
        """Take one message; False if none came within `patience` seconds."""
        if not select.select([self._socket], [], [], patience)[0]:
            return False
        data, control, _, _ = self._socket.recvmsg(65536, 4096)
        sender = 0
        descriptors: list[int] = []
        for _, kind, raw in control:
            if kind == socket.SCM_CREDENTIALS:
                sender = struct.unpack("iII", raw)[0]
            elif kind == socket.SCM_RIGHTS:
                descriptors += struct.unpack(f"{len(raw) // 4}i", raw)
        self.heard.append((sender, data.decode(), len(descriptors)))
        if self.keeps:
            self._kept += descriptors
        else:
            self._close(descriptors)
        return True

    def hear_all(self) -> None:
        """Take what has arrived."""
        while self.hear():
            pass

    def hears(self, line: str, patience: float = 10.0) -> None:
        """Take messages until one has this line."""
        deadline = time.monotonic() + patience
        while line not in self.lines():
            left = deadline - time.monotonic()
            assert left > 0, f"{line!r} was not heard within {patience} s: {self.heard}"
            self.hear(left)

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._kept)
        self._socket.close()
        if not self.name.startswith("@"):
            os.unlink(self.name)

    @staticmethod
    def _close(descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
