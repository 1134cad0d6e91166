"""Entries for a syslog daemon, as syslog(3) sends them: one datagram to /dev/log in the form of RFC 3164.

The facility is "user", as for any program that is no daemon. In the json format the message is the JSON object, which
has the error's code; in the text format it is the bare message, on one line.
"""

from __future__ import annotations

import os
import time
from errno import EMSGSIZE

from pyrunc.log.datagram import PRIORITIES, connect, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "/dev/log"
_USER: Final = 1 << 3
#: Bytes of an entry that the socket does not take whole. No daemon keeps more of one, either.
_CUT: Final = 8192


class Syslog:
    """The syslog daemon, for entries under the tag `name`."""

    __slots__ = ("_name", "_socket")

    def __init__(self, name: str) -> None:
        self._name = name
        self._socket = connect(SOCKET)

    def write(self, level: str, message: str, code: str, line: str) -> None:
        """Send an entry. Raises OSError."""
        # Local time, without a year or a zone; the names of the months are those of the C locale.
        when = time.strftime("%b %e %H:%M:%S", time.localtime())
        raw = f"<{_USER | PRIORITIES[level]}>{when} {self._name}[{os.getpid()}]: {line}".encode()
        try:
            send(self._socket, raw)
        except OSError as error:
            if error.errno != EMSGSIZE:
                raise
            send(self._socket, raw[:_CUT])
