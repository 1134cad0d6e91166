"""Fixtures of the engines: each is started once, and each test of it must leave nothing behind."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.buildah import Buildah
from tests.engines.containerd import Containerd
from tests.engines.cri import Cri
from tests.engines.docker import Docker
from tests.engines.engine import DockerLike, Engine
from tests.engines.image import make_archive
from tests.engines.podman import Podman
from tests.support import scratch


@pytest.fixture(scope="session")
def shelf() -> Iterator[Path]:
    """A folder for what all engines use."""
    path = scratch.make("pyrunc-test-engines")
    yield path
    scratch.remove(path)


@pytest.fixture(scope="session")
def installed(runtime_words: list[str], shelf: Path) -> Path:
    """The path of the runtime: engines take one path, so several words are put into a script."""
    if len(runtime_words) == 1:
        return Path(runtime_words[0])
    path = shelf / "pyrunc"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(runtime_words)} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def image(shelf: Path) -> Path:
    """The tar archive of the image's root file system."""
    return make_archive(shelf)


def _session(engine: Engine) -> Iterator[Engine]:
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def podman_session(installed: Path, image: Path) -> Iterator[Engine]:
    """podman, ready."""
    yield from _session(Podman(installed, image))


@pytest.fixture(scope="session")
def docker_session(installed: Path, image: Path) -> Iterator[Engine]:
    """dockerd, ready."""
    yield from _session(Docker(installed, image))


@pytest.fixture(scope="session")
def docker_remapped_session(installed: Path, image: Path) -> Iterator[Engine]:
    """dockerd with a user namespace for every container, ready."""
    yield from _session(Docker(installed, image, remap=(300000, 65536)))


@pytest.fixture(scope="session")
def containerd_session(installed: Path, image: Path) -> Iterator[Engine]:
    """containerd, ready."""
    yield from _session(Containerd(installed, image))


@pytest.fixture(scope="session")
def cri_session(installed: Path, image: Path) -> Iterator[Engine]:
    """containerd with its CRI plugin, ready."""
    yield from _session(Cri(installed, image))


@pytest.fixture(scope="session")
def buildah_session(installed: Path, image: Path) -> Iterator[Engine]:
    """buildah, ready."""
    yield from _session(Buildah(installed, image))


@pytest.fixture
def podman(podman_session: Podman) -> Iterator[Podman]:
    """podman; the test must leave nothing behind."""
    with podman_session.watched():
        yield podman_session


@pytest.fixture
def docker(docker_session: Docker) -> Iterator[Docker]:
    """docker; the test must leave nothing behind."""
    with docker_session.watched():
        yield docker_session


@pytest.fixture
def docker_remapped(docker_remapped_session: Docker) -> Iterator[Docker]:
    """docker with a user namespace for every container; the test must leave nothing behind."""
    with docker_remapped_session.watched():
        yield docker_remapped_session


@pytest.fixture
def containerd(containerd_session: Containerd) -> Iterator[Containerd]:
    """containerd; the test must leave nothing behind."""
    with containerd_session.watched():
        yield containerd_session


@pytest.fixture
def cri(cri_session: Cri) -> Iterator[Cri]:
    """containerd with its CRI plugin; the test must leave nothing behind."""
    with cri_session.watched():
        yield cri_session


@pytest.fixture
def buildah(buildah_session: Buildah) -> Iterator[Buildah]:
    """buildah; the test must leave nothing behind."""
    with buildah_session.watched():
        yield buildah_session


@pytest.fixture(
    params=[
        pytest.param("podman", marks=pytest.mark.xdist_group("podman")),
        pytest.param("docker", marks=[pytest.mark.xdist_group("docker"), pytest.mark.needs_root]),
    ]
)
def engine(request: pytest.FixtureRequest) -> DockerLike:
    """podman and docker in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, DockerLike)
    return found
