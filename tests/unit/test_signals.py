"""Signals by name and number."""

from __future__ import annotations

import signal

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.signals import number_of


@pytest.mark.parametrize("word", ["TERM", "SIGTERM", "term", "SigTerm", "15", "015"])
def test_one_signal_in_all_its_forms(word: str) -> None:
    assert number_of(word) == signal.SIGTERM


def test_every_signal_by_name_and_number() -> None:
    for entry in signal.Signals:
        assert number_of(entry.name) == number_of(entry.name[3:]) == number_of(str(int(entry))) == entry


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("RTMIN", 34),
        ("RTMIN+1", 35),
        ("SIGRTMIN+30", 64),
        ("rtmax-2", 62),
        ("RTMAX", 64),
        ("RTMIN+0", 34),
        ("0", 0),
    ],
)
def test_real_time_signals(word: str, number: int) -> None:
    assert number_of(word) == number


@pytest.mark.parametrize(
    "word",
    ["", "SIG", "BOGUS", "SIGSIGTERM", "65", "-9", "9 ", "+9", "1_5", "²", "99999999999", "_DFL", "SIG_IGN",
     "_BLOCK", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMINX", "RTMIN+²", "RT", "é", "NAL", "\udcff"],
)  # fmt: skip
def test_unknown_signals(word: str) -> None:
    with pytest.raises(PyruncError) as caught:
        number_of(word)
    assert str(caught.value).startswith(f'unknown signal "{word}"')
