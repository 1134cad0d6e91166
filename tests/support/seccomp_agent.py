"""A real seccomp agent (seccomp_unotify(2)): a process that gets listeners over a socket and decides system calls."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyrunc.kernel.numbers import SYSCALLS
from tests.support import footprint

# linux/seccomp.h
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
CONTINUE = 1
NOTIF = "<QIIiIQ6Q"

NAMES = {number: name for name, number in SYSCALLS.items()}


class Agent:
    """What the agent process has heard, and the socket on which it listens.

    `refuse`: system call → the errno that it gets; every other call goes on. `manner`: "serve"; "close": ends each
    connection at once, reading nothing; "leave": ends as soon as it has a listener; "hold": answers from SIGUSR1 on.
    """

    def __init__(self, path: Path, refuse: dict[str, int], manner: str = "serve") -> None:
        self.path = path
        self.refuse = refuse
        self.manner = manner
        self.log = path.with_suffix(".log")
        self.log.touch()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        path.chmod(0o666)
        self.socket.listen(4)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                self._work()
                status = 0
            finally:
                os._exit(status)
        footprint.own_children.add(self.pid)
        self.socket.close()

    def end(self) -> None:
        """Kill it."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(self.pid, 0)
            footprint.own_children.discard(self.pid)
            self.pid = 0

    def _entries(self, kind: str) -> list[Any]:
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [entry[kind] for entry in entries if kind in entry]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Each connection: `text` up to its end, `fds` in each recvmsg(2)."""
        return self._entries("message")

    @property
    def state(self) -> dict[str, Any]:
        """The container process state, of which exactly one has come, with one descriptor beside its first byte."""
        (message,) = self.messages
        assert message["fds"][0] == 1 and sum(message["fds"]) == 1
        state: dict[str, Any] = json.loads(message["text"])
        return state

    @property
    def calls(self) -> list[str]:
        """The system calls of which it was notified, in order."""
        return self._entries("call")

    # -- in the process --------------------------------------------------------------------------------

    def _work(self) -> None:
        listeners: list[int] = []
        signal.signal(signal.SIGUSR1, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.socket.fileno(), *listeners], [], [])
            for what in ready:
                if what == self.socket.fileno():
                    listeners += self._accept()
                    if listeners and self.manner == "leave":
                        return
                    if self.manner == "hold":
                        signal.pause()
                elif not self._decide(what):
                    listeners.remove(what)
                    os.close(what)

    def _accept(self) -> list[int]:
        connection, _ = self.socket.accept()
        if self.manner == "close":
            connection.close()
            return []
        text, counts, listeners = b"", [], []
        while True:
            piece, fds, _, _ = socket.recv_fds(connection, 1 << 16, 8)
            counts.append(len(fds))
            listeners += fds
            text += piece
            if not piece:
                break
        connection.close()
        self._write({"message": {"text": text.decode(), "fds": counts}})
        return listeners

    def _decide(self, listener: int) -> bool:
        """Answer one notification; False if there is nobody left to ask."""
        notification = bytearray(struct.calcsize(NOTIF))
        try:
            fcntl.ioctl(listener, NOTIF_RECV, notification)
        except OSError as error:
            return error.errno == errno.EINTR
        cookie, _, _, number, *_ = struct.unpack(NOTIF, notification)
        name = NAMES.get(number, f"call{number}")
        self._write({"call": name})
        refusal = self.refuse.get(name)
        answer = struct.pack("<QqiI", cookie, 0, -refusal if refusal else 0, 0 if refusal else CONTINUE)
        try:
            fcntl.ioctl(listener, NOTIF_SEND, bytearray(answer))
        except FileNotFoundError:
            pass  # whoever asked has been killed
        return True

    def _write(self, entry: dict[str, Any]) -> None:
        with self.log.open("a") as log:
            log.write(json.dumps(entry) + "\n")


@contextmanager
def agent(path: Path, manner: str = "serve", **refuse: int) -> Iterator[Agent]:
    """An agent that listens at `path` and ends with the block."""
    made = Agent(path, refuse, manner)
    try:
        yield made
    finally:
        made.end()
