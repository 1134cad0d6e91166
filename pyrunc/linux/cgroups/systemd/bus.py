"""D-Bus, as far as systemd's manager needs it: a call, its reply, and the signals that come in between.

Through libsystemd's sd-bus (sd-bus(3)), which is loaded here and nowhere else. Its identity on the bus is that of
the socket, not a number that the client says; so it also works as root of a user namespace. Waiting is done
by this process in poll(2), so that a signal (`lifecycle.interrupt`) ends it at once.
"""

from __future__ import annotations

import os
import select
import time
from errno import EAGAIN, ECONNREFUSED, EPIPE

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.systemd._sdbus import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: Seconds to wait for any reply, and for systemd to finish a job: runc's and crun's patience.
PATIENCE: Final = 30.0
#: Seconds between two attempts to connect.
_PAUSE: Final = 0.02
#: The longest signature, and how deep it may nest (D-Bus specification, "Valid Signatures").
_LONGEST: Final = 255
_DEEPEST: Final = 32

#: D-Bus type code → C type (D-Bus specification, "Basic types").
_NUMBERS: Final = {
    "y": "uint8_t *", "b": "int *", "n": "int16_t *", "q": "uint16_t *", "i": "int32_t *", "u": "uint32_t *",
    "x": "int64_t *", "t": "uint64_t *", "d": "double *",
}  # fmt: skip
_TEXTS: Final = "sog"
_KEYS: Final = f"{_TEXTS}{''.join(_NUMBERS)}"
_SIMPLE: Final = f"{_KEYS}v"
#: Range of each integer type.
_BITS: Final = {
    "y": (0, 8),
    "n": (1, 16),
    "q": (0, 16),
    "i": (1, 32),
    "u": (0, 32),
    "x": (1, 64),
    "t": (0, 64),
}


class Refused(PyruncError):
    """The other side answered with an error. `name`: its D-Bus name, `text`: what it said."""

    code = "systemd"

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name
        self.text = text or name


class Signal:
    """A signal that was not asked for by a call: its member name and its values."""

    __slots__ = ("member", "values")

    def __init__(self, member: str, values: list[Any]) -> None:
        self.member = member
        self.values = values


def split(signature: str) -> list[str]:
    """The complete types of a D-Bus signature, one after the other. Raises ValueError."""
    if len(signature) > _LONGEST:
        raise ValueError(f"a D-Bus signature of more than {_LONGEST} characters")
    types = []
    place = 0
    while place < len(signature):
        end = _end(signature, place)
        types.append(signature[place:end])
        place = end
    return types


def _end(signature: str, place: int, depth: int = 0) -> int:
    """Behind the complete type that begins at `place`."""
    code, after = signature[place : place + 1], place + 1
    good = depth <= _DEEPEST
    if good and code == "a":
        return _end(signature, after, depth + 1)
    if good and code == "(":
        while signature[after : after + 1] != ")":
            after = _end(signature, after, depth + 1)
        good = after > place + 1
        after += 1
    elif good and code == "{":
        # Only in an array; a key that is one value, and what it stands for.
        key = signature[after : after + 1]
        after = _end(signature, after + 1, depth + 1)
        good = (
            depth > 0 and signature[place - 1] == "a" and key in _KEYS and signature[after : after + 1] == "}"
        )
        after += 1
    if not (good and code and code in _SIMPLE + "({"):
        raise ValueError(f"not a D-Bus signature: {signature!r}")
    return after


def _library() -> Any:
    try:
        return ffi.dlopen("libsystemd.so.0")
    except OSError as error:
        raise PyruncError(
            "libsystemd.so.0 cannot be loaded, which the systemd cgroup manager needs",
            remedy="install the package libsystemd0 (Debian) or systemd-libs (Fedora)",
            code="systemd",
        ) from error


