"""A datagram socket to a daemon of the host that keeps logs."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM
from _socket import socket as Socket

from pyrunc.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: Priorities of syslog(3) by level.
PRIORITIES: Final = {"error": 3, "warning": 4, "debug": 7}
#: Seconds, of all entries together. A daemon that hangs with a full queue costs them, and must not hold a container up.
PATIENCE: Final = 1.0


def connect(path: str) -> Socket:
    """A socket to the daemon that listens at `path`. Raises KernelError where there is none."""
    socket = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        socket.settimeout(PATIENCE)
        socket.connect(path)
    except OSError as error:
        socket.close()
        raise KernelError.of(
            f"connect to the log at {path}", error, remedy="is its daemon running? --log FILE needs none"
        ) from None
    return socket


def send(socket: Socket, raw: bytes, *ancillary: Any) -> None:
    """Send a datagram. Raises OSError; once that was for lack of time, no further one is waited for."""
    try:
        socket.sendmsg([raw], ancillary)
    except TimeoutError:
        socket.settimeout(0)
        raise
