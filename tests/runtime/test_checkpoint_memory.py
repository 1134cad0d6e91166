"""checkpoint: memory that is written beforehand, sent to a page server or fetched later."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import criu as tool
from tests.support import footprint
from tests.support.checkpointed import counting, goes_on, process_of, ticks
from tests.support.runtime import Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def on_disk(images: Path) -> int:
    """How many blocks the memory in the images takes, holes aside."""
    return sum(file.stat().st_blocks for file in images.glob("pages-*.img"))


@pytest.mark.parametrize("flags", [[], ["--auto-dedup"]])
def test_pre_dump_with_a_parent(runtime: Runtime, images: Path, criu: Path, flags: list[str]) -> None:
    """With --auto-dedup the first images lose the pages that the second have anew."""
    if not tool.works(criu / "criu", "mem_dirty_track"):
        container = counting(runtime)
        container.checkpoint(images / "first", "--pre-dump").fails("pre-dump", "mem_track")
        goes_on(container)
        pytest.skip("the kernel does not tell which memory was written to (CONFIG_MEM_SOFT_DIRTY)")
    container = counting(runtime)
    container.checkpoint(images / "first", "--pre-dump").ok()
    goes_on(container)
    before = on_disk(images / "first")
    container.checkpoint(images / "second", "--parent-path", "../first", *flags).ok()
    assert (on_disk(images / "first") < before) == bool(flags)
    assert os.readlink(images / "second" / "parent") == "../first"
    container.restore(images / "second").ok()
    goes_on(container)


@pytest.mark.parametrize("flags", [[], ["--auto-dedup"]])
def test_images_that_are_used_up(runtime: Runtime, images: Path, flags: list[str]) -> None:
    """A restore with --auto-dedup takes away what it has read."""
    container = counting(runtime)
    container.checkpoint(images).ok()
    before = on_disk(images)
    container.restore(images, *flags).ok()
    goes_on(container)
    assert (on_disk(images) < before) == bool(flags)


def free_port() -> int:
    """A TCP port of this host that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(criu: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of criu's, ended at the end."""
    daemon = subprocess.Popen([criu / "criu", *words])
    footprint.own_children.add(daemon.pid)
    try:
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait()
        footprint.own_children.discard(daemon.pid)


def listens(port: int) -> bool:
    """Whether somebody waits for connections to this port; without making one."""
    return any(
        f":{port:04X} 00000000:0000 0A" in line for line in Path("/proc/net/tcp").read_text().splitlines()
    )


def test_a_page_server(runtime: Runtime, images: Path, criu: Path) -> None:
    """The memory goes to it, all else to the images."""
    elsewhere, port = images / "elsewhere", free_port()
    elsewhere.mkdir(parents=True)
    container = counting(runtime)
    where = ["--images-dir", str(elsewhere), "--address", "127.0.0.1", "--port", str(port)]
    with serving(criu, "page-server", *where) as daemon:
        wait_for(lambda: listens(port), say="the page server")
        container.checkpoint(images, "--page-server", f"127.0.0.1:{port}").ok()
        wait_for(lambda: daemon.poll() is not None, say="the end of the page server")
    assert not list(images.glob("pages-*.img"))
    for image in elsewhere.glob("page*.img"):
        shutil.move(image, images)
    container.restore(images).ok()
    goes_on(container)


def test_lazy_pages_that_are_not_fetched(runtime: Runtime, images: Path, criu: Path) -> None:
    """The NUL byte tells that the memory can be fetched; where that fails, the container runs on."""
    if not tool.works(criu / "criu", "uffd-noncoop"):
        pytest.skip("the kernel has no userfaultfd(2) for other processes")
    port = free_port()
    container = counting(runtime)
    first = process_of(container.pid)
    read, write = os.pipe()
    words = ["--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(write)]
    leaving = runtime.spawn("checkpoint", "--image-path", str(images), *words, container.id, pass_fds=[write])
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"\0", leaving.err
    wait_for(lambda: listens(port), say="criu's server")
    said = ticks(container)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.send(b"\xff" * 64)  # no request for pages
    leaving.wait().fails("criu failed: type DUMP")
    assert process_of(container.pid) == first
    assert ticks(container)[: len(said)] == said
    goes_on(container)
