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
from tests.engines.ordinary_user import HERE
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
def podman_of_user_session(installed: Path, image: Path) -> Iterator[Engine]:
    """podman of an ordinary user, ready."""
    yield from _session(Podman(installed, image, as_user=True))


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


@pytest.fixture(scope="session")
def buildah_of_user_session(installed: Path, image: Path) -> Iterator[Engine]:
    """buildah of an ordinary user, ready."""
    yield from _session(Buildah(installed, image, as_user=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Who calls podman and buildah: whoever runs the tests, and on cgroup v1 an ordinary user too."""
    mark = metafunc.definition.get_closest_marker
    user = HERE and not (mark("needs_root") or mark("needs_cgroups"))
    for fixture in {"engine", "podman", "buildah"} & set(metafunc.fixturenames):
        names = ["podman", "docker"] if fixture == "engine" else [fixture]
        names += [f"{names[0]}_of_user"] * user
        marks = {name: [pytest.mark.xdist_group(name)] for name in names}
        marks.get("docker", []).append(pytest.mark.needs_root)
        callers = [pytest.param(name, marks=marks[name]) for name in names]
        metafunc.parametrize(fixture, callers, indirect=True)


@pytest.fixture
def podman(request: pytest.FixtureRequest) -> Iterator[Podman]:
    """podman; the test must leave nothing behind."""
    session: Podman = request.getfixturevalue(f"{request.param}_session")
    with session.watched():
        yield session


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
def buildah(request: pytest.FixtureRequest) -> Iterator[Buildah]:
    """buildah; the test must leave nothing behind."""
    session: Buildah = request.getfixturevalue(f"{request.param}_session")
    with session.watched():
        yield session


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[DockerLike]:
    """podman and docker in turn; the test must leave nothing behind."""
    session: DockerLike = request.getfixturevalue(f"{request.param}_session")
    with session.watched():
        yield session
