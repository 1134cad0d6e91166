r"""GVariant text, in which annotations give properties of a unit, to a D-Bus type and a value.

GLib's "GVariant Text Format" without what D-Bus has no type for (maybe types, handles of nothing):

    value   := true | false | number | string | b'bytes' | [value, …] | (value, …) | {key: value, …} | <value>
    typed   := TYPEWORD value | @SIGNATURE value      TYPEWORD: byte int16 uint16 int32 uint32 int64 uint64
                                                      double string boolean objectpath signature
    number  := decimal, 0x…, 0… (octal), with a dot or an exponent a double
    string  := in single or double quotes; \n \t \\ \' \" \a \b \f \r \v, \uXXXX, \UXXXXXXXX

A number without a type is an int32, or takes the type of its neighbours in an array; b'…' is an array of bytes
that ends with a zero byte.
"""

from __future__ import annotations

from pyrunc.linux.cgroups.systemd.bus import fits, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_WORDS: Final = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "handle": "h", "uint32": "u",
    "int64": "x", "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_ESCAPES: Final = {"n": "\n", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "r": "\r", "v": "\v"}
_CLOSING: Final = {"[": "]", "(": ")", "{": "}"}
_INTEGERS: Final = "ynqiuxt"
#: Arrays in arrays that D-Bus allows (D-Bus specification, "Valid Signatures").
_DEEPEST: Final = 32

#: What was read, not yet of one type: kind ("bool", "int", "float", "text", "bytes", "[", "(", "{", "<"),
#: content, and the type it was given, "" for none.
if TYPE_CHECKING:
    Node = tuple[str, Any, str]


def parse(text: str) -> tuple[str, Any]:
    """Signature and value of `text`. Raises ValueError saying what is wrong, and where."""
    reader = _Reader(text)
    node = reader.value(0)
    if rest := reader.rest(20):
        raise ValueError(f"{rest!r} after the end of the value")
    return typed(node)


