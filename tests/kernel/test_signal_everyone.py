"""A signal to every process of a cgroup, against processes that fork away from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pyrunc.errors import PyruncError
from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.linux.cgroups.everyone import signal_everyone
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
from tests.support.runtime import wait_for

if TYPE_CHECKING:
    from pyrunc.linux.cgroups.manager import Manager

pytestmark = pytest.mark.needs_root

#: Forks processes into the cgroups of its arguments, as many as its first argument says, each of which forks another
#: and ends, over and over: a pid that was read from cgroup.procs is nobody's any more when a signal comes. By the
#: system call: fork(3) blocks every signal for a moment, and may so bear a child after the signal has come.
COMETS = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, and nothing waits to be reaped:
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        for path in sys.argv[2:]:
            with open(path + "/cgroup.procs", "w") as file:
                file.write("0")
        os.write(1, b"r")
        while True:
            if libc.syscall(%d, int(signal.SIGCHLD), 0, 0, 0, 0):
                os._exit(0)
time.sleep(1000)
""" % SYSCALLS["clone"]
#: A process with children that writes a byte for each SIGUSR1.
COUNTING = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"x"))
for path in sys.argv[1:]:
    with open(path + "/cgroup.procs", "w") as file:
        file.write("0")
for _ in range(9):
    if os.fork() == 0:
        break
os.write(1, b"r")
while True:
    time.sleep(1000)
"""


@pytest.fixture
def manager() -> Iterator[Manager]:
    name = f"/pyrunc-test-{os.getpid()}-{time.monotonic_ns()}"
    manager = choose({"linux": {"cgroupsPath": name}}, "one", layout(), False)  # type: ignore[typeddict-item]
    manager.create()
    yield manager
    manager.kill()
    manager.remove()


class Started:
    """A process that runs `code` with the paths of the cgroups, and what it writes; ended at the end."""

    def __init__(self, code: str, manager: Manager, *words: str) -> None:
        paths = sorted(set(manager.paths().values()))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words, *paths], stdout=subprocess.PIPE, bufsize=0
        )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        with self.process:
            pass

    def says(self, count: int) -> bytes:
        """The next `count` bytes that it writes."""
        assert self.process.stdout
        return b"".join(self.process.stdout.read(1) for _ in range(count))

    def is_silent(self) -> bool:
        """Whether it has written nothing more."""
        time.sleep(0.1)
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)
        return self.process.stdout.read(1) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_forks_away(manager: Manager, number: int) -> None:
    with Started(COMETS, manager, "40") as started:
        started.says(40)
        assert signal_everyone(manager, number)
        wait_for(lambda: not manager.pids(), patience=2, say="the end of all")


def test_each_gets_it_once(manager: Manager) -> None:
    with Started(COUNTING, manager) as started:
        assert started.says(10) == b"r" * 10
        assert len(signal_everyone(manager, signal.SIGUSR1)) == 10
        assert started.says(10) == b"x" * 10
        assert started.is_silent()


def test_without_a_freezer(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rootless the freezer may be somebody else's: whoever stands still is found, once each."""

    def freeze() -> None:
        raise PyruncError("no freezer")

    monkeypatch.setattr(manager, "freeze", freeze)
    with Started(COUNTING, manager) as started:
        assert started.says(10) == b"r" * 10
        signal_everyone(manager, signal.SIGUSR1)
        assert started.says(10) == b"x" * 10
        assert started.is_silent()


def test_an_empty_cgroup(manager: Manager) -> None:
    assert signal_everyone(manager, signal.SIGTERM) == set()
    assert not manager.frozen()
