"""exec with a terminal: the console socket, the foreground; and the socket for a pidfd."""

from __future__ import annotations

import json
import os
import select
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.test_terminal import Screen, master_answers
from tests.support.exec import started
from tests.support.runtime import Container, Running, Runtime
from tests.support.terminal import ConsoleSocket


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.master.close()
    os.close(screen.child)


def on(screen: Screen, container: Container, *words: str) -> Running:
    """`exec --tty` on this screen, as its controlling terminal."""
    twin = container.runtime.like()
    twin.prefix = ["setsid", "--ctty", "--wait", *twin.prefix]
    with open(os.dup(screen.child), "wb", buffering=0) as out:
        return twin.into(out, out).spawn("exec", "--tty", container.id, *words, stdin=screen.child)


def test_console_socket(runtime: Runtime) -> None:
    """A pty of the container's; detached, with the size that the file gives."""
    container = started(runtime, runtime.bundle())
    process = {
        "cwd": "/",
        "env": ["PATH=/bin"],
        "args": ["testify", "tty", "--", "fds", "--", "sleep"],
        "terminal": True,
        "consoleSize": {"height": 22, "width": 44},
    }
    (runtime.folder / "process.json").write_text(json.dumps(process))
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        flags = ["--process", str(runtime.folder / "process.json"), "--console-socket", str(socket.path)]
        file = runtime.folder / "pid"
        done = container.exec([], "--detach", "--pid-file", str(file), *flags).ok()
        assert (done.out, done.err) == ("", "")
        master = socket.receive()
        assert termios.tcgetwinsize(master.fd) == (22, 44)
        master.read("ready")
        said = master_answers(master)
        tty = said["tty"]
        assert tty["isatty"] == [True, True, True] and tty["size"] == [22, 44]
        assert tty["session"] == tty["sid"] != 1
        assert tty["name"].startswith("/dev/pts/")
        assert sorted(said["fds"]) == ["0", "1", "2"]
        os.kill(int(file.read_text()), signal.SIGTERM)
        master.read()  # the end: nobody else holds the slave


@pytest.mark.needs_root
def test_the_terminal_is_the_users(runtime: Runtime) -> None:
    """Also in a user namespace."""
    container = started(runtime, runtime.bundle().map_ids().give_rootfs(200000, 200000))
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        words = ["testify", "tty", "--", "open", "/dev/tty", "rw", "--", "ids"]
        flags = ["-t", "-d", "--user", "1000:1000", "--console-socket", str(socket.path)]
        container.exec(words, *flags).ok()
        said = socket.receive().answers()
    assert said["tty"]["isatty"] == [True, True, True]
    assert said["open /dev/tty rw"] == 0
    assert said["ids"]["uid"] == [1000] * 3


def test_two_terminals_at_once(runtime: Runtime) -> None:
    """Each its own, the first process's stays."""
    bundle = runtime.bundle().shell("read a; echo first got $a")
    bundle.process["terminal"] = True
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "first.sock") as socket:
        container.run_detached("--console-socket", str(socket.path)).ok()
        first = socket.receive()
        with ConsoleSocket(runtime.folder / "second.sock") as other:
            flags = ["-t", "-d", "--console-socket", str(other.path)]
            container.exec(["sh", "-c", "read a; echo second got $a"], *flags).ok()
            second = other.receive()
            second.write("two\n")
            second.read("second got two")
        first.write("one\n")
        first.read("first got one")


def test_foreground(runtime: Runtime, screen: Screen) -> None:
    container = started(runtime, runtime.bundle())
    attributes = termios.tcgetattr(screen.child)
    going = on(screen, container, "testify", "tty", "--", "exit", "3")
    screen.master.read("exit 3")
    assert going.process.wait(20) == 3
    said = master_answers(screen.master)
    assert said["tty"]["isatty"] == [True, True, True] and said["tty"]["size"] == [40, 90]
    assert termios.tcgetattr(screen.child) == attributes


def test_foreground_resize_and_keys(runtime: Runtime, screen: Screen) -> None:
    container = started(runtime, runtime.bundle())
    going = on(screen, container, "testify", "winch")
    screen.master.read("ready")
    screen.master.resize(55, 66)
    screen.master.read('"resized","answer":[55,66]}')
    assert going.process.wait(20) == 0
    going = on(
        screen, container, "sh", "-c", "trap 'echo stopped; exit 5' INT; echo go; while :; do sleep 1; done"
    )
    screen.master.read("go\r\n")
    screen.master.write("\x03")
    screen.master.read("stopped")
    assert going.process.wait(20) == 5


@pytest.mark.needs_root
def test_an_image_with_a_false_ptmx(runtime: Runtime) -> None:
    """CVE-2025-52565: what is not the ptmx of a devpts is not opened for writing by root."""
    bundle = runtime.bundle().without_mount("/dev/pts")
    container = started(runtime, bundle)
    container.exec(["sh", "-c", "true"]).ok()
    inside = Path(f"/proc/{container.pid}/root/dev")
    (inside / "pts").mkdir(exist_ok=True)
    (inside / "pts" / "ptmx").write_text("")
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        flags = ["-t", "-d", "--console-socket", str(socket.path)]
        container.exec(["true"], *flags).fails("exec failed", "not the ptmx of a devpts")
    (inside / "pts" / "ptmx").unlink()
    (inside / "pts" / "ptmx").symlink_to("/proc/1/fd/0")
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        flags = ["-t", "-d", "--console-socket", str(socket.path)]
        container.exec(["true"], *flags).fails("exec failed", "/dev/pts/ptmx", "symbolic links")


def test_pidfd_socket(runtime: Runtime) -> None:
    """It receives a pidfd of the process, before that runs."""
    container = started(runtime, runtime.bundle())
    with ConsoleSocket(runtime.folder / "pidfd.sock") as socket:
        file = runtime.folder / "pid"
        flags = ["--detach", "--pidfd-socket", str(socket.path), "--pid-file", str(file)]
        container.exec(["sleep", "1000"], *flags).ok()
        pidfd = socket.receive().fd
        assert f"Pid:\t{file.read_text()}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
