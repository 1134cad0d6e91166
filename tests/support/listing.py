"""The text of a compiled program, for golden tests: a step a line, without anything that moves when others change.

Steps have no numbers, targets count from the step itself, and in place of an address stands what lies there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from errno import errorcode
from struct import unpack_from
from typing import Any

from pyrunc.plan.program import (
    ARENA,
    MASK,
    NO_REGISTER,
    OP_BRANCH,
    OP_CALL,
    STEP,
    STEP_AT_TARGET,
    Program,
    Register,
)

RELATIONS = ("==", "!=", "<", ">=", "has a bit of")
#: Tolerated whatever it is.
ANY_ERRNO = 255
#: How many 8-byte words of a structure are shown.
WORDS_MAX = 16
#: How many steps away a target may be to be given as a number.
NEAR = 12


class RecordedProgram(Program):
    """A program that remembers what lies where in its arena."""

    def __init__(self, first_slot: int = 3) -> None:
        super().__init__(first_slot)
        self.lies: dict[int, bytes] = {}
        self.folded: dict[bytes, int] = {}

    def fold(self) -> int:
        """As `Program.fold`."""
        self.folded.update(self._interned)
        return super().fold()

    def data(self, raw: bytes, align: int = 8) -> int:
        """As `Program.data`."""
        address = super().data(raw, align)
        self.lies[address] = bytes(raw)
        return address


def listing(program: RecordedProgram) -> str:
    """The descriptors that init is given, then label and JSON path of each step, and below its system calls."""
    program.encode()  # every label is placed, and targets are known
    lines = [f"descriptor {number}: {name}" for name, number in program.slots.items()]
    title = ""
    for index, ((name, args), (label, of)) in enumerate(zip(program.calls, program.texts, strict=True)):
        above, title = title, f"{label} [{of}]" if of else label or title
        if title != above:
            lines.append(title)
        lines.append("  " + _operation(program, index, name, args))
    return "\n".join(lines) + "\n"


def _operation(program: RecordedProgram, index: int, name: str, args: Sequence[Any]) -> str:
    code = bytes(program._code[index * STEP : (index + 1) * STEP])
    number, op, result = unpack_from("<HBB", code)
    tolerated = [errno for errno in code[8:12] if errno]
    (target,) = unpack_from("<i", code, STEP_AT_TARGET)
    words = [_argument(program, argument) for argument in args]
    if op == OP_BRANCH:
        test = "" if name == "jump" else f"if {words[0]} {RELATIONS[number]} {words[1]} "
        return test + _going(program, index, target)
    text = f"{name}({', '.join(words)})"
    if op != OP_CALL and name in ("load", "store"):
        text = f"{name}{8 * number}({', '.join(words)})"
    if result != NO_REGISTER:
        text += f" -> r{result}"
    if tolerated:
        text += " or " + "|".join("any" if e == ANY_ERRNO else errorcode[e] for e in tolerated)
        if target != 1:
            text += ": " + _going(program, index, target)
    return text


def _going(program: RecordedProgram, index: int, target: int) -> str:
    """Where a step goes to: a few steps on, or to a place that is known by its label."""
    if abs(target) <= NEAR:
        return f"go {target:+}"
    labels = [label for label, _ in program.texts[index + target :] if label]
    return f'go to "{labels[0]}"' if labels else "go to the end"


def _argument(program: RecordedProgram, value: Any) -> str:
    if isinstance(value, Register):
        return f"r{value.index}"
    if isinstance(value, (str, bytes)):
        return _quoted(value)
    if ARENA <= value < ARENA + len(program._arena):
        return _pointed(program, value)
    signed = value - (1 << 64) if value > MASK >> 1 else value
    return str(signed) if -4096 <= signed < 1024 else hex(value & MASK)


def _pointed(program: RecordedProgram, address: int) -> str:
    """What lies at `address`: a string, or a structure as 8-byte words, with what these point to."""
    for text, at in (*program._interned.items(), *program.folded.items()):
        if at == address:
            return _quoted(text)
    for at, raw in program.lies.items():
        if at <= address < at + max(len(raw), 1):
            offset = f"+{address - at}" if address > at else ""
            return f"&{_structure(program, raw)}{offset}"
    return "&detail" if address < ARENA + 256 else "&?"


def _structure(program: RecordedProgram, raw: bytes) -> str:
    if not any(raw):
        return f"{{{len(raw)} bytes}}"
    words = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]
    while words and not words[-1]:
        words.pop()
    shown = [_argument(program, word) for word in words[:WORDS_MAX]]
    more = ", …" if len(words) > WORDS_MAX else ""
    return f"{{{', '.join(shown)}{more}; {len(raw)} bytes}}"


def _quoted(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return json.dumps(text, ensure_ascii=False)
