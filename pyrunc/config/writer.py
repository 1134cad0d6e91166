"""Write JSON without importing `json`, in exactly the form of `json.dumps`."""

from __future__ import annotations

try:
    from _json import encode_basestring_ascii as quote
except ImportError:  # an interpreter without C accelerators
    from json.encoder import py_encode_basestring_ascii as quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["dumps", "quote"]

_INFINITY = float("inf")


def dumps(value: object, indent: int | None = None, *, compact: bool = False) -> str:
    """`value` as JSON: on one line (`compact`: without any space), or with `indent` spaces per level.

    Everything beyond ASCII is escaped, so the text survives any locale. Raises TypeError for other types than JSON's
    (keys must be strings), ValueError for NaN and Infinity, which JSON does not have.
    """
    parts: list[str] = []
    space = "" if compact else " "
    _write(value, parts.append, None if indent is None else " " * indent, "\n", space)
    return "".join(parts)


def _write(value: Any, put: Any, indent: str | None, line: str, space: str) -> None:
    if value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, str):
        put(quote(value))
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, dict):
        inner = line if indent is None else line + indent
        before, between = ("{", "," + space) if indent is None else ("{" + inner, "," + inner)
        for name, below in value.items():
            put(before)
            if not isinstance(name, str):
                raise TypeError(f"a JSON name must be a string, not {name!r}")
            put(quote(name))
            put(":" + space)
            _write(below, put, indent, inner, space)
            before = between
        put("{}" if not value else "}" if indent is None else line + "}")
    elif isinstance(value, (list, tuple)):
        inner = line if indent is None else line + indent
        before, between = ("[", "," + space) if indent is None else ("[" + inner, "," + inner)
        for below in value:
            put(before)
            _write(below, put, indent, inner, space)
            before = between
        put("[]" if not value else "]" if indent is None else line + "]")
    elif isinstance(value, float):
        if not -_INFINITY < value < _INFINITY:  # false for NaN too
            raise ValueError(f"JSON has no {value}")
        put(float.__repr__(value))
    else:
        raise TypeError(f"no JSON for {value!r}")
