"""Terminals: the console socket, the foreground, sizes, and what is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import termios
import time
from collections.abc import Iterator
from typing import IO

import pytest

from tests.support import footprint
from tests.support.runtime import Container, Running, Runtime, wait_for
from tests.support.terminal import ConsoleSocket, Master


def terminal_bundle(runtime: Runtime, *questions: str):  # type: ignore[no-untyped-def]
    """A bundle whose process has a terminal."""
    bundle = runtime.bundle().ask(*questions)
    bundle.process["terminal"] = True
    return bundle


def test_console_socket(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "tty", "stat /dev/console", "fds", "sleep")
    bundle.process["consoleSize"] = {"height": 33, "width": 111}
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.create("--console-socket", str(socket.path)).ok()
        master = socket.receive()
        assert container.out == "" and container.err == ""  # nothing was written where the runtime's stdio is
        termios.tcgetattr(master.fd)  # conmon does this first
        assert termios.tcgetwinsize(master.fd) == (33, 111)
        container.start().ok()
        master.read("ready")
        said = master_answers(master)
        tty = said["tty"]
        assert tty["isatty"] == [True, True, True] and tty["size"] == [33, 111]
        assert tty["session"] == tty["sid"] == 1
        assert tty["name"] in ("/dev/pts/0", "/dev/console")
        console = said["stat /dev/console"]
        assert console["type"] == "char" and console["rdev"] == [136, 0]
        assert sorted(said["fds"]) == ["0", "1", "2"]
        container.kill("TERM").ok()
        container.stops()
        master.read()  # the end: nobody else holds the slave
        container.delete().ok()
    before.assert_unchanged()


def master_answers(master: Master):  # type: ignore[no-untyped-def]
    """What was said on a terminal so far."""
    from tests.support.payload import Testimony

    return Testimony(master.text.replace("\r\n", "\n"))


def test_echo(runtime: Runtime) -> None:
    """What is typed reaches the process, and is echoed by the line discipline."""
    bundle = runtime.bundle().shell("read line; echo got $line")
    bundle.process["terminal"] = True
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        master = socket.receive()
        master.write("hello\n")
        text = master.read("got hello\r\n")
        assert "hello\r\ngot hello\r\n" in text


def test_interrupt_key(runtime: Runtime) -> None:
    """The process is the terminal's foreground group: ^C becomes SIGINT."""
    bundle = terminal_bundle(runtime, "signals")
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        master = socket.receive()
        master.read("ready")
        master.write("\x03")
        master.read('"signal","answer":2}')
        master.resize(50, 60)
        master.read('"signal","answer":28}')


@pytest.mark.needs_root
def test_terminal_belongs_to_the_user(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "stat /dev/pts/0", "open /dev/tty rw")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        said = socket.receive().answers()
        assert said["stat /dev/pts/0"]["uid"] == 1000
        assert said["open /dev/tty rw"] == 0


@pytest.mark.needs_root
def test_terminal_in_a_user_namespace(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "tty").map_ids()
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        assert socket.receive().answers()["tty"]["isatty"] == [True, True, True]


def test_readonly_root_with_terminal(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "tty")
    bundle.config["root"]["readonly"] = True
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        assert socket.receive().answers()["tty"]["isatty"] == [True, True, True]


# -- foreground ------------------------------------------------------------------------------------------


class Screen:
    """A pty on which the runtime runs in the foreground, as in a person's terminal."""

    def __init__(self) -> None:
        self.parent, self.child = pty.openpty()
        self.master = Master(self.parent)
        termios.tcsetwinsize(self.child, (40, 90))

    def run(self, runtime: Runtime, bundle) -> Running:  # type: ignore[no-untyped-def]
        """`run` with this as its controlling terminal."""
        id = runtime.new_id()
        words = ["run", "--bundle", runtime.put(bundle, id), id]
        twin = runtime.like()
        twin.prefix = ["setsid", "--ctty", "--wait", *twin.prefix]
        with open(os.dup(self.child), "wb", buffering=0) as out:
            return twin.into(out, out).spawn(*words, stdin=self.child)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.master.close()
    os.close(screen.child)


