"""The interpreter itself, compiled with sanitizers: each operation, errno policy, reports, nonsense programs."""

from __future__ import annotations

import errno
import random
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from pyrunc.plan.program import ANY, ARENA, BITS, DETAIL, EQ, GE, LT, NE, PAGE, Program

HERE = Path(__file__).parent
FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("native") / "interpreter"
    subprocess.run(
        ["cc", *FLAGS, "-fno-sanitize-recover=all", "-o", binary, HERE / "interpreter.c"], check=True
    )
    return binary


def run(
    interpreter: Path, program: Program | bytes, tmp_path: Path, talk: int | None = None
) -> tuple[int, list[int], str]:
    raw = program if isinstance(program, bytes) else program.encode()
    path = tmp_path / "program"
    path.write_bytes(raw)
    words = [str(interpreter), str(path)] + ([] if talk is None else [str(talk)])
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=20, pass_fds=() if talk is None else (talk,)
    )
    assert "Sanitizer" not in done.stderr, done.stderr
    return done.returncode, [int(word) for word in done.stdout.split()], done.stderr


def test_operations(interpreter: Path, tmp_path: Path) -> None:
    program = Program()
    a, b, c = program.register(), program.register(), program.register()
    skipped = program.label()
    cell = program.buffer(8)
    program.set(a, -5)
    program.store(cell, 0x11223344AABBCCDD, 8)
    program.load(b, cell, 1)
    program.load(c, cell, 4)
    program.branch(a, LT, 0, skipped)
    program.set(a, 99)
    program.place(skipped)
    status, registers, _ = run(interpreter, program, tmp_path)
    assert status == 0
    assert (registers[a.index], registers[b.index], registers[c.index]) == (-5, 0xDD, 0xAABBCCDD)


@pytest.mark.parametrize(
    ("relation", "left", "right", "taken"),
    [
        (EQ, 3, 3, True),
        (EQ, 3, 4, False),
        (NE, 3, 4, True),
        (NE, 3, 3, False),
        (LT, -1, 0, True),
        (LT, 0, 0, False),
        (GE, 0, 0, True),
        (GE, -1, 0, False),
        (BITS, 6, 2, True),
        (BITS, 4, 3, False),
    ],
)
def test_relations(
    interpreter: Path, tmp_path: Path, relation: int, left: int, right: int, taken: bool
) -> None:
    program = Program()
    value, mark = program.register(), program.register()
    target = program.label()
    program.set(value, left)
    program.set(mark, 1)
    program.branch(value, relation, right, target)
    program.set(mark, 0)
    program.place(target)
    assert run(interpreter, program, tmp_path)[1][mark.index] == taken


def test_a_call_gives_its_result_and_a_tolerated_errno(interpreter: Path, tmp_path: Path) -> None:
    program = Program()
    ok, refused, other = program.register(), program.register(), program.register()
    elsewhere = program.label()
    program.call("write", 2, "seen\n", 5, step="write", into=ok)
    program.call("close", 999, step="close nothing", into=refused, tolerate=(errno.ENOENT, errno.EBADF))
    program.call("close", 999, step="close nothing", tolerate=ANY, otherwise=elsewhere)
    program.set(other, 1)
    program.place(elsewhere)
    status, registers, stderr = run(interpreter, program, tmp_path)
    assert (status, stderr) == (0, "seen\n")
    assert (registers[ok.index], registers[refused.index], registers[other.index]) == (5, -errno.EBADF, 0)


def test_a_failure_is_reported_whole(interpreter: Path, tmp_path: Path) -> None:
    program = Program()
    program.call("getpid", step="nothing")
    program.store(ARENA, int.from_bytes(b"why\0", "little"), 4)
    program.set(DETAIL, 3)
    program.call("openat", -100, "/nonexistent", 0, 0, step="open a file")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        status, _, _ = run(interpreter, program, tmp_path, theirs.fileno())
        said = ours.recv(400)
    assert status == 1
    assert struct.unpack("<IIq", said[:16]) == (1, 3, errno.ENOENT)
    assert said[16:] == b"why"


def test_fail_takes_an_errno_either_way_round(interpreter: Path, tmp_path: Path) -> None:
    for number in (errno.EPERM, -errno.EPERM):
        program = Program()
        program.fail(number, "give up")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            assert run(interpreter, program, tmp_path, theirs.fileno())[0] == 1
            assert struct.unpack("<IIq", ours.recv(16)) == (1, 0, errno.EPERM)


def test_fork_is_a_call_and_a_branch(interpreter: Path, tmp_path: Path) -> None:
    program = Program()
    pid, status = program.register(), program.register()
    child = program.label()
    cell = program.buffer(8)
    program.call("clone", 17, 0, 0, 0, 0, step="fork", into=pid)
    program.branch(pid, EQ, 0, child)
    program.call("wait4", pid, cell, 0, 0, step="wait")
    program.load(status, cell, 4)
    end = program.label()
    program.jump(end)
    program.place(child)
    program.call("exit_group", 7, step="leave")
    program.place(end)
    assert run(interpreter, program, tmp_path)[1][status.index] == 7 << 8


def test_nonsense_never_breaks_the_interpreter(interpreter: Path, tmp_path: Path) -> None:
    """Random step tables whose calls are harmless: any target, register and errno byte, but no memory operand."""
    generator = random.Random(20)
    for _ in range(150):
        count = generator.randint(0, 12)
        steps = b""
        for index in range(count):
            op = generator.choice([0, 1, 2, 5, 77])
            number = 39 if op == 0 else generator.randint(0, 9)  # getpid
            target = generator.choice([1, count - index, count + 5, 2**31 - 1])  # forward: it ends
            steps += struct.pack(
                "<HBBHBB4BI6Q",
                number,
                op,
                generator.choice([0xFF, 3, 63, 64, 200]),
                generator.getrandbits(16),
                0,
                0,
                *(generator.randint(0, 255) for _ in range(4)),
                target,
                *(generator.getrandbits(64) for _ in range(6)),
            )
        arena_at = PAGE + len(steps) + (-len(steps) % PAGE)
        header = struct.pack("<8sIIQQ", b"PYRUNC\0\1", count, 0, arena_at, 512)
        raw = header.ljust(PAGE, b"\0") + steps.ljust(arena_at - PAGE, b"\0") + bytes(512)
        assert run(interpreter, raw.ljust(PAGE * 3, b"\0"), tmp_path)[0] in (0, 1)
