"""Fixtures of all layers: the runtime under test, a scratch folder, and a guard over the host's /dev/null."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import footprint, scratch
from tests.support.installed import runtime_command
from tests.support.runtime import SYSTEMD, Runtime

FOLDER = pytest.StashKey[Path]()
MARKERS = {
    "needs_root": "needs others' ids, devices, mounts or cgroups where it wants them; left out as an ordinary user",
    "needs_cgroups": "limits or freezes; left out for engines of an ordinary user on cgroup v1, who has no cgroups",
    "cgroupfs": "is about cgroups at a path of its own choice, so not for PYRUNC_TEST_CGROUP_MANAGER=systemd",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all workers of this run share; adopt the orphans of whatever the tests start."""
    footprint.become_subreaper()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # By a shell that runs us in the background. What the tests start would inherit it, and tests interrupt it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    worker = getattr(config, "workerinput", None)
    config.stash[FOLDER] = Path(worker["session"]) if worker else scratch.make("pyrunc-test-session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what is not for this user and this cgroup manager; the others show that it can be done."""
    unfit = ["needs_root"] * (os.geteuid() != 0) + ["cgroupfs"] * SYSTEMD
    out = {item for item in items if any(map(item.get_closest_marker, unfit))}
    if out:
        config.hook.pytest_deselected(items=[item for item in items if item in out])
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Item) -> None:
    """Tell each xdist worker where the shared folder is."""
    node.workerinput["session"] = str(node.config.stash[FOLDER])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the shared folder."""
    if not hasattr(config, "workerinput") and FOLDER in config.stash:
        scratch.remove(config.stash[FOLDER])


@pytest.fixture(scope="session")
def runtime_words(request: pytest.FixtureRequest) -> list[str]:
    """The words that start the runtime under test."""
    return runtime_command(request.config.stash[FOLDER])


@pytest.fixture(scope="session", autouse=True)
def null_device_of_session() -> Iterator[None]:
    """No test may change the host's /dev/null (a runtime that fixes the owner of its stdio can)."""
    before = footprint.null_device()
    yield
    assert footprint.null_device() == before, "the host's /dev/null was changed"


@pytest.fixture(autouse=True)
def null_device() -> Iterator[None]:
    """Name the test that changes /dev/null, and put it right again for the others."""
    mode, uid, gid, device = footprint.null_device()
    yield
    after = footprint.null_device()
    if after != (mode, uid, gid, device):
        if after[3] == device:
            os.chown("/dev/null", uid, gid)
            os.chmod("/dev/null", mode & 0o7777)
        pytest.fail(
            f"the host's /dev/null was {(oct(mode), uid, gid, device)}, is {(oct(after[0]), *after[1:])}"
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of one's own that every user may enter."""
    path = scratch.make("pyrunc-test")
    yield path
    scratch.remove(path)


@pytest.fixture
def runtime(runtime_words: list[str], folder: Path) -> Iterator[Runtime]:
    """The runtime under test; whatever the test makes with it is removed afterwards."""
    runtime = Runtime(runtime_words, folder)
    yield runtime
    runtime.clean()
