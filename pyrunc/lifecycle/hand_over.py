"""What the caller of create and run is given of a container that is ready: its pidfd, terminal, pid file."""

from __future__ import annotations

import os

from pyrunc.config.annotations import PIDFD_RECEIVER
from pyrunc.errors import KernelError
from pyrunc.lifecycle.console import send_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.lifecycle.container import Container
    from pyrunc.lifecycle.request import Request


def hand_over(request: Request, container: Container) -> None:
    """Give the caller what it asked for: pidfd, terminal, and last the pid file, which says that all is well."""
    init = container.init
    assert init is not None
    receiver = container.record.annotations.get(PIDFD_RECEIVER)
    for path in (request.pidfd_socket, receiver and os.path.join(container.record.bundle, receiver)):
        if path:
            send_descriptor(path, init.pidfd, "pidfd", "pidfd")
    if request.console_socket:
        send_descriptor(request.console_socket, container.master, "/dev/ptmx", "terminal")
        os.close(container.master)
        container.master = -1
    if request.pid_file:
        write_pid_file(request.pid_file, init.pid)


def write_pid_file(path: str, pid: int) -> None:
    """The decimal pid without a newline, by rename, so that nobody reads half of it (go-runc, conmon)."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
        )
        try:
            os.write(descriptor, b"%d" % pid)
        finally:
            os.close(descriptor)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise KernelError.of(f"write the pid file {path}", error) from error
