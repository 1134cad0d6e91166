"""checkpoint and restore: mounts and their mount points are what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkpointed import COUNTER, Named, counting, goes_on, mounted
from tests.support.runtime import Container, Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def test_mounts_are_what_they_were(runtime: Runtime, images: Path) -> None:
    """Bind mounts of directories and files, writable and not; a tmpfs with its content; what is hidden or read-only."""
    area, file = runtime.folder / "area", runtime.folder / "file"
    (area / "inner").mkdir(parents=True)
    (area / "kept").write_text("host's")
    file.write_text("a file")
    bundle = runtime.bundle().bind(area, "/area", "bind", "ro").bind(file, "/etc/bound", "bind")
    bundle.mount("/area/inner", "tmpfs", "tmpfs", "mode=700")
    bundle.linux["readonlyPaths"].append("/home")
    bundle.linux["maskedPaths"] += ["/etc/group", "/var"]
    container = Named(runtime, bundle.shell("echo deep >/area/inner/x; echo memory >/dev/shm/y; " + COUNTER))
    container.create().ok()
    container.start().ok()
    container.says("tick 3\n")
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert mounted(container.pid) == before
    root = Path(f"/proc/{container.pid}/root")
    assert (root / "area/kept").read_text() == "host's"
    assert (root / "etc/bound").read_text() == "a file"
    assert (root / "area/inner/x").read_text() == "deep\n"
    assert (root / "dev/shm/y").read_text() == "memory\n"
    assert (root / "etc/group").stat().st_rdev == os.makedev(1, 3)
    (root / "etc/bound").write_text("changed")
    assert file.read_text() == "changed"  # the host's file itself
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "area/new").write_text("")
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "home/new").write_text("")


def test_mount_points_are_made_in_a_fresh_root_file_system(runtime: Runtime, images: Path) -> None:
    area, file = runtime.folder / "area", runtime.folder / "file"
    area.mkdir()
    file.write_text("a file")
    bundle = runtime.bundle().bind(area, "/made/deep/area").bind(file, "/made/file")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    shutil.rmtree(bundle.rootfs / "made")
    container.restore(images).ok()
    goes_on(container)
    assert Path(f"/proc/{container.pid}/root/made/file").read_text() == "a file"


def test_a_mount_point_that_leads_out_of_the_image(runtime: Runtime, images: Path) -> None:
    """A symbolic link of the image is resolved inside it, and nothing is made on the host."""
    area, outside = runtime.folder / "area", runtime.folder / "outside"
    area.mkdir()
    bundle = runtime.bundle().bind(area, "/made/deep/area")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    shutil.rmtree(bundle.rootfs / "made")
    (bundle.rootfs / "made").symlink_to(outside)
    before = runtime.footprint(bundle)
    assert container.restore(images).status != 0
    assert not outside.exists()
    before.assert_unchanged()


def test_a_root_below_shared_mounts(runtime: Runtime, images: Path) -> None:
    """As everywhere on a host with systemd: the container's root is a slave of the host's, before and after."""
    bundle = runtime.bundle()
    for words in (["--bind", str(bundle.rootfs), str(bundle.rootfs)], ["--make-shared", str(bundle.rootfs)]):
        subprocess.run(["mount", *words], check=True)

    def masters(container: Container) -> list[str]:
        lines = Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()
        (root,) = [line.split() for line in lines if line.split()[4] == "/"]
        return [word for word in root if word.startswith(("master:", "shared:"))]

    container = counting(runtime, bundle)
    before = masters(container)
    assert before and before[0].startswith("master:")
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert masters(container) == before


@pytest.mark.parametrize("propagation", [[], ["rprivate"]])
def test_bind_mounts_below_shared_mounts(runtime: Runtime, images: Path, propagation: list[str]) -> None:
    """A bind mount in the peer group of the root file system, and a part of the root, which is read-only, too."""
    bundle = runtime.bundle()
    area = bundle.path / "area"
    area.mkdir()
    (area / "kept").write_text("host's")
    for words in (["--bind", str(bundle.path), str(bundle.path)], ["--make-shared", str(bundle.path)]):
        subprocess.run(["mount", *words], check=True)
    bundle.bind(area, "/area", "bind", "ro", *propagation)
    bundle.linux["readonlyPaths"].append("/home")
    container = counting(runtime, bundle)
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert mounted(container.pid) == before
    assert Path(f"/proc/{container.pid}/root/area/kept").read_text() == "host's"
