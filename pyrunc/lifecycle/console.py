"""The runtime's side of a terminal: handing the pty's master to somebody, or relaying it in the foreground."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket
from struct import pack

from pyrunc.errors import KernelError


def send_descriptor(path: str, descriptor: int, name: str, what: str) -> None:
    """Send `descriptor` with the payload `name` over the unix stream socket at `path`, as one message.

    This is the protocol of --console-socket and --pidfd-socket (containerd/console, go-runc). `what` names
    the descriptor in errors. Raises KernelError.
    """
    with_socket = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        with_socket.connect(path)
        with_socket.sendmsg([name.encode()], [(SOL_SOCKET, SCM_RIGHTS, pack("<i", descriptor))])
    except OSError as error:
        raise KernelError.of(
            f"send the {what} to {path}", error, remedy="is somebody listening there?"
        ) from error
    finally:
        with_socket.close()


def window_size(terminal: int) -> bytes:
    """The struct winsize of a terminal, for TIOCSWINSZ."""
    from fcntl import ioctl
    from termios import TIOCGWINSZ

    return ioctl(terminal, TIOCGWINSZ, bytes(8))


def copy_size(source: int, target: int) -> None:
    """Give the pty `target` the window size of the terminal `source`."""
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    ioctl(target, TIOCSWINSZ, window_size(source))


class RawTerminal:
    """The caller's terminal in raw mode while the container's pty is relayed; restored on exit."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before: list[object] | None = None

    def __enter__(self) -> RawTerminal:
        if os.isatty(self.descriptor):
            import termios

            mode = termios.tcgetattr(self.descriptor)
            self._before = list(mode)
            # As cfmakeraw of termios(3) does.
            mode[0] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            mode[1] &= ~termios.OPOST
            mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
            mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            try:
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]
            except termios.error:
                pass  # EIO: hung up meanwhile, so there is nothing left to restore
