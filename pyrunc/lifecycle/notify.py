"""The host's end of sd_notify(3): what the container says on its socket is passed on to NOTIFY_SOCKET.

`run` in the foreground does so for the container's whole life. It stays the unit's main process, for it passes
signals on to the container and ends with its status: a MAINPID of the container becomes the runtime's own pid.

`start` and `run --detach` do so until the container is ready or has ended. They then name the container's process
as MAINPID, wait until the manager has heard it (BARRIER), and return, as runc does: nothing stays behind. What the
container says later nobody hears; keep-alive messages (WatchdogSec=) therefore need `run` in the foreground.

A container must not use up the host's time with this: so many messages a second are read, the rest waits in the
socket, and the container with it. Descriptors are only received with a BARRIER, one of them, and never passed on:
the manager gets a pipe of the runtime's, at whose hang-up the container's descriptor is let go.
"""

from __future__ import annotations

import os
import select
import time
from _socket import (
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_PEEK,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOL_SOCKET,
)
from _socket import socket as Socket
from errno import ECONNREFUSED, ENOTCONN
from struct import pack, unpack

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.procfs import pids_of
from pyrunc.lifecycle.notify_message import BARRIER, MESSAGE_MAX, is_barrier, understand
from pyrunc.linux.notify_socket import SOCKET
from pyrunc.store.store import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.log import Log
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory

#: Messages of the container that are read in a second.
RATE: Final = 64
#: How many of the container's barriers wait at once; the oldest is let go for one more.
BARRIERS_MAX: Final = 16
#: Seconds that the manager may take for the last barrier (runc's and sd_notify_barrier's usual time).
PATIENCE: Final = 30.0
#: sizeof(sockaddr_un.sun_path), less the NUL.
_ADDRESS_MAX: Final = 107
#: CMSG_LEN of one descriptor: the kernel drops any more that come with it.
_ONE_DESCRIPTOR: Final = 20
#: Processes of the container that are looked at for a MAINPID.
_PROCESSES_MAX: Final = 4096


def address_of(text: str) -> bytes:
    """The socket address that NOTIFY_SOCKET names: an absolute path, or `@` and an abstract name (unix(7)).

    Raises PyruncError where it is neither.
    """
    raw = os.fsencode(text)
    if raw[:1] not in (b"/", b"@") or not 2 <= len(raw) <= _ADDRESS_MAX:
        raise PyruncError(
            f"NOTIFY_SOCKET={text} names no unix socket",
            remedy="it is an absolute path or an abstract name with a leading @; unset it to go without",
            code="usage",
        )
    return b"\0" + raw[1:] if raw[:1] == b"@" else raw


def make_directory(directory: Directory) -> None:
    """Make the directory that the container is going to see, in its state directory."""
    os.mkdir(NOTIFY, 0o755, dir_fd=directory.fd)
    os.chmod(NOTIFY, 0o755, dir_fd=directory.fd)  # what the umask took


def open_proxy(directory: Directory, record: Record, log: Log, *, foreground: bool) -> Proxy | None:
    """The proxy for a container that is about to be started; None where there is nobody to speak to, or no way.

    Raises KernelError if the manager's socket cannot be reached.
    """
    text = os.environ.get("NOTIFY_SOCKET")
    if not text or not directory.has(NOTIFY):
        return None
    host = _Manager(address_of(text), text, log)
    try:
        return Proxy(_listen(directory), host, record, foreground)
    except BaseException:
        host.close()
        raise


