"""Fixtures of the kernel layer."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.manager import choose
from pyrunc.linux.cgroups.v1 import freezer
from tests.support import payload, scratch
from tests.support.cgroup_v1 import HOST, below_cgroups
from tests.support.cgroups import enter
from tests.support.interpreter import make_image

COUNT = itertools.count()


@pytest.fixture
def bundle() -> Iterator[Path]:
    """A bundle folder with an image that holds a static shell; removed afterwards."""
    path = scratch.make("pyrunc-test-bundle")
    make_image(path)
    yield path
    scratch.remove(path)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program inside a manager's cgroups: it waits until it is there."""
    running = []

    def start(manager: Any, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        waiting = ("/bin/sh", "-c", 'read go <&0; exec "$@"', "sh", *command)
        process = subprocess.Popen(waiting, stdin=subprocess.PIPE, **options)
        running.append(process)
        enter(manager, process.pid)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small root for chroot(2), with the payload in it."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:  # pytest's folders are closed to other users
        if parent.stat().st_mode & 0o5 != 0o5 and parent != Path("/"):
            parent.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "testify").write_bytes(payload.testify().read_bytes())
    (tmp_path / "bin" / "testify").chmod(0o755)
    return tmp_path


@pytest.fixture
def top() -> Iterator[str]:
    """A place of one's own in the hierarchies of cgroup v1; whatever is in it at the end is killed and removed."""
    path = f"/pyrunc-test-{os.getpid()}-{next(COUNT)}"
    yield path
    left = below_cgroups(path)
    for directory in left:
        if "freezer" in directory:
            freezer.thaw_all(directory)
        for pid in tree.pids(directory):
            os.kill(pid, signal.SIGKILL)
    for directory in left:
        tree.remove(directory)


@pytest.fixture
def make(top: str) -> Iterator[Callable[..., Any]]:
    """Make a manager with its cgroups on cgroup v1, one for each call."""
    made = []

    def make(resources: dict[str, Any] | None = None, name: str = "box") -> Any:
        config: Any = {"linux": {"resources": resources or {}, "cgroupsPath": f"{top}/{name}"}}
        manager = choose(config, "id", HOST, rootless=False)
        manager.create()
        made.append(manager)
        manager.apply(resources or {})
        return manager

    yield make
    for manager in made:
        manager.kill()
        manager.remove()
