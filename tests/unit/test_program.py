"""The program's text and bytes: what is written down is what init.h says."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrunc.plan import program as module
from pyrunc.plan import talk
from pyrunc.plan.program import ARENA, PAGE, Blank, Program, Register

if TYPE_CHECKING:
    from pyrunc.plan.program import Text

HEADER = Path(__file__).parents[2] / "pyrunc" / "native" / "init.h"


def define(name: str) -> int:
    found = re.search(rf"#define {name} (\w+)", HEADER.read_text())
    assert found
    return int(found[1].rstrip("UL"), 0)


def enumerators(kind: str) -> list[str]:
    found = re.search(rf"enum {kind} {{([^}}]*)}}", HEADER.read_text())
    assert found
    return [word.split("=")[0].strip() for word in found[1].rstrip().rstrip(",").split(",")]


def test_numbers_are_those_of_the_header() -> None:
    assert define("ARENA_ADDRESS") == module.ARENA
    assert define("STEPS_ADDRESS") == module.STEPS
    assert define("DETAIL_SIZE") == module.DETAIL_SIZE
    assert define("PAGE") == module.PAGE
    assert define("REGISTERS") == module.REGISTERS
    assert define("NO_REGISTER") == module.NO_REGISTER
    assert (define("ANY_ERRNO"),) == module.ANY
    for value, name in enumerate(enumerators("op")):
        assert getattr(module, name) == value
    for value, name in enumerate(enumerators("relation")):
        assert getattr(module, name.removeprefix("REL_")) == value
    for value, name in enumerate(enumerators("said"), 1):
        assert getattr(talk, name) == value


def steps_of(raw: bytes) -> list[tuple[int, ...]]:
    (count,) = struct.unpack_from("<I", raw, 8)
    return [struct.unpack_from("<HBBHBB4BI6Q", raw, PAGE + 64 * index) for index in range(count)]


def test_layout() -> None:
    program = Program()
    program.call("close", 5, step="close five")
    raw = program.encode()
    magic, count, _, arena_at, arena_size = struct.unpack_from("<8sIIQQ", raw)
    assert magic == module.MAGIC
    assert count == 1
    assert arena_at % PAGE == 0
    assert len(raw) == arena_at + arena_size
    assert steps_of(raw)[0][11] == 5


def test_equal_strings_share_an_address_and_buffers_do_not() -> None:
    program = Program()
    assert program.string("proc") == program.string(b"proc")
    assert program.buffer(8) != program.buffer(8)
    assert program.buffer(3) % 8 == 0
    array = program.strings(["a", "b"])
    raw = program.encode()
    (arena_at,) = struct.unpack_from("<Q", raw, 16)
    first, second, end = struct.unpack_from("<QQQ", raw, arena_at + array - ARENA)
    assert end == 0
    assert raw[arena_at + first - ARENA :][:2] == b"a\0"
    assert raw[arena_at + second - ARENA :][:2] == b"b\0"


def test_arguments() -> None:
    program = Program()
    register = program.register()
    program.call("openat", -100, "x", register, 0o644, step="open", into=register)
    step = steps_of(program.encode())[0]
    assert step[3] == 1 << 2
    assert step[2] == register.index
    assert step[11] == 2**64 - 100
    assert step[12] == program.string("x")
    assert step[13] == register.index


def test_labels_may_be_placed_later_and_must_be_placed() -> None:
    program = Program()
    later = program.label()
    program.jump(later)
    program.call("getpid", step="skipped")
    program.place(later)
    assert steps_of(program.encode())[0][10] == 2, "counted from the step itself"
    program.jump(program.label())
    with pytest.raises(ValueError, match="never placed"):
        program.encode()


def test_a_tolerated_errno_goes_on_at_the_next_step_by_default() -> None:
    program = Program()
    program.call("close", 1, step="close", tolerate=(2, 9))
    step = steps_of(program.encode())[0]
    assert step[6:10] == (2, 9, 0, 0)
    assert step[10] == 1


def test_registers_are_reused_after_release_and_the_first_two_are_taken() -> None:
    program = Program()
    taken = [program.register() for _ in range(module.REGISTERS - 2)]
    assert {0, 1}.isdisjoint(register.index for register in taken)
    with pytest.raises(IndexError):
        program.register()
    program.release(taken[7])
    assert program.register().index == taken[7].index
    assert isinstance(taken[0], Register)


def test_inherited_descriptors_come_after_those_of_the_container() -> None:
    program = Program(first_slot=5)
    assert program.inherit("talk") == 5
    assert program.inherit("program") == 6
    assert program.inherit("talk") == 5


HOLDER, POINT = Register(5), Register(9)


def emit_move(program: Program, name: Text, source: Text) -> None:
    program.call("mkdirat", HOLDER, name, 0o755, step="make", into=POINT, tolerate=(17, 30))
    program.load(POINT, module.ARENA, 8)
    program.call("open_tree", -100, source, 1, step="open", into=POINT)
    program.call("move_mount", POINT, "", HOLDER, name, 4, step="move")


def test_a_filled_pattern_is_what_plain_steps_are() -> None:
    pairs = [("a", "/src"), ("b", "/src"), ("/src", "a"), ("é\udcff", ""), ("a", "c")]
    plain, filled = Program(), Program()
    for program in (plain, filled):
        program.call("getpid", step="before")
    for name, source in pairs:
        emit_move(plain, name, source)
    pattern = filled.pattern(lambda: emit_move(filled, Blank(0), Blank(1)))
    assert len(filled) == 1, "a pattern is not in the program"
    for index, (name, source) in enumerate(pairs):
        filled.fill(pattern, f"mount {index}", f"mounts[{index}]", name, source)
    for program in (plain, filled):
        program.call("getpid", step="after")
    assert len(filled) == len(plain) == 22
    # The constant "" of the pattern is interned when it is made, so strings may lie in another order.
    assert meaning(filled) == meaning(plain)
    assert filled.calls == plain.calls


def meaning(program: Program) -> list[tuple[object, ...]]:
    """Each step's bytes, with addresses of strings replaced by the strings."""
    raw = program.encode()
    (arena_at,) = struct.unpack_from("<Q", raw, 16)
    arena = raw[arena_at:]
    shown: list[tuple[object, ...]] = []
    for step in steps_of(raw):
        arguments = [
            arena[value - ARENA :].split(b"\0")[0] if ARENA < value < ARENA + len(arena) else value
            for value in step[11:]
        ]
        shown.append((*step[:11], *arguments))
    return shown


