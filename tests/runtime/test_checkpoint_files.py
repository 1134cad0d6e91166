"""checkpoint and restore: locks of files, and an open file whose name is gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.support.checkpointed import COUNTER, goes_on, started
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def is_locked(path: Path) -> bool:
    """Whether somebody has this file locked (flock(2))."""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_lock(runtime: Runtime, images: Path) -> None:
    """It is dumped if both sides are told to, and there again if the restore is."""
    bundle = runtime.bundle().shell(f"exec 3>/root/file; testify lock 3; {COUNTER}")
    file = bundle.rootfs / "root/file"
    container = started(runtime, bundle)
    assert is_locked(file)
    container.checkpoint(images).fails("file locks are hold by dumping tasks", "--file-locks")
    goes_on(container)
    container.checkpoint(images, "--file-locks").ok()
    assert not is_locked(file)
    container.restore(images, "--file-locks").ok()
    goes_on(container)
    assert is_locked(file)
    container.checkpoint(images, "--file-locks").ok()
    container.restore(images).ok()
    goes_on(container)
    assert not is_locked(file)


def test_an_open_file_that_lost_its_name(runtime: Runtime, images: Path) -> None:
    """It has another, which nobody knows: a name is made for it until it is open again."""
    script = "cd /root; echo here >old; busybox ln old other; exec 3<old; busybox rm old"
    bundle = runtime.bundle().shell(f"{script}; {COUNTER}")
    folder = bundle.rootfs / "root"
    container = started(runtime, bundle)
    container.checkpoint(images).fails("Can't create link remap for /root/old", "Use link-remap option")
    assert os.listdir(folder) == ["other"]
    goes_on(container)
    container.checkpoint(images, "--link-remap").ok()
    (made,) = set(os.listdir(folder)) - {"other"}
    assert made.startswith("link_remap.") and os.path.samefile(folder / made, folder / "other")
    container.restore(images).ok()
    goes_on(container)
    assert os.listdir(folder) == ["other"]
    assert os.path.samefile(f"/proc/{container.pid}/fd/3", folder / "other")