class Bus:
    """A connection to the D-Bus server at `address`.

    `daemon`: it is a message bus with many clients; else the peer itself is meant, such as systemd's private
    socket. Raises KernelError if nobody is there; one whom many connect to at once is tried again for a while.
    """

    def __init__(self, address: str, *, daemon: bool) -> None:
        self.address = address
        self.signals: list[Signal] = []
        self._lib = _library()
        self._bus = ffi.NULL
        until = time.monotonic() + PATIENCE
        while not self._bus:
            try:
                self._connect(address.encode(), daemon)
            except BaseException as error:
                self.close()
                # The queue of those who wait to be accepted is full (connect(2)).
                full = isinstance(error, KernelError) and error.number == EAGAIN
                if not full or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)

    def _connect(self, address: bytes, daemon: bool) -> None:
        pointer = ffi.new("sd_bus **")
        self._done(self._lib.sd_bus_new(pointer))
        self._bus = pointer[0]
        self._done(self._lib.sd_bus_set_address(self._bus, address))
        self._done(self._lib.sd_bus_set_bus_client(self._bus, daemon))
        self._done(self._lib.sd_bus_start(self._bus))

    def close(self) -> None:
        """End the connection.

        Without flushing: every call has its reply by now, or its sender has given up, and flushing waits for a
        peer that does not even greet.
        """
        if self._bus:
            self._lib.sd_bus_close_unref(self._bus)
            self._bus = ffi.NULL

    def _done(self, result: int) -> int:
        if result < 0:
            number = ECONNREFUSED if result == -EPIPE else -result
            raise KernelError(f"talk with D-Bus at {self.address}", number)
        return result

    # -- calling ---------------------------------------------------------------------------------------

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> list[Any]:
        """Call a method with `values` of the types `signature`, and return the values of the reply.

        Signals that come meanwhile are added to `signals`. Raises Refused, KernelError, PyruncError.
        """
        message = self._message(destination, path, interface, member)
        cookie = ffi.new("uint64_t *")
        try:
            for kind, value in zip(split(signature), values, strict=True):
                self._append(message, kind, value)
            self._done(self._lib.sd_bus_send(self._bus, message, cookie))
        finally:
            self._lib.sd_bus_message_unref(message)
        until = time.monotonic() + PATIENCE
        while True:
            reply = self._next(until, f"an answer to {member}")
            try:
                if self._answers(reply, cookie[0]):
                    self._raise_refusal(reply)
                    return self._read(reply)
            finally:
                self._lib.sd_bus_message_unref(reply)

    def wait_signal(self, until: float, what: str) -> None:
        """Wait for one more message, and note it in `signals` if it is a signal. `what`: for the error."""
        message = self._next(until, what)
        try:
            self._answers(message, 0)
        finally:
            self._lib.sd_bus_message_unref(message)

    def _message(self, destination: str, path: str, interface: str, member: str) -> Any:
        pointer = ffi.new("sd_bus_message **")
        words = [word.encode() for word in (destination, path, interface, member)]
        self._done(self._lib.sd_bus_message_new_method_call(self._bus, pointer, *words))
        return pointer[0]

    def _answers(self, message: Any, cookie: int) -> bool:
        """Whether `message` is the reply to the call `cookie`; if not, and it is a signal, note it."""
        found = ffi.new("uint64_t *")
        if self._lib.sd_bus_message_get_reply_cookie(message, found) >= 0:
            return bool(found[0] == cookie)
        for member in ("JobRemoved",):
            if self._lib.sd_bus_message_is_signal(message, ffi.NULL, member.encode()) > 0:
                self.signals.append(Signal(member, self._read(message)))
        return False

    def _raise_refusal(self, reply: Any) -> None:
        if self._lib.sd_bus_message_is_method_error(reply, ffi.NULL) > 0:
            error = self._lib.sd_bus_message_get_error(reply)
            raise Refused(_text(error.name), _text(error.message))

    def _next(self, until: float, what: str) -> Any:
        """The next message that sd-bus has no use for itself. The caller unrefs it."""
        pointer = ffi.new("sd_bus_message **")
        poll = select.poll()
        while True:
            while self._done(self._lib.sd_bus_process(self._bus, pointer)) > 0:
                if pointer[0]:
                    return pointer[0]
            left = until - time.monotonic()
            if left <= 0:
                raise PyruncError(
                    f"waited {PATIENCE:.0f} s for {what} from systemd",
                    remedy="look at `systemctl list-jobs`, and try again when systemd is less busy",
                    code="systemd",
                )
            descriptor = self._done(self._lib.sd_bus_get_fd(self._bus))
            poll.register(descriptor, self._done(self._lib.sd_bus_get_events(self._bus)))
            poll.poll(left * 1000)

    # -- values ----------------------------------------------------------------------------------------

    def _append(self, message: Any, kind: str, value: Any) -> None:
        lib, code = self._lib, kind[0]
        if code in _TEXTS:
            self._done(
                lib.sd_bus_message_append_basic(message, code.encode(), ffi.new("char[]", os.fsencode(value)))
            )
        elif code in _NUMBERS:
            self._done(
                lib.sd_bus_message_append_basic(message, code.encode(), ffi.new(_NUMBERS[code], value))
            )
        elif code == "v":
            inner, content = value
            self._open(message, b"v", inner)
            self._append(message, inner, content)
            self._done(lib.sd_bus_message_close_container(message))
        elif code == "a":
            self._open(message, b"a", kind[1:])
            for element in value:
                self._append(message, kind[1:], element)
            self._done(lib.sd_bus_message_close_container(message))
        else:
            inner = kind[1:-1]
            self._open(message, b"r" if code == "(" else b"e", inner)
            for one, element in zip(split(inner), value, strict=True):
                self._append(message, one, element)
            self._done(lib.sd_bus_message_close_container(message))

    def _open(self, message: Any, code: bytes, contents: str) -> None:
        self._done(self._lib.sd_bus_message_open_container(message, code, contents.encode()))

    def _read(self, message: Any) -> list[Any]:
        """Every value up to the end of the message or of the container that was entered."""
        values = []
        code, contents = ffi.new("char *"), ffi.new("char **")
        while self._done(self._lib.sd_bus_message_peek_type(message, code, contents)) > 0:
            kind = code[0].decode()
            if kind in _NUMBERS or kind == "h":  # a descriptor, which stays the message's
                number = ffi.new(_NUMBERS.get(kind, "int *"))
                self._done(self._lib.sd_bus_message_read_basic(message, code[0], number))
                values.append(bool(number[0]) if kind == "b" else number[0])
            elif kind in _TEXTS:
                text = ffi.new("char **")
                self._done(self._lib.sd_bus_message_read_basic(message, code[0], text))
                values.append(_text(text[0]))
            else:
                self._done(self._lib.sd_bus_message_enter_container(message, code[0], contents[0]))
                inside: Any = self._read(message)
                self._done(self._lib.sd_bus_message_exit_container(message))
                # A variant is what is in it.
                values.append(inside[0] if kind == "v" else inside)
        return values


def _text(pointer: Any) -> str:
    return ffi.string(pointer).decode("utf-8", "replace") if pointer else ""


def fits(kind: str, value: int) -> bool:
    """Whether the integer `value` can be of the D-Bus type `kind`."""
    signed, bits = _BITS[kind]
    low = -(1 << bits - 1) if signed else 0
    return low <= value < 1 << bits - signed


def address_of(path: str) -> str:
    """The D-Bus address of the socket `path` (D-Bus specification, "Server Addresses")."""
    plain = b"-_/.*0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "unix:path=" + "".join(
        [chr(byte) if byte in plain else f"%{byte:02x}" for byte in os.fsencode(path)]
    )
