"""What the caller gives to a process besides its stdio: a terminal or a socket for one, more descriptors."""

from __future__ import annotations

import os
from errno import EBADF

from pyrunc.errors import KernelError, PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: How many descriptors a container can be given: init is started with at most 256 (native/border.c), among
#: them stdio, those of the namespaces to join, of each cgroup hierarchy, and its own.
DESCRIPTORS_MAX: Final = 200


def check_terminal(terminal: bool, console_socket: str, foreground: bool) -> None:
    """A terminal goes either to the caller's own or to a console socket (runc's rule and words).

    `terminal`: the process wants one; `foreground`: the caller stays with it. Raises PyruncError.
    """
    if terminal and not foreground and not console_socket:
        raise PyruncError(
            "cannot allocate tty if pyrunc will detach without setting console socket",
            remedy="give --console-socket, or set process.terminal to false",
            code="usage",
        )
    if console_socket and (foreground or not terminal):
        raise PyruncError(
            "cannot use console socket if pyrunc will not detach or allocate tty",
            remedy="leave --console-socket out, or set process.terminal to true",
            code="usage",
        )


def extra_descriptors(count: int) -> int:
    """`count`, the descriptors from 3 on that belong to the container. Raises where the caller did not give one."""
    if count > DESCRIPTORS_MAX:
        raise PyruncError(
            f"cannot preserve {count} descriptors, at most {DESCRIPTORS_MAX}",
            remedy="--preserve-fds and LISTEN_FDS count together",
            code="usage",
        )
    for descriptor in range(3, 3 + count):
        try:
            # Close-on-exec is what this process has opened, such as its log, and no caller could have given.
            if os.get_inheritable(descriptor):
                continue
            number = EBADF
        except OSError as error:
            number = error.errno or 0
        raise KernelError(
            f"unable to stat preserved-fd {descriptor} (of {count})",
            number,
            remedy="--preserve-fds counts the open descriptors from 3 on",
        )
    return count