def typed(node: Node) -> tuple[str, Any]:
    """Signature and value of a node by itself."""
    kind = _natural(node)
    value = _as(node, kind)
    split(kind)  # some of what GVariant has, D-Bus has not, such as ()
    return kind, value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def rest(self, size: int = 1) -> str:
        """Up to `size` characters of what is left, from the next one that is no white space."""
        while self.text[self.place : self.place + 1].isspace():
            self.place += 1
        return self.text[self.place : self.place + size]

    def value(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise ValueError("is nested too deep")
        rest = self.rest(2)
        head = rest[:1]
        if not head:
            raise ValueError("a value is missing")
        if head in "'\"":
            return "text", self._string(), ""
        if rest in ("b'", 'b"'):
            self.place += 1
            return "bytes", self._bytes(), ""
        if head in _CLOSING:
            self.place += 1
            return head, self._elements(_CLOSING[head], depth, pairs=head == "{"), ""
        if head == "<":
            self.place += 1
            inner = self.value(depth + 1)
            self._skip(">")
            return "<", inner, ""
        if head == "@":
            self.place += 1
            return self._given(self._signature(), depth)
        if head.isalpha() and head.isascii():
            word = self._word(lambda letter: letter.isalnum() and letter.isascii())
            if word in ("true", "false"):
                return "bool", word == "true", ""
            if word in ("inf", "nan"):
                return "float", float(word), ""
            if word not in _WORDS or word == "handle":
                raise ValueError(f"{word!r} is neither a value nor a type (a string stands in quotes)")
            return self._given(_WORDS[word], depth)
        return self._number()

    def _given(self, kind: str, depth: int) -> Node:
        shape, content, given = self.value(depth + 1)
        if given and given != kind:
            raise ValueError(f"a value has two types, {kind} and {given}")
        return shape, content, kind

    def _word(self, belongs: Any) -> str:
        begin = self.place
        while self.place < len(self.text) and belongs(self.text[self.place]):
            self.place += 1
        return self.text[begin : self.place]

    def _signature(self) -> str:
        word = self._word(lambda letter: not letter.isspace())
        if len(split(word)) != 1:
            raise ValueError(f"@{word} is not one type")
        return word

    def _skip(self, expected: str) -> None:
        if self.rest() != expected:
            raise ValueError(f"{expected!r} is missing before {self.rest(20) or 'the end'!r}")
        self.place += 1

    def _elements(self, closing: str, depth: int, *, pairs: bool) -> list[Any]:
        found: list[Any] = []
        while self.rest() != closing:
            if found:
                self._skip(",")
                if self.rest() == closing and closing == ")":
                    break  # the tuple of one, (1,)
            element: Any = self.value(depth + 1)
            if pairs:
                self._skip(":")
                element = (element, self.value(depth + 1))
            found.append(element)
        self.place += 1
        return found

    def _number(self) -> Node:
        word = self._word(lambda letter: letter in "+-.0123456789abcdefABCDEFxX")
        sign = -1 if word[:1] == "-" else 1
        digits = word[1:] if word[:1] in ("+", "-") else word
        lower = digits.lower()
        if lower in ("inf", ""):
            raise ValueError(f"{self.text[self.place - len(word) :][:20]!r} is not a value")
        try:
            if lower[0] not in "0123456789.":
                raise ValueError
            if lower.startswith("0x"):
                return "int", sign * int(lower, 0), ""
            if lower.isdigit():
                return "int", sign * int(lower, 8 if lower[0] == "0" and len(lower) > 1 else 10), ""
            return "float", sign * float(digits), ""
        except ValueError:
            raise ValueError(f"{word!r} is not a number") from None

    def _quoted(self) -> str:
        """The text between quotes, escapes left as they are."""
        quote = self.text[self.place]
        begin = self.place = self.place + 1
        while self.place < len(self.text):
            letter = self.text[self.place]
            if letter == quote:
                self.place += 1
                return self.text[begin : self.place - 1]
            self.place += 2 if letter == "\\" else 1
        raise ValueError(f"a quote {quote} is not closed")

    def _string(self) -> str:
        raw = self._quoted()
        if "\0" in raw:
            raise ValueError("a string holds a zero byte")
        parts = raw.split("\\")
        text = parts[0]
        index = 1
        while index < len(parts):
            part = parts[index]
            if not part:  # a backslash that escapes the next one
                text += "\\" + parts[index + 1]
                index += 2
                continue
            if part[0] in "uU":
                size = 4 if part[0] == "u" else 8
                text += _character(part[1 : size + 1], size) + part[size + 1 :]
            else:
                text += _ESCAPES.get(part[0], part[0]) + part[1:]
            index += 1
        return text

    def _bytes(self) -> bytes:
        raw = self._quoted()
        found = bytearray()
        place = 0
        while place < len(raw):
            letter = raw[place]
            place += 1
            if letter != "\\":
                found += letter.encode()
                continue
            octal = raw[place : place + 3]
            if len(octal) == 3 and not octal.strip("01234567") and int(octal, 8) < 256:
                found.append(int(octal, 8))
                place += 3
            else:
                found += _ESCAPES.get(raw[place : place + 1], raw[place : place + 1]).encode()
                place += 1
        return bytes(found) + b"\0"


def _character(digits: str, size: int) -> str:
    try:
        number = int(digits, 16) if len(digits) == size else 0
    except ValueError:
        number = 0
    if not 0 < number < 0x110000 or 0xD800 <= number < 0xE000:
        raise ValueError(f"\\u{digits} is no character that a string can hold")
    return chr(number)


def _natural(node: Node) -> str:
    """The type that a value has by itself; "" for an empty array or dictionary without one."""
    shape, content, given = node
    if given:
        return given
    if shape in ("bool", "int", "float", "text", "bytes", "<"):
        return {"bool": "b", "int": "i", "float": "d", "text": "s", "bytes": "ay", "<": "v"}[shape]
    if shape == "(":
        return f"({''.join([_some(_natural(element)) for element in content])})"
    if shape == "[":
        return f"a{_common(content)}" if content else ""
    if not content:
        return ""
    return f"a{{{_common([key for key, _ in content])}{_common([value for _, value in content])}}}"


def _some(kind: str) -> str:
    if not kind:
        raise ValueError("an empty array needs a type, such as @as []")
    return kind


def _common(nodes: list[Node]) -> str:
    """The one type that all of `nodes` can have: a bare number gives way to a neighbour that says what it is."""
    kinds = [(_natural(node), _is_bare(node)) for node in nodes]
    certain = [kind for kind, bare in kinds if kind and not bare]
    bare = sorted([kind for kind, bare in kinds if bare])  # "d" before "i": one with a dot makes all double
    return _some((certain or bare or [""])[0])


def _is_bare(node: Node) -> bool:
    return node[0] in ("int", "float") and not node[2]


def _as(node: Node, kind: str) -> Any:
    """The value of `node` as the D-Bus type `kind`. Raises ValueError where it is none."""
    shape, content, given = node
    if given and given != kind:
        raise ValueError(f"a value of the type {given} stands where {kind or 'none'} is due")
    code = kind[:1]
    if shape == "int" and code in _INTEGERS and code:
        if not fits(code, content):
            raise ValueError(f"{content} does not fit the type {code}")
        return content
    if shape in ("int", "float") and code == "d":
        return float(content)
    if (shape, kind) in (("bool", "b"), ("bytes", "ay")) or (shape == "text" and kind in ("s", "o", "g")):
        if kind == "g":
            split(content)
        if kind == "o":
            _check_object_path(content)
        return content
    if shape == "<" and kind == "v":
        return typed(content)
    if shape == "[" and code == "a":
        return [_as(element, kind[1:]) for element in content]
    if shape == "(" and code == "(" and len(kinds := split(kind[1:-1])) == len(content):
        return tuple([_as(element, one) for element, one in zip(content, kinds, strict=True)])
    if shape == "{" and kind.startswith("a{"):
        key_kind, value_kind = split(kind[2:-1])
        return [(_as(key, key_kind), _as(value, value_kind)) for key, value in content]
    if not kind:
        raise ValueError("an empty array needs a type, such as @as []")
    raise ValueError(f"a value stands where one of the type {kind} is due")


def _check_object_path(path: str) -> None:
    parts = path.split("/")
    good = path == "/" or (parts[0] == "" and all(parts[1:]))
    if not good or not all(letter.isascii() and (letter.isalnum() or letter in "_/") for letter in path):
        raise ValueError(f"{path!r} is not an object path")
