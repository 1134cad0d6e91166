"""Fixtures of several modules: what containers wait or are made with, and criu with its images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import criu as tool
from tests.support import footprint
from tests.support.bad_input import Case
from tests.support.bundle import Bundle
from tests.support.checkpointed import beside
from tests.support.limits import V2
from tests.support.runtime import Container, Runtime


@pytest.fixture
def criu(runtime: Runtime) -> Iterator[Path]:
    """The criu that works here, in PATH."""
    programs = tool.put_in_path(runtime)
    with tool.undisturbed():
        yield programs


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


@pytest.fixture
def with_init(runtime: Runtime) -> Iterator[Any]:
    """Make and start containers that have an init."""
    made: list[Container] = []

    def make(bundle: Bundle, *flags: str, **how: Any) -> Container:
        container = runtime.container(bundle)
        made.append(container)
        container.create("--init", *flags, **how).ok()
        container.start().ok()
        return container

    yield make
    for container in made:
        container.delete("--force")
    footprint.reap()


@pytest.fixture
def case(runtime: Runtime) -> Case:
    """What a test of bad input works on."""
    return Case(runtime)


@pytest.fixture
def nothing_is_left(case: Case) -> Iterator[None]:
    """The host is the same after each test of bad input, `delete` not being called by the test."""
    before: list[footprint.Footprint] = []
    case.before = lambda: before.append(case.runtime.footprint(case.bundle))  # type: ignore[attr-defined]
    yield
    assert before, "the test did not take its snapshot"
    before[0].assert_unchanged()


@pytest.fixture
def v2(runtime: Runtime) -> Runtime:
    """The runtime on pure cgroup v2; on a hybrid host in a mount namespace that has nothing else."""
    if not V2:
        if os.geteuid() or not Path("/sys/fs/cgroup/unified").exists():
            pytest.skip("this host has no cgroup v2")
        view = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        runtime.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", view, "sh"]
    return runtime