def test_the_labels_of_a_pattern_are_those_of_each_filling() -> None:
    program = Program()

    def emit() -> None:
        program.call("close", HOLDER, step="")
        program.call("close", HOLDER, step=": twice")

    pattern = program.pattern(emit)
    program.call("getpid", step="first", of="a")
    program.fill(pattern, "one", "b[0]")
    program.fill(pattern, "two", "b[1]")
    program.call("getpid", step="last", of="c")
    texts = [
        ("first", "a"),
        ("one", "b[0]"),
        ("one: twice", "b[0]"),
        ("two", "b[1]"),
        ("two: twice", "b[1]"),
        ("last", "c"),
    ]
    assert program.texts == texts
    for index in range(len(texts)):
        assert program.texts_from(index) == texts[index:]
        assert program.text(index) == texts[index]
    assert program.texts_from(len(texts)) == []


def test_labels_count_over_filled_patterns() -> None:
    program = Program()
    pattern = program.pattern(lambda: program.call("close", Blank(0), step=""))
    end = program.label()
    program.jump(end)
    for index in range(3):
        program.fill(pattern, "close", "", index)
    program.place(end)
    steps = steps_of(program.encode())
    assert steps[0][10] == 4
    assert [step[11] for step in steps[1:]] == [0, 1, 2]


def test_misuse_of_patterns_is_refused() -> None:
    program = Program()
    label = program.label()
    with pytest.raises(ValueError, match="a branch in a pattern"):
        program.pattern(lambda: program.jump(label))
    with pytest.raises(ValueError, match="a label in a pattern"):
        program.pattern(lambda: program.place(label))
    pattern = program.pattern(lambda: program.call("close", Blank(0), step=""))
    for values in ((), (1, 2)):
        with pytest.raises(ValueError, match="values for 1 blanks"):
            program.fill(pattern, "close", "", *values)
    program.place(label)
    program.call("close", Blank(0), step="close")
    with pytest.raises(ValueError, match="a blank outside of a pattern"):
        program.encode()
