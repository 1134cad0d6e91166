"""The wire format of criu's messages: the examples of protobuf.dev "Encoding", there and back, and damaged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.errors import PyruncError
from pyrunc.linux.criu import rpc
from pyrunc.linux.criu.wire import INTEGER, TEXT, decode, encode

if TYPE_CHECKING:
    from pyrunc.linux.criu.wire import Shape

SHAPE: Shape = {
    "a": (1, INTEGER),
    "b": (2, TEXT),
    "c": (3, {"a": (1, INTEGER), "d": (4, TEXT)}),
    "far": (536870911, INTEGER),
}


@pytest.mark.parametrize(
    ("message", "raw"),
    [
        ({}, ""),
        ({"a": 0}, "0800"),
        ({"a": 150}, "089601"),
        ({"a": -2}, "08feffffffffffffffff01"),
        ({"a": True}, "0801"),
        ({"b": "testing"}, "120774657374696e67"),
        ({"b": ""}, "1200"),
        ({"c": {"a": 150}}, "1a03089601"),
        ({"a": None, "b": "é"}, "1202c3a9"),
        ({"a": [1, 2]}, "08010802"),
        ({"c": [{"a": 1}, {}]}, "1a0208011a00"),
        ({"far": 1}, "f8ffffff0f01"),
    ],
)
def test_bytes(message: dict[str, Any], raw: str) -> None:
    assert encode(SHAPE, message).hex() == raw


_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-(1 << 63), (1 << 63) - 1),
        "b": st.text() | st.just("\udcff"),
        "c": st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "d": st.text()}),
        "far": st.integers(-(1 << 31), (1 << 31) - 1),
    },
)


@given(_MESSAGES)
def test_there_and_back(message: dict[str, Any]) -> None:
    assert decode(SHAPE, encode(SHAPE, message)) == message


def test_what_is_not_known_is_skipped() -> None:
    """A newer criu may say more: of every wire type."""
    raw = bytes.fromhex("200129010203040506070832036162633d01020304089601")
    assert decode(SHAPE, raw) == {"a": 150}


def test_of_a_field_given_twice_the_last_counts() -> None:
    assert decode(SHAPE, bytes.fromhex("08010802")) == {"a": 2}


@pytest.mark.parametrize(
    "raw",
    [
        "08",
        "0880",
        "12",
        "1205616263",
        "1a0208",
        "0b",
        "0f",
        "08" + "ff" * 10,
        "0a0161",
        "1001",
        "1a05ff",
        "2101",
    ],
)
def test_damaged(raw: str) -> None:
    with pytest.raises(PyruncError, match="no message"):
        decode(SHAPE, bytes.fromhex(raw))


@given(st.binary(max_size=64))
def test_anything_is_a_message_or_an_error(raw: bytes) -> None:
    try:
        rpc.response(raw)
    except PyruncError:
        pass


def test_a_field_that_no_message_has() -> None:
    with pytest.raises(KeyError):
        rpc.request(rpc.DUMP, opts={"pidd": 1})


def test_a_request() -> None:
    """What criu's own rpc.proto makes of it: type 1 in field 1; in field 2 pid 7 (field 2) and a mount (field 23)."""
    raw = rpc.request(rpc.DUMP, opts={"pid": 7, "ext_mnt": [{"key": "/k", "val": "/v"}], "ps": None})
    assert raw.hex() == "0801120d1007ba01080a022f6b12022f76"