def test_foreground(runtime: Runtime, screen: Screen) -> None:
    bundle = terminal_bundle(runtime, "tty", "exit 3")
    before = runtime.footprint(bundle)
    attributes = termios.tcgetattr(screen.child)
    going = screen.run(runtime, bundle)
    screen.master.read("exit 3")
    assert going.process.wait(10) == 3
    said = master_answers(screen.master)
    assert said["tty"]["isatty"] == [True, True, True]
    assert said["tty"]["size"] == [40, 90]
    assert said["tty"]["name"] in ("/dev/pts/0", "/dev/console")
    assert termios.tcgetattr(screen.child) == attributes  # raw while running, as before afterwards
    before.assert_unchanged()


def test_foreground_keys(runtime: Runtime, screen: Screen) -> None:
    """The keyboard is the container's: one echo (the container's), ^C goes inside, not to the runtime."""
    bundle = runtime.bundle().shell("trap 'echo interrupted' INT; echo ready; read a; read a; echo got $a")
    bundle.process["terminal"] = True
    going = screen.run(runtime, bundle)
    screen.master.read("ready")
    screen.master.write("\x03")
    screen.master.read("interrupted")
    screen.master.write("one\ntwo\n")
    text = screen.master.read("got")
    assert going.process.wait(10) == 0
    assert text.count("one") <= 2


def test_foreground_resize(runtime: Runtime, screen: Screen) -> None:
    going = screen.run(runtime, terminal_bundle(runtime, "winch"))
    screen.master.read("ready")
    screen.master.resize(55, 66)
    screen.master.read('"resized","answer":[55,66]}')
    assert going.process.wait(10) == 0


def test_foreground_large_output(runtime: Runtime, screen: Screen) -> None:
    """All output arrives, also what was written just before the end."""
    bundle = runtime.bundle().shell(
        "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo the end"
    )
    bundle.process["terminal"] = True
    going = screen.run(runtime, bundle)
    text = screen.master.read("the end")
    assert text.count("line ") == 2000
    assert going.process.wait(10) == 0


def test_killed_foreground_restores_the_terminal(runtime: Runtime, screen: Screen) -> None:
    attributes = termios.tcgetattr(screen.child)
    bundle = terminal_bundle(runtime, "signals")
    going = screen.run(runtime, bundle)
    screen.master.read("ready")
    # the runtime is this process or, when setsid had to fork, its child
    me = going.process.pid
    children = [
        pid for pid, entry in footprint.descendants(me).items() if entry[2] == me and entry[0] != "testify"
    ]
    os.kill(children[0] if children else me, signal.SIGTERM)
    assert going.process.wait(10) == 0
    assert termios.tcgetattr(screen.child) == attributes


@contextlib.contextmanager
def piped(runtime: Runtime, script: str, flags: int = 0) -> Iterator[tuple[Container, Running, IO[bytes]]]:
    """`run` with a terminal inside and a pipe outside: the container, the call, and the end to read from."""
    bundle = runtime.bundle().shell(script)
    bundle.process["terminal"] = True
    container = runtime.container(bundle)
    reader, writer = os.pipe2(os.O_CLOEXEC | flags)
    with open(writer, "wb", buffering=0) as out, open(reader, "rb", buffering=0) as pipe:
        words = ["run", "--bundle", runtime.put(bundle, container.id), container.id]
        going = runtime.into(out, runtime.temporary()).spawn(*words)
        out.close()
        yield container, going, pipe


def waiting(pipe: IO[bytes]) -> int:
    """The bytes in a pipe."""
    held: bytes = fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(held, "little")


def is_full(pipe: IO[bytes]) -> bool:
    """Whether a pipe takes no more. Its pages may be partly filled, so the number of bytes says nothing alone."""
    before = waiting(pipe)
    time.sleep(0.3)
    return before > 0 and waiting(pipe) == before


def ends(going: Running) -> int:
    """The status of a call whose stdout is a pipe."""
    try:
        return going.process.wait(10)
    finally:
        footprint.own_children.discard(going.process.pid)


def test_foreground_whose_reader_leaves(runtime: Runtime) -> None:
    """`run | head -1`: the terminal is hung up, the program ends with a write error, and all is removed."""
    with piped(runtime, "while echo line 2>/dev/null; do :; done; exit 6") as (container, going, pipe):
        assert pipe.read(4) == b"line"
        pipe.close()
        assert ends(going) == 6
        assert going.err == ""
        runtime.verb("state", container.id).fails("does not exist")


