"""The program's text and bytes: what is written down is what init.h says."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from pyrunc.plan import program as module
from pyrunc.plan import talk
from pyrunc.plan.program import ARENA, PAGE, Program, Register

HEADER = Path(__file__).parents[2] / "pyrunc" / "native" / "init.h"


def define(name: str) -> int:
    found = re.search(rf"#define {name} (\w+)", HEADER.read_text())
    assert found
    return int(found[1].rstrip("UL"), 0)


def enumerators(kind: str) -> list[str]:
    found = re.search(rf"enum {kind} {{([^}}]*)}}", HEADER.read_text())
    assert found
    return [word.split("=")[0].strip() for word in found[1].split(",")]


def test_numbers_are_those_of_the_header() -> None:
    assert define("ARENA_ADDRESS") == module.ARENA
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
    assert steps_of(program.encode())[0][10] == 2
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
