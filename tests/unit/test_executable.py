"""The environment, HOME, the candidates for the program, and what explains a failed execve."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrunc.linux import environment, executable
from pyrunc.linux.exec_failure import explain_exec_failure, interpreter_of, loader_of, machine_of
from pyrunc.plan.host import Host
from pyrunc.plan.program import ARENA, Program

HOST = Host(0, 0, False, {})


def test_last_duplicate_wins() -> None:
    assert environment.environment(["A=1", "B=2", "A=3", "C", "A=4=5"]) == ["B=2", "C", "A=4=5"]


def arena(program: Program) -> bytes:
    raw = program.encode()
    return raw[struct.unpack_from("<Q", raw, 16)[0] :]


def strings_at(program: Program, address: int) -> list[str]:
    """The strings of the NULL-terminated array at `address`."""
    memory, found = arena(program), []
    while pointer := struct.unpack_from("<Q", memory, address - ARENA)[0]:
        start = pointer - ARENA
        found.append(memory[start : memory.index(0, start)].decode())
        address += 8
    return found


@pytest.mark.parametrize("env,home", [(["A=1"], True), (["A=1", "HOME="], True), (["HOME=/x"], False)])
def test_envp(env: list[str], home: bool) -> None:
    program = Program()
    config: Any = {"process": {"env": env}}
    envp, buffer = environment.plan(config, program, ["LISTEN_PID=1"])
    assert bool(buffer) is home
    given = strings_at(program, envp)
    assert "LISTEN_PID=1" in given
    assert [entry for entry in given if entry.startswith("HOME")] == (["HOME=/"] if home else ["HOME=/x"])
    if home:
        assert arena(program)[buffer - ARENA : buffer - ARENA + 2] == b"/\0"
        assert len(arena(program)) >= buffer - ARENA + environment.HOME_SIZE


@pytest.mark.parametrize(
    "passwd,uid,home",
    [
        (b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", 1000, "/home/ann"),
        (b"root:x:0:0:root:/root:/bin/sh", 0, "/root"),
        (b"root:x:0:0:root:/root:/bin/sh\n", 5, "/"),
        (b"a:x:00:0::/no:/bin/sh\nb:x: 0:0::/no:\n", 0, "/"),
        (b"a:x:0:0::relative:/bin/sh\n", 0, "/"),
        (b"a:x:0:0:::\n", 0, "/"),
        (b"short:x:0\n::\n\xff\nok:x:0:0::/\xff:/\n", 0, "/\udcff"),
        (b"a:x:0:0::/" + b"y" * 5000 + b":/\n", 0, "/"),
        (b"", 0, "/"),
    ],
)
def test_find_home(passwd: bytes, uid: int, home: str) -> None:
    assert environment.find_home(passwd, uid) == home


@given(st.binary(max_size=200), st.integers(0, 70000))
@settings(max_examples=200, deadline=None)
def test_find_home_of_anything(passwd: bytes, uid: int) -> None:
    home = os.fsencode(environment.find_home(passwd, uid))
    assert home.startswith(b"/") and b"\0" not in home and len(home) < environment.HOME_SIZE - 1


@pytest.mark.parametrize(
    "name,env,expected",
    [
        ("/bin/x", ["PATH=/a"], ["/bin/x"]),
        ("./x", ["PATH=/a"], ["./x"]),
        ("x", ["PATH=/a:/b/:/a"], ["/a/x", "/b/x"]),
        ("x", ["PATH=/a", "PATH=/b"], ["/b/x"]),
        ("x", ["PATH=:/a"], ["./x", "/a/x"]),
        ("x", ["PATH="], ["./x"]),
        ("x", ["PATH=/"], ["/x"]),
        ("x", [], [f"{folder}/x" for folder in executable.DEFAULT_PATH.split(":")]),
        ("", ["PATH=/a"], []),
    ],
)
def test_candidates(name: str, env: list[str], expected: list[str]) -> None:
    assert executable.candidates({"cwd": "/", "args": [name], "env": env}) == expected


def test_a_path_is_tried_once() -> None:
    program = Program()
    executable.plan_find({"process": {"args": ["/x"], "cwd": "/"}}, HOST, program)  # type: ignore[typeddict-item]
    assert [name for name, _ in program.calls].count("statx") == 1
    assert [step for step, _ in program.texts if step.startswith("exec:")] == [
        'exec: "/x": stat /x',
        'exec: "/x"',
    ]


# -- why execve failed -------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield tmp_path, fd
    os.close(fd)


def put(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    (folder / name).chmod(0o755)
    return f"/{name}"


def elf(machine: int, loader: bytes = b"", wide: bool = True) -> bytes:
    """An ELF header with one program header, PT_INTERP, where `loader` is given."""
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    count = 1 if loader else 0
    if wide:
        header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
        table = (
            struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(loader) + 1, len(loader) + 1, 1) if loader else b""
        )
    else:
        header = ident + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, count, 0, 0, 0)
        table = (
            struct.pack("<IIIIIIII", 3, 84, 0, 0, len(loader) + 1, len(loader) + 1, 4, 1) if loader else b""
        )
    return header + table + loader + b"\0"


def test_missing_interpreter(root: tuple[Path, int]) -> None:
    path = put(root[0], "script", b"#! /no/such/sh -e\necho\n")
    text = explain_exec_failure(root[1], [path], errno.ENOENT)
    assert text == '/script is a script and its interpreter "/no/such/sh" does not exist in the container'


def test_interpreter_with_carriage_return(root: tuple[Path, int]) -> None:
    put(root[0], "sh", b"")
    path = put(root[0], "script", b"#!/sh\r\necho\n")
    assert '"/sh\r"' in explain_exec_failure(root[1], [path], errno.ENOENT)


@pytest.mark.parametrize("wide", [True, False])
def test_missing_loader(root: tuple[Path, int], wide: bool) -> None:
    path = put(root[0], "program", elf(62, b"/lib64/ld-nosuch.so.2", wide))
    text = explain_exec_failure(root[1], [path], errno.ENOENT)
    assert (
        text
        == '/program needs the program loader "/lib64/ld-nosuch.so.2", which does not exist in the container'
    )


def test_loader_is_looked_up_inside_the_root(root: tuple[Path, int]) -> None:
    """The host has a /bin/sh; the container's absolute link leads nowhere inside."""
    path = put(root[0], "script", b"#!/sh\n")
    (root[0] / "sh").symlink_to("/bin/sh")
    assert '"/sh" does not exist' in explain_exec_failure(root[1], [path], errno.ENOENT)


