"""Handing the listener of a seccomp filter to its agent (config-linux.md "Seccomp", "The Container Process State")."""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_NOSIGNAL, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket
from errno import EPERM
from struct import pack

from pyrunc.errors import KernelError
from pyrunc.kernel.native import syscall
from pyrunc.lifecycle.status import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Seccomp
    from pyrunc.spawn.conversation import Message
    from pyrunc.store.record import Record


def hand_over(message: Message, pidfd: int, profile: Seccomp, record: Record, status: str) -> None:
    """Send init's listener to the agent with the container process state. Raises KernelError.

    `message`: SAY_LISTENER, with the listener, or with its number in init, the process of `pidfd`; `status`: the
    container's at this moment. No copy stays in this process: once the agent has ended the kernel has to know that
    nobody is going to answer.
    """
    listener = message.descriptor if message.descriptor >= 0 else _take(message.value, pidfd)
    try:
        _send(os.path.join(record.bundle, profile["listenerPath"]), state(profile, record, status), listener)
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


def state(profile: Seccomp, record: Record, status: str) -> bytes:
    """The container process state as JSON."""
    from pyrunc.config.writer import dumps

    values: dict[str, object] = {
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": record.pid,
        "state": document(record, status),
    }
    if "listenerMetadata" in profile:
        values["metadata"] = profile["listenerMetadata"]
    return dumps(values).encode()


def _send(path: str, payload: bytes, listener: int) -> None:
    """Send `payload`, with the listener beside its first byte, on a connection of its own to the socket at `path`."""
    connection = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    place = -1
    try:
        # By its descriptor: an address of unix(7) holds 107 bytes, a path may have more.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        connection.connect(f"/proc/self/fd/{place}")
        rights = [(SOL_SOCKET, SCM_RIGHTS, pack("<i", listener))]
        sent = connection.sendmsg([payload], rights, MSG_NOSIGNAL)
        while sent < len(payload):
            sent += connection.send(payload[sent:], MSG_NOSIGNAL)
    except OSError as error:
        raise KernelError.of(
            f"linux.seccomp.listenerPath: send the seccomp listener to {path}",
            error,
            remedy="is the seccomp agent listening there?",
        ) from error
    finally:
        connection.close()
        if place >= 0:
            os.close(place)