def _listen(directory: Directory) -> Socket:
    folder = os.open(NOTIFY, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
    socket = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    # Whatever user the container has. The state directory is closed to everybody else.
    mask = os.umask(0)
    try:
        try:
            os.unlink(SOCKET, dir_fd=folder)  # of a `start` that failed
        except FileNotFoundError:
            pass
        socket.bind(f"/proc/self/fd/{folder}/{SOCKET}")  # a name that is short enough
        socket.setblocking(False)
    except OSError as error:
        socket.close()
        raise KernelError.of("make the container's notify socket", error) from None
    finally:
        os.umask(mask)
        os.close(folder)
    return socket


class _Manager:
    """The service manager's socket. What it has no room for waits here, so that the runtime never blocks on it."""

    __slots__ = ("_address", "_log", "_name", "_queue", "_socket", "_warned")

    def __init__(self, address: bytes, name: str, log: Log) -> None:
        self._address = address
        self._name = name
        self._log = log
        self._queue: list[tuple[bytes, int]] = []
        self._warned = False
        self._socket = Socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        self._socket.setblocking(False)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise KernelError.of(
                f"connect to NOTIFY_SOCKET={name}",
                error,
                remedy="unset it if no service manager listens there",
            ) from None

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something could not be sent yet."""
        return bool(self._queue)

    def tell(self, text: bytes, descriptor: int = -1) -> None:
        """Send `text` after all before it, with `descriptor`, which is closed here then."""
        self._queue.append((text, descriptor))
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        while self._queue:
            text, descriptor = self._queue[0]
            try:
                self._send(text, descriptor)
            except BlockingIOError:
                return
            except OSError as error:
                if not self._warned:
                    self._warned = True
                    self._log.warning(str(KernelError.of(f"notify {self._name}", error)))
            del self._queue[0]
            if descriptor >= 0:
                os.close(descriptor)

    def _send(self, text: bytes, descriptor: int) -> None:
        rights = [(SOL_SOCKET, SCM_RIGHTS, pack("<i", descriptor))] if descriptor >= 0 else []
        try:
            self._socket.sendmsg([text], rights)
        except OSError as error:
            if error.errno not in (ECONNREFUSED, ENOTCONN):
                raise
            self._socket.connect(self._address)  # the manager was started anew
            self._socket.sendmsg([text], rights)

    def close(self) -> None:
        for _, descriptor in self._queue:
            if descriptor >= 0:
                os.close(descriptor)
        self._queue.clear()
        self._socket.close()


class Proxy:
    """One container's socket and the manager's. `ready`: the container has said so, and it was passed on."""

    def __init__(self, socket: Socket, host: _Manager, record: Record, foreground: bool) -> None:
        self.ready = False
        self._socket = socket
        self._host = host
        self._record = record
        self._foreground = foreground
        # From the end of a pipe whose other end the manager has to the container's descriptor.
        self._barriers: dict[int, int] = {}
        self._window = 0.0
        self._read = 0
        self._offset = _monotonic_offset(record.pid)  # now: of a process that has ended nobody can tell

    def wanted(self) -> dict[int, int]:
        """What to wait for, by descriptor (poll(2))."""
        wanted = dict.fromkeys(self._barriers, 0)  # POLLHUP is always told
        if self._host.waiting:
            wanted[self._host.fileno()] = select.POLLOUT
        elif self._may_read():
            wanted[self._socket.fileno()] = select.POLLIN
        return wanted

    def patience(self) -> float | None:
        """Milliseconds after which `wanted` may be more, None if that is up to events."""
        if self._host.waiting or self._may_read():
            return None
        return max(1.0, (self._window + 1 - time.monotonic()) * 1000)

    def serve(self, ready: dict[int, int]) -> None:
        """Pass on what can be passed on now. Never blocks."""
        for pipe in [pipe for pipe in self._barriers if pipe in ready]:
            self._let_go(pipe)
        if self._host.waiting:
            self._host.flush()
        if self._socket.fileno() in ready:
            while not self._host.waiting and self._may_read() and self._pass_on():
                pass

    def drain(self) -> None:
        """Pass on what the container has said last, before its end; at most a second's worth, in that time."""
        self._window, self._read = time.monotonic(), 0
        deadline = self._window + 1
        while True:
            self.serve({self._socket.fileno(): select.POLLIN})
            left = deadline - time.monotonic()
            if not self._host.waiting or left <= 0:
                return
            _poll({self._host.fileno(): select.POLLOUT}, left * 1000)

    def close(self) -> None:
        """Let everything go."""
        for pipe in list(self._barriers):
            self._let_go(pipe)
        self._socket.close()
        self._host.close()

    def until_ready(self, pidfd: int) -> None:
        """Pass on until the container is ready, or the process of `pidfd` has ended; then close.

        Returns when the manager has heard it all, or has not in `PATIENCE` seconds.
        """
        try:
            while not self.ready:
                ready = _poll({**self.wanted(), pidfd: select.POLLIN}, self.patience())
                self.serve(ready)
                if pidfd in ready:
                    self.drain()
                    break
            self._settle()
        finally:
            self.close()

    def _settle(self) -> None:
        """Wait until the manager has heard everything: it knows the sender only as long as that exists."""
        deadline = time.monotonic() + PATIENCE
        read, write = os.pipe()
        self._host.tell(BARRIER, write)
        try:
            while (left := deadline - time.monotonic()) > 0:
                wanted = {read: 0}
                if self._host.waiting:
                    wanted[self._host.fileno()] = select.POLLOUT
                if read in _poll(wanted, left * 1000):
                    return
                self._host.flush()
        finally:
            os.close(read)

    def _may_read(self) -> bool:
        if self._read < RATE:
            return True
        now = time.monotonic()
        if now - self._window < 1:
            return False
        self._window, self._read = now, 0
        return True

    def _pass_on(self) -> bool:
        """Read one datagram and pass it on; False if there is none."""
        if self._read == 0:
            self._window = time.monotonic()
        try:
            # Looked at first: without room for them descriptors are dropped by the kernel. Closing one here could
            # block, for its file system may be the container's own (fuse).
            raw = self._socket.recv(MESSAGE_MAX + 2, MSG_PEEK | MSG_DONTWAIT)
            self._read += 1
            if is_barrier(raw):
                self._pass_barrier()
                return True
            self._socket.recv(1, MSG_DONTWAIT)
        except BlockingIOError:
            return False
        message = understand(raw, self._main_pid, self._offset)
        if message.text:
            self._host.tell(message.text)
        self.ready = self.ready or message.ready
        return True

    def _pass_barrier(self) -> None:
        _, rights, _, _ = self._socket.recvmsg(16, _ONE_DESCRIPTOR, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
        for level, kind, data in rights:
            if level == SOL_SOCKET and kind == SCM_RIGHTS and len(data) == 4:
                if len(self._barriers) == BARRIERS_MAX:
                    self._let_go(next(iter(self._barriers)))
                read, write = os.pipe()
                self._barriers[read] = unpack("<i", data)[0]
                self._host.tell(BARRIER, write)

    def _let_go(self, pipe: int) -> None:
        os.close(self._barriers.pop(pipe))
        os.close(pipe)

    def _main_pid(self, given: int | None) -> int:
        """The process to name to the manager: this one in the foreground, else the container's.

        A pid that the container gives is its own pid of one of its processes; whatever else it gives means the first.
        """
        if self._foreground:
            return os.getpid()
        first = self._record.pid
        if given is None or self._record.cgroup is None:
            return first
        own = pids_of(first)
        if not own or own[-1] == given:
            return first
        from pyrunc.linux.cgroups.manager import restore

        for pid in restore(self._record.cgroup).pids()[:_PROCESSES_MAX]:
            pids = pids_of(pid)
            if len(pids) >= len(own) and pids[len(own) - 1] == given:
                return pid
        return first


def _monotonic_offset(pid: int) -> int:
    """How far the CLOCK_MONOTONIC of a process is ahead, in µs (time_namespaces(7))."""
    try:
        with open(f"/proc/{pid}/timens_offsets", encoding="ascii") as file:
            for line in file:
                name, seconds, nanoseconds = line.split()
                if name == "monotonic":
                    return int(seconds) * 1_000_000 + int(nanoseconds) // 1000
    except (FileNotFoundError, ProcessLookupError):
        pass  # a kernel without time namespaces, or it has ended
    return 0


def _poll(wanted: dict[int, int], milliseconds: float | None) -> dict[int, int]:
    poll = select.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    return dict(poll.poll(milliseconds))
