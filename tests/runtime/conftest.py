"""Fixtures of the tests that checkpoint containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import criu as tool
from tests.support.checkpointed import beside
from tests.support.runtime import Runtime


@pytest.fixture
def criu(runtime: Runtime) -> Path:
    """The criu that works here, in PATH."""
    return tool.put_in_path(runtime)


@pytest.fixture
def images(runtime: Runtime) -> Iterator[Path]:
    """Where the images go."""
    yield beside(runtime) / "images"
    shutil.rmtree(beside(runtime))
