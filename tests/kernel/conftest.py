"""Fixtures of the kernel layer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import payload, scratch
from tests.support.cgroups import enter
from tests.support.interpreter import make_image


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
