"""Staying with a container in the foreground: signals forwarded, terminal relayed, its status returned."""

from __future__ import annotations

import os
import select
from errno import EIO, EPIPE
from stat import S_ISFIFO

from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.console import RawTerminal, copy_size
from pyrunc.linux.signals import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Final

    from pyrunc.lifecycle.notify import Proxy
else:
    import _signal  # `signal` costs 5 ms for its enumerations

#: Signals that cannot be caught, that report faults of this very process (SIGPIPE among them), ...: not forwarded.
_OWN: Final = {4, 5, 7, 8, 9, 11, 13, 19, 31}
_ENDING: Final = {1, 2, 3, 15}
_PIECE: Final = 1 << 16
_WRITTEN: Final = 4096  # PIPE_BUF: what a pipe that poll(2) calls writable takes without blocking
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
    """Copies between the caller's stdio and the pty's master, without ever blocking on one side.

    A side that fails is closed for good, and the other one goes on: whatever becomes of the caller's stdio,
    the container is attended to its end.
    """

    def __init__(self, master: int) -> None:
        self.master = master
        self.output = _own_output()
        self.to_pty = b""
        self.to_output = b""
        self.input_open = True
        self.pty_open = True
        os.set_blocking(master, False)

    def wanted(self) -> dict[int, int]:
        """What to wait for, by descriptor. poll(2) always tells of an end, so what is closed is left out."""
        wanted = {}
        if self.input_open and len(self.to_pty) < _PIECE:
            wanted[0] = select.POLLIN
        if self.to_output:
            wanted[self.output] = select.POLLOUT
        events = select.POLLIN if self.pty_open and len(self.to_output) < _PIECE else 0
        if self.to_pty:
            events |= select.POLLOUT
        if events:
            wanted[self.master] = events
        return wanted

    def serve(self, ready: dict[int, int]) -> None:
        """Copy what can be copied now."""
        if 0 in ready:
            self._read_input()
        if self.output in ready:
            self._write_output()
        events = ready.get(self.master, 0)
        if events & select.POLLOUT:
            self._write_pty()
        if events & ~select.POLLOUT:
            self._read_pty()

    def lose_output(self) -> None:
        """Nobody reads the output any more: hang up, as when the window of a terminal is closed.

        The program gets SIGHUP from the kernel, and EIO where it writes on (pty(7)).
        """
        self.to_pty = self.to_output = b""
        self.input_open = self.pty_open = False
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _read_input(self) -> None:
        try:
            piece = os.read(0, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""  # EIO: the terminal has gone, or belongs to another job
        self.input_open = bool(piece)
        self.to_pty += piece

    def _write_pty(self) -> None:
        try:
            self.to_pty = self.to_pty[os.write(self.master, self.to_pty) :]
        except BlockingIOError:
            pass
        except OSError:  # EIO: no slave is open
            self.to_pty, self.input_open = b"", False

    def _read_pty(self) -> None:
        try:
            self.to_output += os.read(self.master, _PIECE)
        except BlockingIOError:
            pass
        except OSError:  # EIO: every slave is closed
            self.pty_open = self.input_open = False
            self.to_pty = b""

    def _write_output(self) -> None:
        try:
            self.to_output = self.to_output[os.write(self.output, self.to_output[:_WRITTEN]) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (EPIPE, EIO):
                self.lose_output()
            else:
                self.to_output = b""  # a full disk: this is lost, what comes may find room


def _own_output() -> int:
    """A descriptor of stdout that does not block.

    Opened anew, as O_NONBLOCK on the given one would be felt by all who share it. Where that cannot be (sockets)
    poll(2) is trusted that a small write finds room; files never block.
    """
    try:
        if os.isatty(1) or S_ISFIFO(os.fstat(1).st_mode):
            return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        pass  # not ours to open, or its reader has gone already: writing will tell
    return 1


def attend(pid: int, pidfd: int, signals: int, master: int = -1, proxy: Proxy | None = None) -> int:
    """Wait for the container's process `pid` and return its exit status, 128 + n after signal n.

    Forwards what arrives on `signals` (see `block_signals`), relays the terminal `master` if there is one, and
    reaps orphans that came to this process as their subreaper. `proxy` passes on what the container tells the
    service manager.
    """
    if master < 0:
        return _loop(pid, pidfd, signals, None, proxy)
    with RawTerminal(0):
        return _loop(pid, pidfd, signals, _Relay(master), proxy)


def _loop(pid: int, pidfd: int, signals: int, relay: _Relay | None, proxy: Proxy | None) -> int:
    status: int | None = None
    while True:
        ended = status is not None
        wanted = {signals: select.POLLIN}
        if not ended:
            wanted[pidfd] = select.POLLIN
        if relay is not None:
            wanted |= relay.wanted()
        if proxy is not None:
            wanted |= proxy.wanted()
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        pending = relay is not None and relay.to_output
        patience = None if proxy is None else proxy.patience()
        ready = dict(poll.poll(0 if ended and not pending else patience))
        if signals in ready and not _forward(signals, pidfd, relay) and relay is not None:
            relay.lose_output()  # only output that nobody takes was left; whoever waits for its end waits for this
        if pidfd in ready:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if relay is not None:
            relay.serve(ready)
        if proxy is not None:
            proxy.serve(ready)
        _reap(pid)
        # What the process wrote before it ended is still in the pty: until that is empty, and all is written.
        if ended and (relay is None or not (relay.to_output or relay.master in ready)):
            assert status is not None
            if proxy is not None:
                proxy.drain()
                proxy.close()
            return status if status >= 0 else 128 - status


def _forward(signals: int, pidfd: int, relay: _Relay | None) -> bool:
    """Forward what has arrived; False where it was to end the container's process, which has ended."""
    while True:
        try:
            information = os.read(signals, _SIGINFO)
        except BlockingIOError:
            return True
        number = int.from_bytes(information[:4], "little")
        if number == _signal.SIGCHLD:
            continue
        if number == _signal.SIGWINCH and relay is not None:
            if relay.master >= 0:
                adopt_size(relay.master)
            continue
        try:
            send(pidfd, number)
        except ProcessLookupError:
            if number in _ENDING:
                return False


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
