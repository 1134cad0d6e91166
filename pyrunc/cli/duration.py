"""Durations as Go's time.ParseDuration reads them: "5s", "1m30s", "1.5h", "100ms"."""

from __future__ import annotations

from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: Seconds of each unit. The two micro signs are U+00B5 and U+03BC.
_UNITS: Final = {
    "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_DIGITS: Final = "0123456789"
#: Go counts nanoseconds, in 63 bits; a part that is shorter is nothing.
_SHORTEST: Final = 1e-9
_LONGEST: Final = (1 << 63) / 1e9


def seconds(option: str, text: str) -> float:
    """The seconds that `text` means. Raises UsageError, in Go's words, that names the option."""
    total = _parse(text)
    if total is None or abs(total) > _LONGEST:
        raise UsageError(
            f'invalid value "{text}" for flag -{option}: parse error',
            remedy="give a number with a unit, such as 500ms, 5s or 1m30s",
        )
    return total


def _parse(text: str) -> float | None:
    sign = -1.0 if text[:1] == "-" else 1.0
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0  # the one number that needs no unit
    total = 0.0
    while True:
        number = _leading(rest, _DIGITS + ".")
        rest = rest[len(number) :]
        # Up to the next number.
        unit = rest[: next((i for i, character in enumerate(rest) if character in _DIGITS + "."), len(rest))]
        rest = rest[len(unit) :]
        if number.count(".") > 1 or not number.strip(".") or unit not in _UNITS:
            return None
        length = float(number) * _UNITS[unit]
        if length >= _SHORTEST:
            total += length
        if not rest:
            return sign * total


def _leading(text: str, characters: str) -> str:
    return text[: len(text) - len(text.lstrip(characters))]
