"""Fixtures of the kernel layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scratch
from tests.support.interpreter import make_image


@pytest.fixture
def bundle() -> Iterator[Path]:
    """A bundle folder with an image that holds a static shell; removed afterwards."""
    path = scratch.make("pyrunc-test-bundle")
    make_image(path)
    yield path
    scratch.remove(path)
