"""The wire format of Protocol Buffers, as far as criu's messages need it (protobuf.dev "Encoding").

A message is a dict. Its *shape* maps the name of each field to its number and its kind: `INTEGER` (every integer, bool
and enum type: a varint), `TEXT` (UTF-8; what is not comes and goes as lone surrogates), or the shape of a message in
it. A list as value means a repeated field. All that is needed of it is this page; the well-known library would be a
dependency at run time, and a compiler at build time.
"""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final, Union

    Kind = Union[str, "Shape"]
    Shape = Mapping[str, tuple[int, Kind]]

INTEGER: Final = "integer"
TEXT: Final = "text"

#: The wire types: a varint, 8 bytes, a length and so many bytes, 4 bytes.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
#: A negative int32 is sent as the 64 bits of its two's complement.
_WORD: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
#: A varint of 64 bits has at most so many bytes.
_VARINT_MAX: Final = 10


def encode(shape: Shape, message: Mapping[str, Any]) -> bytes:
    """The bytes of `message`; a field whose value is None is left out. Raises KeyError for a field it cannot have."""
    out = bytearray()
    for name, value in message.items():
        number, kind = shape[name]
        if value is not None:
            for one in value if isinstance(value, list) else (value,):
                out += _field(number, kind, one)
    return bytes(out)


def _field(number: int, kind: Kind, value: Any) -> bytes:
    if kind == INTEGER:
        return _varint(number << 3 | _VARINT) + _varint(int(value) & _WORD)
    if isinstance(kind, str):
        raw = str(value).encode("utf-8", "surrogateescape")
    else:
        raw = encode(kind, value)
    return _varint(number << 3 | _LENGTH) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(shape: Shape, raw: bytes) -> dict[str, Any]:
    """The message in `raw`. Fields that the shape does not have are skipped, of one given twice the last one counts.

    Raises PyruncError where the bytes are no message.
    """
    names = {number: (name, kind) for name, (number, kind) in shape.items()}
    found: dict[str, Any] = {}
    place = 0
    while place < len(raw):
        tag, place = _read_varint(raw, place)
        value, place = _read_value(raw, place, tag & 7)
        name, kind = names.get(tag >> 3, ("", INTEGER))
        if not name:
            continue
        if (kind == INTEGER) != isinstance(value, int):
            raise _damaged(f"{name} is of another type")
        if isinstance(value, int):
            found[name] = value - (1 << 64) if value & _SIGN else value
        else:
            found[name] = (
                value.decode("utf-8", "surrogateescape") if isinstance(kind, str) else decode(kind, value)
            )
    return found


def _read_value(raw: bytes, place: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _read_varint(raw, place)
    if wire == _LENGTH:
        size, place = _read_varint(raw, place)
    elif wire in (_FIXED64, _FIXED32):
        size = 8 if wire == _FIXED64 else 4
    else:
        raise _damaged(f"wire type {wire}")
    if size > len(raw) - place:
        raise _damaged("it ends too early")
    return raw[place : place + size], place + size


def _read_varint(raw: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT_MAX):
        if place == len(raw):
            raise _damaged("it ends too early")
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & _WORD, place
    raise _damaged("an integer is too long")


def _damaged(why: str) -> PyruncError:
    return PyruncError(f"criu sent what is no message: {why}", code="criu")
