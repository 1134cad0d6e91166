"""Signals by name and number (signal(7))."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` costs 5 ms, and every name is here

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SIGKILL: Final[int] = _signal.SIGKILL
SIGTERM: Final[int] = _signal.SIGTERM
#: The real-time signals that programs can use; the C library keeps the two below for itself.
RTMIN: Final[int] = _signal.SIGRTMIN
RTMAX: Final[int] = _signal.SIGRTMAX


def number_of(text: str) -> int:
    """The number of the signal that `text` means.

    A name in any case, with or without SIG; RTMIN, RTMIN+n, RTMAX, RTMAX-n; or a number (0 only asks whether
    the process is there). Raises PyruncError for anything else.
    """
    number = _parse(text)
    if number is None:
        raise PyruncError(
            f'unknown signal "{text}"',
            remedy="use a name such as TERM, or a number up to 64",
            code="invalid-signal",
        )
    return number


def _parse(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) < 4 else RTMAX + 1
        return number if number <= RTMAX else None
    name = text.upper().removeprefix("SIG")
    if name.startswith("RTM"):
        return _real_time(name)
    # isalnum keeps SIG_DFL, SIG_BLOCK and their like out.
    found = getattr(_signal, "SIG" + name, None) if name.isascii() and name.isalnum() else None
    return found if isinstance(found, int) else None


def _real_time(name: str) -> int | None:
    base, sign, step = name[:5], name[5:6], name[6:]
    start = {"RTMIN": RTMIN, "RTMAX": RTMAX}.get(base)
    if start is None or not sign:
        return start
    if sign != ("+" if base == "RTMIN" else "-") or not (step.isascii() and step.isdigit() and len(step) < 3):
        return None
    number = start + int(step) if sign == "+" else start - int(step)
    return number if RTMIN <= number <= RTMAX else None


def send(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2). Raises OSError."""
    _signal.pidfd_send_signal(pidfd, number)
