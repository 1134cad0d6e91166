"""Checkpoint and restore through the engines: the process goes on with what it had in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.containerd import Containerd
from tests.engines.docker import Docker
from tests.engines.engine import DockerLike
from tests.engines.podman import Podman
from tests.support import criu, footprint
from tests.support.runtime import wait_for

pytestmark = pytest.mark.needs_root

#: Counts in the shell's memory, and says how far it is behind a word that each start of it chooses anew.
COUNTER = """\
echo ready; read word </proc/sys/kernel/random/uuid; n=0
while true; do n=$((n+1)); echo $word $n; echo $word $n >/count; sleep 0.05; done
"""


@pytest.fixture(autouse=True)
def works() -> Iterator[None]:
    if criu.folder() is None:
        pytest.skip("this host has no criu that works with its kernel, and none could be unpacked")
    with criu.undisturbed():
        yield


def count(engine: DockerLike, name: str) -> tuple[str, int]:
    """The last line of the counter in the container's log."""
    lines = [line.split() for line in engine.call("logs", name).ok().out.splitlines()]
    word, number = next((line for line in reversed(lines) if len(line) == 2), ("", "0"))
    return word, int(number)


def goes_on(engine: DockerLike, name: str, before: tuple[str, int]) -> None:
    """Wait until the counter is beyond where it was; it is the same one."""
    wait_for(lambda: count(engine, name)[1] > before[1], 20, f"{name} to count on from {before}")
    assert count(engine, name)[0] == before[0]


def counting(engine: DockerLike, *options: str) -> None:
    """Start a container that counts, and wait until it does."""
    engine.detached("one", list(options), "sh", "-c", COUNTER)
    wait_for(lambda: count(engine, "one")[1] > 5, 20, "the counter")


def test_podman(podman: Podman) -> None:
    counting(podman, "--memory", "64m")
    pid = int(podman.inspect("one", "{{.State.Pid}}"))
    podman.call("container", "checkpoint", "one").ok()
    assert not footprint.alive(pid)
    assert podman.inspect("one", "{{.State.Status}} {{.State.Checkpointed}}") == "exited true"
    before = count(podman, "one")
    podman.call("container", "restore", "one").ok()
    goes_on(podman, "one", before)
    podman.call("exec", "one", "cat", "/count").ok()
    podman.call("kill", "one").ok()


def test_podman_moves_a_container(podman: Podman, folder: Path) -> None:
    """What was exported while it ran becomes another container, with what it had written."""
    counting(podman)
    image = folder / "image.tar"
    options = ["--leave-running", "--export", str(image), "--compress", "none"]
    podman.call("container", "checkpoint", *options, "one").ok()
    before = count(podman, "one")
    goes_on(podman, "one", before)
    podman.call("rm", "--force", "--time", "0", "one").ok()
    podman.call("container", "restore", "--import", str(image), "--name", "two").ok()
    goes_on(podman, "two", before)


def test_podman_with_a_pre_checkpoint(podman: Podman, folder: Path) -> None:
    """Most of the memory is written while the container runs."""
    programs = criu.folder()
    if programs and not criu.works(programs / "criu", "mem_dirty_track"):
        pytest.skip("the kernel does not track which memory is written")
    counting(podman)
    first, last = folder / "first.tar", folder / "last.tar"
    dump = ["container", "checkpoint", "--compress", "none"]
    podman.call(*dump, "--pre-checkpoint", "--export", str(first), "one").ok()
    assert podman.inspect("one", "{{.State.Status}}") == "running"
    podman.call(*dump, "--with-previous", "--export", str(last), "one").ok()
    before = count(podman, "one")
    podman.call("rm", "--force", "one").ok()
    podman.call("container", "restore", "--import-previous", str(first), "--import", str(last)).ok()
    goes_on(podman, "one", before)


@pytest.mark.xdist_group("docker")
def test_docker(docker: Docker) -> None:
    counting(docker)
    docker.call("checkpoint", "create", "one", "first").ok()
    assert docker.inspect("one", "{{.State.Status}}") == "exited"
    assert "first" in docker.call("checkpoint", "ls", "one").ok().out
    before = count(docker, "one")

    def started() -> bool:
        outcome = docker.call("start", "--checkpoint", "first", "one")
        assert outcome.status == 0 or "already exists" in outcome.err, outcome
        return outcome.status == 0

    wait_for(
        started, 20, "that containerd has let go of the images it has read"
    )  # dockerd does not wait for it
    goes_on(docker, "one", before)
    docker.call("checkpoint", "create", "--leave-running", "one", "second").ok()
    goes_on(docker, "one", count(docker, "one"))


@pytest.mark.xdist_group("containerd")
def test_containerd(containerd: Containerd) -> None:
    """`ctr` keeps the checkpoint as an image, and makes another container of it."""

    def said(name: str) -> tuple[str, int]:
        command = ["tasks", "exec", "--exec-id", "said", name, "sh", "-c", "cat /count || echo none 0"]
        word, number = (containerd.call(*command).ok().out or "none 0").split()
        return word, int(number)

    name = containerd.detached([], "sh", "-c", COUNTER)
    wait_for(lambda: said(name)[1] > 5, 20, "the counter")
    containerd.call("containers", "checkpoint", "--task", "--image", name, "localhost/checkpoint:1").ok()
    before = said(name)
    assert containerd.status(name) == "RUNNING"
    containerd.call("tasks", "rm", "--force", name)
    containerd.call("containers", "rm", name).ok()
    second = containerd.new_name()
    containerd.call("containers", "restore", "--live", second, "localhost/checkpoint:1").ok()
    wait_for(lambda: said(second)[1] > before[1], 20, "the counter")
    assert said(second)[0] == before[0]
    containerd.call("images", "rm", "localhost/checkpoint:1").ok()
