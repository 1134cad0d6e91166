"""Fixtures of several modules: a container that waits, a folder of the host to mount, criu and its images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import criu as tool
from tests.support.checkpointed import beside
from tests.support.runtime import Container, Runtime


@pytest.fixture
def criu(runtime: Runtime) -> Path:
    """The criu that works here, in PATH."""
    return tool.put_in_path(runtime)


@pytest.fixture
def images(runtime: Runtime) -> Iterator[Path]:
    """Where the images go."""
    yield beside(runtime) / "images"
    shutil.rmtree(beside(runtime))


@pytest.fixture
def volume(folder: Path) -> Path:
    """A folder of the host to mount, with a file."""
    path = folder / "volume"
    path.mkdir()
    (path / "file").write_text("of the host")
    return path


@pytest.fixture
def sleeper(runtime: Runtime) -> Iterator[Container]:
    """A container that waits."""
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        yield container
