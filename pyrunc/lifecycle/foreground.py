"""Staying with a container in the foreground: signals forwarded, terminal relayed, its status returned."""

from __future__ import annotations

import os
import select

from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.console import RawTerminal, copy_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Final
else:
    import _signal  # `signal` costs 5 ms for its enumerations

#: Signals that cannot be caught, that report faults of this very process (SIGPIPE among them), ...: not forwarded.
_OWN: Final = {4, 5, 7, 8, 9, 11, 13, 19, 31}
_PIECE: Final = 1 << 16
_SIGINFO: Final = 128  # sizeof(struct signalfd_siginfo)


def block_signals() -> int:
    """Block every signal that is to be forwarded; the signalfd(2) on which they arrive from now on."""
    mask = {number for number in _signal.valid_signals() if number not in _OWN}
    _signal.pthread_sigmask(_signal.SIG_BLOCK, mask)
    bits = bytearray(8)
    for number in mask:
        bits[(number - 1) // 8] |= 1 << ((number - 1) % 8)
    return syscall("signalfd4", -1, bits, 8, os.O_CLOEXEC | os.O_NONBLOCK)


def adopt_size(master: int) -> None:
    """Give the container's pty the size of the caller's terminal, if that is one.

    After `block_signals`, so that no change of it is missed, and before the program starts, which would take
    this for a change.
    """
    if os.isatty(0):
        copy_size(0, master)


class _Relay:
    """Copies between the caller's stdio and the pty's master, without ever blocking on one side."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.to_pty = b""
        self.input_open = True
        os.set_blocking(master, False)

    def read_input(self) -> None:
        piece = os.read(0, _PIECE)
        if not piece:
            self.input_open = False
        self.to_pty += piece

    def write_pty(self) -> None:
        self.to_pty = self.to_pty[os.write(self.master, self.to_pty) :]

    def read_pty(self) -> bool:
        """Copy output; False at its end (EIO once every slave is closed)."""
        try:
            piece = os.read(self.master, _PIECE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        while piece:
            piece = piece[os.write(1, piece) :]
        return True


def attend(pid: int, pidfd: int, signals: int, master: int = -1) -> int:
    """Wait for the container's process `pid` and return its exit status, 128 + n after signal n.

    Forwards what arrives on `signals` (see `block_signals`), relays the terminal `master` if there is one, and
    reaps orphans that came to this process as their subreaper.
    """
    if master < 0:
        return _loop(pid, pidfd, signals, None)
    with RawTerminal(0):
        return _loop(pid, pidfd, signals, _Relay(master))


def _loop(pid: int, pidfd: int, signals: int, relay: _Relay | None) -> int:
    status: int | None = None
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        if relay is not None:
            _watch(poll, relay)
        for descriptor, events in poll.poll(None if status is None else 0):
            if descriptor == signals:
                _forward(signals, pidfd, relay)
            elif descriptor == pidfd:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                poll.unregister(pidfd)
            elif relay is not None and descriptor == relay.master:
                if events & select.POLLOUT:
                    relay.write_pty()
                if events & ~select.POLLOUT and not relay.read_pty():
                    poll.unregister(relay.master)
                    relay = None
            elif relay is not None:
                relay.read_input()
        _reap(pid)
        if status is not None:
            # What the process wrote before it ended is still in the pty.
            while relay is not None and select.select([relay.master], [], [], 0)[0] and relay.read_pty():
                pass
            return status if status >= 0 else 128 - status


def _watch(poll: select.poll, relay: _Relay) -> None:
    poll.register(relay.master, select.POLLIN | (select.POLLOUT if relay.to_pty else 0))
    if relay.input_open and len(relay.to_pty) < _PIECE:
        poll.register(0, select.POLLIN)
    else:
        try:
            poll.unregister(0)
        except KeyError:
            pass


def _forward(signals: int, pidfd: int, relay: _Relay | None) -> None:
    while True:
        try:
            information = os.read(signals, _SIGINFO)
        except BlockingIOError:
            return
        number = int.from_bytes(information[:4], "little")
        if number == _signal.SIGCHLD:
            continue
        if number == _signal.SIGWINCH and relay is not None:
            adopt_size(relay.master)
            continue
        try:
            syscall("pidfd_send_signal", pidfd, number, None, 0)
        except ProcessLookupError:
            return


def _reap(pid: int) -> None:
    """Collect orphans of the container; its own process is collected through the pidfd."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == pid:
            return
        os.waitpid(found.si_pid, 0)
