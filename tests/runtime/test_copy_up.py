"""tmpcopyup: a tmpfs that begins with what the image has there; also under a limit and in a user namespace."""

from __future__ import annotations

import os

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime

pytestmark = pytest.mark.needs_root


def filled(runtime: Runtime) -> Bundle:
    """A bundle with some of everything below /area, over which a tmpfs is to be mounted."""
    bundle = runtime.bundle()
    work = bundle.rootfs / "area"
    (work / "dir").mkdir()
    (work / "dir" / "file").write_text("copied")
    (work / "dir" / "file").chmod(0o4755)
    os.utime(work / "dir" / "file", (1000, 2000))
    (work / "dir").chmod(0o1711)
    (work / "link").symlink_to("/etc/passwd")
    (work / "dangling").symlink_to("../../../nowhere")
    os.mkfifo(work / "fifo", 0o640)
    with open(work / "sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"island")
    bundle.mount("/area", "tmpfs", "tmpfs", "tmpcopyup", "nosuid", "size=16m")
    return bundle


def test_everything_is_copied(runtime: Runtime) -> None:
    """Modes with their set-id bits, links as they are, and a sparse file without its holes filled."""
    bundle = filled(runtime)
    bundle.linux["resources"] = {"memory": {"limit": 32 << 20}}
    before = runtime.footprint(bundle)
    said = runtime.ask(bundle, "ls /area", "stat /area/dir", "stat /area/dir/file", "readlink /area/link",
                       "readlink /area/dangling", "stat /area/fifo", "stat /area/sparse")  # fmt: skip
    assert sorted(said["ls /area"]) == ["dangling", "dir", "fifo", "link", "sparse"]
    assert said["stat /area/dir"]["mode"] == 0o1711
    assert said["stat /area/dir/file"]["mode"] == 0o4755
    assert said["readlink /area/link"] == "/etc/passwd"
    assert said["readlink /area/dangling"] == "../../../nowhere"
    assert (said["stat /area/fifo"]["type"], said["stat /area/fifo"]["mode"]) == ("fifo", 0o640)
    assert said["stat /area/sparse"]["size"] == 1 << 30
    before.assert_unchanged()


def test_deeply_nested_directories(runtime: Runtime) -> None:
    """The image decides how deep; no stack and no usual limit of open files does."""
    bundle = filled(runtime)
    deep = bundle.rootfs / "area" / "/".join(["d"] * 700)
    deep.mkdir(parents=True)
    (deep / "file").write_text("at the bottom")
    question = f"read /area/{'d/' * 700}file"
    try:
        said = runtime.ask(bundle, question, "stat /area/d")
    finally:
        for _ in range(700):  # shutil.rmtree would not
            (deep / "file").unlink(missing_ok=True)
            deep.rmdir()
            deep = deep.parent
    assert said[question] == "at the bottom"
    assert said["stat /area/d"]["mode"] == 0o755


def test_in_a_user_namespace(runtime: Runtime) -> None:
    """The new files belong to whom the old ones belong inside."""
    bundle = filled(runtime).map_ids(host=200000)
    bundle.give_rootfs(200000, 200000)
    os.chown(bundle.rootfs / "area" / "dir" / "file", 200007, 200008)
    said = runtime.ask(
        bundle, "stat /area/dir/file", "read /area/dir/file", "stat /area/dir", "write /area/new x"
    )
    assert (said["stat /area/dir/file"]["uid"], said["stat /area/dir/file"]["gid"]) == (7, 8)
    assert said["read /area/dir/file"] == "copied"
    assert said["stat /area/dir"]["uid"] == 0
    assert said["write /area/new x"] is None or "errno" not in str(said["write /area/new x"])


def test_several_and_what_an_earlier_mount_has(runtime: Runtime) -> None:
    bundle = filled(runtime)
    (bundle.rootfs / "home" / "file").write_text("home")
    bundle.mount("/home", "tmpfs", "tmpfs", "tmpcopyup")
    bundle.bind(bundle.rootfs / "area" / "dir", "/tmp", "bind")
    bundle.mount("/tmp", "tmpfs", "tmpfs", "tmpcopyup", "ro")
    said = runtime.ask(
        bundle, "read /home/file", "read /tmp/file", "write /tmp/file x", "access /area/dir/file"
    )
    assert said["read /home/file"] == "home"
    assert said["read /tmp/file"] == "copied"
    assert said["write /tmp/file x"] == {"errno": "EROFS"}
    assert said["access /area/dir/file"] == 0


@pytest.mark.parametrize(
    ("limit", "words"), [("size=64k", "no space left on device"), ("nr_inodes=3", "no space left on device")]
)
def test_too_much(runtime: Runtime, limit: str, words: str) -> None:
    bundle = runtime.bundle()
    for number in range(5):
        (bundle.rootfs / "area" / f"file-{number}").write_bytes(b"x" * 50000)
    bundle.mount("/area", "tmpfs", "tmpfs", "tmpcopyup", limit)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("copy the content of /area into its tmpfs", words)
    before.assert_unchanged()


def test_too_much_for_the_memory_limit(runtime: Runtime) -> None:
    """The copy is charged to the container: a large image cannot eat the host's memory through it."""
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "large").write_bytes(b"x" * (24 << 20))
    bundle.linux["resources"] = {"memory": {"limit": 8 << 20}}
    bundle.mount("/area", "tmpfs", "tmpfs", "tmpcopyup")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("memory.limit")
    before.assert_unchanged()