def test_interpreter_that_is_not_executable(root: tuple[Path, int]) -> None:
    put(root[0], "sh", b"x")
    (root[0] / "sh").chmod(0o644)
    path = put(root[0], "script", b"#!/sh\n")
    assert (
        explain_exec_failure(root[1], [path], errno.EACCES) == '"/sh", which /script needs, is not executable'
    )


@pytest.mark.parametrize(
    "content,words",
    [
        (b"", "is empty"),
        (b"echo hi\n", 'neither an ELF program nor a script that begins with "#!"'),
        (b"#!\n", "names no interpreter"),
        (elf(243), "is a program for riscv64, and this machine is x86_64"),
        (elf(4711), "is a program for machine 4711"),
        (elf(62)[:30], "damaged ELF"),
    ],
)
def test_no_format(root: tuple[Path, int], content: bytes, words: str) -> None:
    path = put(root[0], "program", content)
    assert words in explain_exec_failure(root[1], [path], errno.ENOEXEC)


def test_first_regular_file_counts(root: tuple[Path, int]) -> None:
    (root[0] / "a").mkdir()
    (root[0] / "a" / "x").mkdir()
    os.mkfifo(root[0] / "x")
    (root[0] / "b").mkdir()
    put(root[0], "b/x", b"")
    assert (
        explain_exec_failure(root[1], ["/no/x", "/a/x", "/x", "x"], errno.ENOEXEC, cwd="/b") == "x is empty"
    )
    assert explain_exec_failure(root[1], ["/x", "/no"], errno.ENOEXEC) == ""


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_hostile_files(tail: bytes) -> None:
    for head in (b"\x7fELF\x02\x01" + tail, b"\x7fELF\x01\x02" + tail, b"#!" + tail):
        assert b"\0" not in loader_of(head) + interpreter_of(head)
        machine_of(head)


def test_absurd_offsets() -> None:
    assert loader_of(b"\x7fELF\x02\x01" + b"\xff" * 100) == b""
