"""Handing the listener of a seccomp filter to its agent (config-linux.md "Seccomp", "The Container Process State")."""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, MSG_NOSIGNAL, SCM_RIGHTS, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket
from errno import EPERM, ETIMEDOUT
from struct import pack

from pyrunc.config.annotations import SECCOMP_RECEIVER
from pyrunc.config.annotations import seccomp_agent as agent_of
from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.liveness import wait_end
from pyrunc.lifecycle.status import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeVar

    from pyrunc.config.spec import Seccomp
    from pyrunc.spawn.conversation import Message
    from pyrunc.store.record import Record

    T = TypeVar("T")

#: Seconds without a sign of life after which an agent is given up.
PATIENCE: Final = 30.0
#: After so many microseconds connect(2) and sendmsg(2) return, to see whether init is still there (struct timeval).
_GLANCE: Final = pack("@ll", 0, 100_000)


def hand_over(
    message: Message, pidfd: int, profile: Seccomp, record: Record, status: str, pid: int = 0
) -> None:
    """Send init's listener to the agent with the container process state. Raises KernelError.

    `pid`: of the process of `pidfd`, where that is not the container's first.

    `message`: SAY_LISTENER, with the listener, or with its number in init, the process of `pidfd`; `status`: the
    container's at this moment. No copy stays in this process: once the agent has ended the kernel has to know that
    nobody is going to answer.
    """
    listener = message.descriptor if message.descriptor >= 0 else _take(message.value, pidfd)
    try:
        path = os.path.join(record.bundle, agent_of(profile, record.annotations))
        of = "linux.seccomp.listenerPath" if profile.get("listenerPath") else SECCOMP_RECEIVER
        _send(path, state(profile, record, status, pid), listener, pidfd, of)
    finally:
        os.close(listener)


def _take(descriptor: int, pidfd: int) -> int:
    try:
        return syscall("pidfd_getfd", pidfd, descriptor, 0)
    except OSError as error:
        remedy = ""
        if error.errno == EPERM:
            remedy = "it takes CAP_SYS_PTRACE, or a profile that lets sendmsg pass"
        raise KernelError.of("take the seccomp listener from init", error, remedy=remedy) from error


def state(profile: Seccomp, record: Record, status: str, pid: int = 0) -> bytes:
    """The container process state as JSON."""
    from pyrunc.config.writer import dumps

    values: dict[str, object] = {
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": pid or record.pid,
        "state": document(record, status),
    }
    if "listenerMetadata" in profile:
        values["metadata"] = profile["listenerMetadata"]
    return dumps(values).encode()


def _send(
    path: str, payload: bytes, listener: int, pidfd: int, of: str = "linux.seccomp.listenerPath"
) -> None:
    """Send `payload`, with the listener beside its first byte, on a connection of its own to the socket at `path`.

    An agent that does not accept, or does not read, must not hold the container's lock for ever, nor at all where
    init has ended meanwhile: `delete --force` waits for it then. `of`: what names the socket, for the error.
    """
    connection = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _GLANCE)
    place = -1
    try:
        # By its descriptor: an address of unix(7) holds 107 bytes, a path may have more.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _patiently(pidfd, connection.connect, f"/proc/self/fd/{place}")
        rights = [(SOL_SOCKET, SCM_RIGHTS, pack("<i", listener))]
        sent = _patiently(pidfd, connection.sendmsg, [payload], rights, MSG_NOSIGNAL)
        rest = memoryview(payload)[sent:]
        while rest:
            rest = rest[_patiently(pidfd, connection.send, rest, MSG_NOSIGNAL) :]
    except OSError as error:
        raise KernelError.of(
            f"{of}: send the seccomp listener to {path}",
            error,
            remedy="is the seccomp agent listening there?",
        ) from error
    finally:
        connection.close()
        if place >= 0:
            os.close(place)


def _patiently(pidfd: int, call: Callable[..., T], *arguments: object) -> T:
    """The result of `call`, made again as long as it lacks but time. Raises OSError, and PyruncError without init."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*arguments)
        except BlockingIOError:
            if wait_end(pidfd, 0):
                raise PyruncError(
                    "container init ended before the seccomp agent took its listener", code="init-ended"
                ) from None
            if time.monotonic() > deadline:
                raise OSError(ETIMEDOUT, os.strerror(ETIMEDOUT)) from None
