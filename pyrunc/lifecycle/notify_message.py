"""Which fields of sd_notify(3) a container may send to the host's service manager, and what becomes of them.

The container is hostile. Only what speaks of its own service goes on, and only in the form that the manual gives;
whatever else a datagram holds is left out, the rest of it is passed on in one piece. Left out on purpose:

* FDSTORE, FDSTOREREMOVE, FDNAME, FDPOLL, and every descriptor but that of BARRIER: process 1 would hold and poll
  what the container chose, and hand it back as a trusted socket when the service starts again.
* NOTIFYACCESS: whom the manager hears is the host's to say; `none` would silence this proxy.
* MAINPIDFD, MAINPIDFDID: MAINPID is understood by every manager.
* X_ and anything unknown: for whoever defined it, who is not there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

#: Bytes. systemd passes over what is longer (NOTIFY_BUFFER_MAX is PIPE_BUF).
MESSAGE_MAX: Final = 4096
BARRIER: Final = b"BARRIER=1"

_WORDS: Final = {
    b"READY": (b"1",),
    b"RELOADING": (b"1",),
    b"STOPPING": (b"1",),
    b"WATCHDOG": (b"1", b"trigger"),
}
#: The largest value of each.
_NUMBERS: Final = {
    b"ERRNO": 0x7FFF_FFFF,
    b"EXIT_STATUS": 255,
    b"EXTEND_TIMEOUT_USEC": (1 << 64) - 1,
    b"WATCHDOG_USEC": (1 << 64) - 1,
}
_NAMES: Final = (b"BUSERROR", b"VARLINKERROR")
_NAME: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
#: C0, DEL and C1: `systemctl status` shows the text in somebody's terminal, which would obey them.
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160), 0xFFFD), "?")


class Message:
    """A datagram, understood: `text` is what goes to the host, perhaps nothing; `ready`: it says READY=1."""

    __slots__ = ("ready", "text")

    def __init__(self, text: bytes, ready: bool) -> None:
        self.text = text
        self.ready = ready


def is_barrier(raw: bytes) -> bool:
    """Whether this asks to be told when all before it was heard. It is a message of its own, with a descriptor."""
    return raw.removesuffix(b"\n") == BARRIER


def understand(raw: bytes, main_pid: Callable[[int | None], int], monotonic_offset: int) -> Message:
    """What of the datagram `raw` goes to the host.

    `main_pid`: from the pid that the container gives (None: it gives none) to the one to tell the host, asked where
    there is a MAINPID, and where the container is ready. `monotonic_offset`: by how many µs the container's
    CLOCK_MONOTONIC is ahead of the host's (time_namespaces(7)).
    """
    raw = raw.removesuffix(b"\0")
    if len(raw) > MESSAGE_MAX or b"\0" in raw:
        return Message(b"", False)
    lines: list[bytes] = []
    ready = False
    main: int | None = None
    has_main = False
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b"=")
        if name == b"MAINPID":
            if (number := _number(value, 1 << 22)) and not has_main:
                main, has_main = number, True
        elif name == b"MONOTONIC_USEC":
            number = _number(value, (1 << 64) - 1)
            if number is not None and (shifted := number - monotonic_offset) > 0:
                lines.append(b"MONOTONIC_USEC=%d" % shifted)
        elif name == b"STATUS":
            lines.append(b"STATUS=" + _printable(value))
        elif _is_good(name, value):
            ready = ready or name == b"READY"
            lines.append(line)
    if ready or has_main:
        lines.append(b"MAINPID=%d" % main_pid(main))
    text = b"\n".join(lines)
    if len(text) > MESSAGE_MAX:  # with MAINPID; better without a text than not at all
        text = b"\n".join([line for line in lines if not line.startswith(b"STATUS=")])
    return Message(text, ready)


def _is_good(name: bytes, value: bytes) -> bool:
    if name in _WORDS:
        return value in _WORDS[name]
    if name in _NUMBERS:
        return _number(value, _NUMBERS[name]) is not None
    return name in _NAMES and 0 < len(value) <= 255 and _NAME.issuperset(value)


def _number(text: bytes, largest: int) -> int | None:
    if not (text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= largest else None


def _printable(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").translate(_CONTROLS).encode()
