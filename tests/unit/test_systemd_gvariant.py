"""GVariant text, as annotations hold it (GLib, "GVariant Text Format")."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.linux.cgroups.systemd.bus import split
from pyrunc.linux.cgroups.systemd.gvariant import parse


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", "b", True),
        (" false ", "b", False),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("+5", "i", 5),
        ("0x1F", "i", 31),
        ("010", "i", 8),
        ("1.5", "d", 1.5),
        ("1e3", "d", 1000.0),
        ("uint64 5", "t", 5),
        ("uint64 18446744073709551615", "t", 2**64 - 1),
        ("int64 -9223372036854775808", "x", -(2**63)),
        ("byte 0x40", "y", 64),
        ("uint16 7", "q", 7),
        ("int16 7", "n", 7),
        ("uint32 7", "u", 7),
        ("double 7", "d", 7.0),
        ("boolean true", "b", True),
        ("'inactive-or-failed'", "s", "inactive-or-failed"),
        ('"a"', "s", "a"),
        (r"'it\'s \\ \"\n\t'", "s", "it's \\ \"\n\t"),
        (r"'\u00e4\U0001F600'", "s", "ä😀"),
        (r"'\\n'", "s", "\\n"),
        ("objectpath '/org/a_1'", "o", "/org/a_1"),
        ("signature 'a{sv}'", "g", "a{sv}"),
        (r"b'ab\007\x'", "ay", b"ab\x07x\x00"),
        ("['a.service', 'b.service']", "as", ["a.service", "b.service"]),
        ("[1, 2, 3]", "ai", [1, 2, 3]),
        ("[uint64 1, 2]", "at", [1, 2]),
        ("[1, uint64 2]", "at", [1, 2]),
        ("[1, 2.5]", "ad", [1.0, 2.5]),
        ("[byte 1, 2]", "ay", [1, 2]),
        ("[[1], [2, 3]]", "aai", [[1], [2, 3]]),
        ("@as []", "as", []),
        ("@au [1, 2]", "au", [1, 2]),
        ("@t 5", "t", 5),
        ("('a', uint32 5)", "(su)", ("a", 5)),
        ("('a',)", "(s)", ("a",)),
        ("@a(st) [('/dev/sda', 100)]", "a(st)", [("/dev/sda", 100)]),
        ("[('/dev/sda', uint64 100)]", "a(st)", [("/dev/sda", 100)]),
        ("{'a': 1, 'b': 2}", "a{si}", [("a", 1), ("b", 2)]),
        ("{'a': <uint64 1>, 'b': <'x'>}", "a{sv}", [("a", ("t", 1)), ("b", ("s", "x"))]),
        ("<5>", "v", ("i", 5)),
    ],
)
def test_value(text: str, kind: str, value: Any) -> None:
    assert parse(text) == (kind, value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a value is missing"),
        ("  ", "a value is missing"),
        ("hello", "'hello' is neither a value nor a type"),
        ("uint64", "a value is missing"),
        ("uint64 -1", "-1 does not fit the type t"),
        ("byte 256", "256 does not fit"),
        ("2147483648", "does not fit the type i"),
        ("uint64 'a'", "a value stands where one of the type t is due"),
        ("5 6", "after the end"),
        ("'a", "is not closed"),
        ("'a\\", "is not closed"),
        ("[1, 'a']", "stands where one of the type"),
        ("[1", "',' is missing before 'the end'"),
        ("[1,]", "is not a value"),
        ("[]", "an empty array needs a type"),
        ("{'a' 1}", "':' is missing"),
        ("<5", "'>' is missing"),
        ("@", "is not one type"),
        ("@aa", "not a D-Bus signature"),
        ("@ss 'a'", "is not one type"),
        ("@" + "a" * 5000 + "s []", "signature of more than 255"),
        ("@" + "a" * 40 + "s []", "not a D-Bus signature"),
        ("@" + "(" * 60 + "s" + ")" * 60 + " 1", "not a D-Bus signature"),
        ("()", "not a D-Bus signature"),
        ("<()>", "not a D-Bus signature"),
        ("@{ss} {}", "not a D-Bus signature"),
        ("@a{s} {}", "not a D-Bus signature"),
        ("{<1>: 's'}", "not a D-Bus signature"),
        ("objectpath 'a'", "is not an object path"),
        ("signature '('", "not a D-Bus signature"),
        ("uint64 int32 5", "two types"),
        ("0x", "not a number"),
        ("08", "not a number"),
        ("--5", "not a number"),
        (r"'\ud800'", "no character"),
        (r"'\u00'", "no character"),
        (r"'\u0000'", "no character"),
        ("nothing", "neither a value nor a type"),
        ("[" * 100, "nested too deep"),
        ("<" * 100000, "nested too deep"),
    ],
)
def test_what_is_no_value(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="[](){}<>@'\"\\,: -+.0123456789abistuvyxint64uo\n", max_size=40))
def test_no_text_fails_otherwise(text: str) -> None:
    """Annotations come from whoever wrote the configuration: a value, or a ValueError, and nothing else."""
    try:
        kind, _ = parse(text)
    except ValueError:
        return
    assert len(split(kind)) == 1


def test_a_long_list_takes_no_longer_than_its_length() -> None:
    begun = time.process_time()
    kind, values = parse("[" + "1," * 200_000 + "1]")
    assert (kind, len(values)) == ("ai", 200_001)
    assert time.process_time() - begun < 5


@given(st.text())
def test_strings_come_back(text: str) -> None:
    if "\0" in text or not text.isprintable():
        return
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    assert parse(f"'{quoted}'") == ("s", text)
