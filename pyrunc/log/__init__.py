"""The log: where a failure (and, when asked for, warnings and debug lines) is written.

Callers parse it, each in its own way: containerd and buildkit read the file as a stream of JSON objects and
take the `msg` of the last entry whose `level` is `error`; podman reads the whole file as *one* object; conmon
reads standard error only. So a failure is exactly one entry in the file and one line on standard error, and
warnings go into a JSON log only when `--debug` or `--log-level` asks for them (a second line would make
podman lose the error). In the text format warnings are always written, as runc does.

Without `--log` the entries go to standard error, in the chosen format. `--log journald:NAME` and `syslog:NAME` send
them to a daemon of the host instead (`log.journald`, `log.syslog`): one datagram for each entry.
"""

from __future__ import annotations

import os
import time

from pyrunc.errors import KernelError, PyruncError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    class Daemon(Protocol):
        """A daemon of the host that keeps logs, connected."""

        def write(self, level: str, message: str, code: str, line: str) -> None:
            """Send an entry. `line`: the same in the chosen format. Raises OSError."""


FORMATS: Final = ("text", "json")
LEVELS: Final = ("error", "warning", "debug")

# C0, DEL and C1 control characters: a message may quote a hostile image, and a terminal obeys these.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: "\\t",
    10: "\\n",
    13: "\\r",
}


def one_line(message: str) -> str:
    """`message` as one printable line: control characters and bytes that are not UTF-8 are escaped."""
    return _unicode(message).translate(_CONTROLS)


def _unicode(message: str) -> str:
    # A name from the file system may hold bytes that are not UTF-8, which Python keeps as lone surrogates.
    return message.rstrip("\n").encode("utf-8", "backslashreplace").decode("utf-8")


class Log:
    """An open log. `path` empty: standard error. `level` empty: the format's usual level (see above).

    `path` is a file, which may have `file:` before it, or `journald:` or `syslog:` and the name to log under (the same
    forms as crun's). A file whose name begins with one of these words is `./journald:x`, or has `file:` before it.
    """

    __slots__ = ("_daemon", "debugging", "fd", "format", "rank")

    def __init__(self, path: str = "", form: str = "text", level: str = "") -> None:
        if form not in FORMATS:
            raise PyruncError(f"invalid log-format: {form}", remedy="use text or json", code="usage")
        if level and level not in LEVELS:
            raise PyruncError(
                f"invalid log-level: {level}", remedy="use error, warning or debug", code="usage"
            )
        self.format = form
        self.rank = LEVELS.index(level or ("error" if form == "json" else "warning"))
        self.debugging = level == "debug"
        self.fd = -1
        self._daemon: Daemon | None = None
        kind, colon, rest = path.partition(":")
        if colon and kind in ("journald", "syslog"):
            self._daemon = _daemon(kind, rest)
        elif path:
            path = rest if colon and kind == "file" else path
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
            try:
                self.fd = os.open(path, flags, 0o644)
            except OSError as error:
                raise KernelError.of(f"open log file {path}", error) from None

    def error(self, message: str, code: str = "failed") -> None:
        """Write a failure, once to the log and once to standard error."""
        self._write("error", message, code)
        if self.fd >= 0 or self._daemon:
            _put(2, one_line(message) + "\n")

    def notice(self, message: str) -> None:
        """Write a line to standard error only: about a part that failed of an operation that goes on."""
        _put(2, one_line(message) + "\n")

    def warning(self, message: str) -> None:
        """Write something odd that did not stop the operation."""
        if self.rank >= 1:
            self._write("warning", message, "")

    def debug(self, message: str) -> None:
        """Write what only helps in a search for a fault."""
        if self.rank >= 2:
            self._write("debug", message, "")

    def _write(self, level: str, message: str, code: str) -> None:
        line = self._line(level, message, code)
        if self._daemon is None:
            _put(2 if self.fd < 0 else self.fd, line + "\n")
            return
        try:
            self._daemon.write(level, _unicode(message), code, line)
        except OSError:
            pass  # as in _put; an error is on standard error, too

    def _line(self, level: str, message: str, code: str) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.format == "json":
            from pyrunc.config.writer import dumps

            entry = {"level": level, "msg": _unicode(message), "time": when}
            return dumps({**entry, "code": code} if code else entry)
        if self._daemon:  # it keeps level and time itself
            return one_line(message)
        quoted = one_line(message.replace("\\", "\\\\").replace('"', '\\"'))
        return f'time="{when}" level={level} msg="{quoted}"'


def _daemon(kind: str, name: str) -> Daemon:
    if not name:
        raise UsageError(f"invalid log: {kind}: needs a name to log under", remedy=f"such as {kind}:pyrunc")
    if kind == "syslog":
        from pyrunc.log.syslog import Syslog

        return Syslog(one_line(name))
    from pyrunc.log.journald import Journal

    return Journal(one_line(name))


def _put(fd: int, line: str) -> None:
    # One write per entry: O_APPEND then keeps entries of concurrent processes whole.
    try:
        os.write(fd, line.encode("utf-8"))
    except OSError:
        # The log is the last place to complain to; a full disk or a closed pipe must not hide the exit
        # status.
        pass
