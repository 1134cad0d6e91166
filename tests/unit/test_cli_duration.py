"""Durations on the command line are those of Go's time.ParseDuration."""

from __future__ import annotations

import pytest

from pyrunc.cli.duration import seconds
from pyrunc.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", 5),
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("1h15m30.918273645s", 4530.918273645),
        (".5s", 0.5),
        ("5.s", 5),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
        ("7ns", 7e-9),
        ("1ns", 1e-9),
        ("0.9ns", 0),
        ("0.0000009ms", 0),
        ("0", 0),
        ("+0", 0),
        ("0s", 0),
        ("-1m", -60),
        ("+2s", 2),
        ("1s1h", 3601),
        ("2562047h", 2562047 * 3600),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds("interval", text) == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        ".s",
        "-",
        "+",
        "5 s",
        " 5s",
        "5s ",
        "1d",
        "5S",
        "--5s",
        "1.2.3s",
        "5s-1s",
        "1e3s",
        "٥s",
        "2562048h",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(
        UsageError, match=f'invalid value "{text}" for flag -interval: parse error'.replace("+", "\\+")
    ):
        seconds("interval", text)
