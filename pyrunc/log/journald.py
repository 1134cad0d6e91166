"""Entries for systemd-journald in its own protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).

An entry has the fields MESSAGE, PRIORITY, SYSLOG_IDENTIFIER (the name after `journald:`), PYRUNC_LEVEL and, for an
error, PYRUNC_CODE: `journalctl -t NAME PYRUNC_CODE=not-found` finds them. `--log-format` changes nothing here.
"""

from __future__ import annotations

import fcntl
import os
from errno import EMSGSIZE, ENOBUFS

from pyrunc.log.datagram import PRIORITIES, connect, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journal:
    """The journal, for entries under the name `name`."""

    __slots__ = ("_name", "_socket")

    def __init__(self, name: str) -> None:
        self._name = name
        self._socket = connect(SOCKET)

    def write(self, level: str, message: str, code: str, line: str) -> None:
        """Send an entry; one that is too big for a datagram in a sealed memfd. Raises OSError."""
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(PRIORITIES[level]),
            "SYSLOG_IDENTIFIER": self._name,
            "PYRUNC_LEVEL": level,
        }
        if code:
            fields["PYRUNC_CODE"] = code
        raw = b"".join([field(name, value.encode()) for name, value in fields.items()])
        try:
            send(self._socket, raw)
        except OSError as error:
            if error.errno not in (EMSGSIZE, ENOBUFS):
                raise
            self._send_file(raw)

    def _send_file(self, raw: bytes) -> None:
        from _socket import SCM_RIGHTS, SOL_SOCKET

        file = os.memfd_create("pyrunc-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(raw)
            while rest:
                rest = rest[os.write(file, rest) :]
            # journald reads from nothing that could change while it does.
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            send(self._socket, b"", (SOL_SOCKET, SCM_RIGHTS, file.to_bytes(4, "little")))
        finally:
            os.close(file)


def field(name: str, value: bytes) -> bytes:
    """A field as the protocol has it: with a length where the value has a newline."""
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
