"""Waking up for events of a cgroup: what the kernel counts in a file of cgroup v2, and what it signals in cgroup v1.

On a host whose memory controller is bound to v1, there is no memory.events; huge pages have such a file there, too.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrunc.linux.cgroups import tree
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.oom import Counted, Signalled, watch
from pyrunc.linux.cgroups.v2.manager import Manager
from tests.support import payload
from tests.support.patience import patient

HOST = layout()
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root")


@pytest.fixture
def huge() -> Iterator[Path]:
    """A cgroup v2 that may reserve no huge page, with one above it of its own."""
    if HOST.v2 is None or "hugetlb" not in HOST.v2.controllers:
        pytest.skip("the kernel has no hugetlb controller in cgroup v2")
    top = Path(HOST.v2.mount, f"pyrunc-test-{os.getpid()}-huge")
    home = top / "box"
    home.mkdir(parents=True)
    for above in (top.parent, top):
        if "hugetlb" not in (above / "cgroup.subtree_control").read_text():
            (above / "cgroup.subtree_control").write_text("+hugetlb")
    (home / "hugetlb.2MB.rsvd.max").write_text("0")
    yield home
    tree.remove(str(top))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A cgroup v1 with little memory."""
    mount = next((each.mount for each in HOST.v1 if "memory" in each.controllers), "")
    if not mount:
        pytest.skip("this host has no cgroup v1")
    home = Path(mount, f"pyrunc-test-{os.getpid()}-memory")
    home.mkdir()
    (home / "memory.limit_in_bytes").write_text(str(8 << 20))
    yield home
    tree.remove(str(home))


@pytest.fixture
def inside() -> Callable[..., None]:
    """Run a command of testify in a cgroup."""

    def inside(home: Path, *words: str) -> None:
        enter = f'echo $$ > {home}/cgroup.procs; exec "$@"'
        subprocess.run(
            ["sh", "-c", enter, "sh", payload.testify(), *words], stdout=subprocess.DEVNULL, check=False
        )

    return inside


def woken(watch: Counted | Signalled, seconds: float) -> bool:
    poll = select.poll()
    poll.register(watch.descriptor, watch.condition)
    return bool(poll.poll(patient(seconds) * 1000))


def refused(home: Path) -> Counted:
    return Counted(str(home), "hugetlb.2MB.events", "max")


def test_growing_numbers_wake(huge: Path, inside: Callable[..., None]) -> None:
    watch = refused(huge)
    try:
        assert not woken(watch, 0)
        assert not watch.happened()
        for _ in range(2):
            inside(huge, "huge", "2")
            assert woken(watch, 5)
            assert watch.happened()
            assert not watch.happened(), "told once"
            # Deferred wakes of the same event (at most one in 10 ms) bring no event.
            time.sleep(0.05)
            watch.happened()
            assert not woken(watch, 0)
    finally:
        watch.close()


def test_what_was_there_before_is_no_event(huge: Path, inside: Callable[..., None]) -> None:
    inside(huge, "huge", "2")
    watch = refused(huge)
    try:
        assert not watch.happened()
    finally:
        watch.close()


@pytest.mark.parametrize(("before", "wait"), [(False, 0), (True, 0), (True, 3)])
def test_a_counting_cgroup_that_goes(
    huge: Path, inside: Callable[..., None], before: bool, wait: float
) -> None:
    """Its end wakes; then the cgroup above tells whether anything was counted just before, but not of long ago."""
    watch = refused(huge)
    try:
        if before and wait:  # another cgroup's
            sibling = huge.with_name("sibling")
            sibling.mkdir()
            (sibling / "hugetlb.2MB.rsvd.max").write_text("0")
            inside(sibling, "huge", "2")
            time.sleep(wait)
        elif before:
            inside(huge, "huge", "2")
        huge.rmdir()
        assert woken(watch, 5)
        assert watch.happened() == (before and not wait)
        assert watch.over
    finally:
        watch.close()


def test_signals_of_v1(memory: Path, inside: Callable[..., None]) -> None:
    watch = Signalled(str(memory))
    try:
        assert not watch.happened()
        for _ in range(2):
            inside(memory, "eat", "50")
            assert woken(watch, 5)
            assert watch.happened()
            assert not watch.happened()
        assert not watch.over
    finally:
        watch.close()


@pytest.mark.parametrize("before", [False, True])
def test_a_signalling_cgroup_that_goes(memory: Path, inside: Callable[..., None], before: bool) -> None:
    """It signals that as well; a lack of memory right before it is not lost."""
    watch = Signalled(str(memory))
    try:
        if before:
            inside(memory, "eat", "50")
        tree.remove(str(memory))
        deadline = time.monotonic() + patient(5)
        seen = 0
        while not watch.over and time.monotonic() < deadline:
            # Both signals may come at once or one after the other.
            assert woken(watch, 5)
            time.sleep(0.05)
            seen += watch.happened()
        assert watch.over
        assert seen == before
    finally:
        watch.close()


def test_descriptors_are_given_back(memory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        watch = Signalled(str(memory))
        watch.close()
        watch.close()
    with pytest.raises(FileNotFoundError):
        Signalled(f"{memory}/nothing")
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_the_controller() -> None:
    """Nothing limits memory; also where the container has made a cgroup of the file's name."""
    if HOST.v2 is None:
        pytest.skip("this host has no cgroup v2")
    top = Path(HOST.v2.mount, f"pyrunc-test-{os.getpid()}-plain")
    home = top / "box"
    home.mkdir(parents=True)
    try:
        manager = Manager(str(home), HOST.v2.mount, (), False, False)
        assert watch(manager) is None
        (home / "memory.events").mkdir()
        assert watch(manager) is None
    finally:
        tree.remove(str(top))