def test_foreground_stays_with_a_container_that_nobody_reads(runtime: Runtime) -> None:
    """It outlives the hang-up, and signals still reach it."""
    script = "trap 'exit 7' TERM; trap '' HUP; echo line; while :; do echo line 2>/dev/null; sleep 0.05; done"
    with piped(runtime, script) as (container, going, pipe):
        assert pipe.read(4) == b"line"
        pipe.close()
        time.sleep(0.5)
        assert going.process.poll() is None and container.status == "running"
        going.process.send_signal(signal.SIGTERM)
        assert ends(going) == 7


def test_foreground_output_that_does_not_block(runtime: Runtime) -> None:
    """stdout is O_NONBLOCK and full for a while: all arrives."""
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 4"
    with piped(runtime, script, os.O_NONBLOCK) as (_, going, pipe):
        os.set_blocking(pipe.fileno(), True)
        time.sleep(0.5)
        text = b""
        while piece := pipe.read(1 << 16):
            text += piece
        assert ends(going) == 4 and going.err == ""
        assert text.count(b"line ") == 20000 and text.endswith(b"line 19999\r\n")


def test_foreground_signals_while_output_is_stuck(runtime: Runtime) -> None:
    """Nobody reads, nobody leaves: signals are forwarded, and one more ends the wait for the reader."""
    script = "trap 'exit 5' TERM; while :; do echo line; done & while :; do wait; done"
    with piped(runtime, script) as (container, going, pipe):
        wait_for(lambda: is_full(pipe), say="a full pipe")
        going.process.send_signal(signal.SIGTERM)
        wait_for(lambda: container.status == "stopped", say="the end of the container")
        assert going.process.poll() is None  # the output is still to be delivered
        going.process.send_signal(signal.SIGTERM)
        assert ends(going) == 5


# -- refused ---------------------------------------------------------------------------------------------


def test_detached_without_socket(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "tty")
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.run_detached()
    assert container.err.count("\n") == 1 and "console socket" in container.err
    before.assert_unchanged()


def test_create_without_socket(runtime: Runtime) -> None:
    bundle = terminal_bundle(runtime, "tty")
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails("console socket")
    before.assert_unchanged()


def test_socket_without_terminal(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        runtime.container(bundle).create("--console-socket", str(socket.path)).fails("console socket")
    before.assert_unchanged()


@pytest.mark.parametrize("kind", ["missing", "file", "nobody-listens"])
def test_bad_socket(runtime: Runtime, kind: str) -> None:
    bundle = terminal_bundle(runtime, "tty")
    path = runtime.folder / "x.sock"
    if kind == "file":
        path.touch()
    elif kind == "nobody-listens":
        with ConsoleSocket(path):
            os.link(path, runtime.folder / "y.sock")
        path = runtime.folder / "y.sock"
    before = runtime.footprint(bundle)
    word = "no such file or directory" if kind == "missing" else "connection refused"
    runtime.container(bundle).create("--console-socket", str(path)).fails(str(path), word)
    before.assert_unchanged()


def test_console_size_is_ignored_without_terminal(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["consoleSize"] = {"height": 1, "width": 1}
    assert runtime.ask(bundle, "tty")["tty"]["isatty"] == [False, False, False]


@pytest.mark.parametrize("where", ["console-link", "pts-link", "ptmx-link", "dev-link"])
def test_hostile_console(runtime: Runtime, where: str) -> None:
    """CVE-2025-52565: the image says what /dev/console or the pty's path are. It must not reach the host."""
    bundle = terminal_bundle(runtime, "tty").without_mount("/dev", "/dev/pts", "/dev/shm")
    target = runtime.folder / "victim"
    target.write_text("mine")
    dev = bundle.rootfs / "dev"
    if where == "console-link":
        dev.joinpath("console").symlink_to(target)
        bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
    elif where == "pts-link":
        dev.joinpath("pts").symlink_to("/dev/pts/../../tmp")
    elif where == "ptmx-link":
        dev.joinpath("ptmx").symlink_to(target)
        bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
    else:
        dev.rmdir()
        dev.symlink_to("/etc")
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        outcome = container.create("--console-socket", str(socket.path))
        if outcome.status == 0:
            container.start().ok()
            master = socket.receive()
            assert master.answers()["tty"]["isatty"] == [True, True, True]
        else:
            assert "Traceback" not in container.err
    assert target.read_text() == "mine"
    assert not os.path.islink("/etc/console") and not os.path.exists("/etc/console")
