"""checkpoint and restore: stdin, stdout and stderr of every kind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.checkpointed import COUNTER, Named, beside, counting, goes_on, ticks
from tests.support.runtime import Runtime, wait_for
from tests.support.terminal import ConsoleSocket

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def test_a_terminal(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().shell("while read word; do echo got $word; done")
    bundle.process["terminal"] = True
    container = Named(runtime, bundle)
    with ConsoleSocket(runtime.folder / "console") as console:
        container.create("--console-socket", str(console.path)).ok()
        master = console.receive()
        container.start().ok()
        master.write("one\n")
        master.read("got one")
        container.checkpoint(images).ok()
        assert len(json.loads((images / "descriptors.json").read_text())) == 3
        container.restore(images).fails("console socket")
        container.restore(images, "--console-socket", str(console.path)).ok()
        again = console.receive()
        again.write("two\n")
        again.read("got two")
        assert "got one" not in again.text
        assert container.status == "running"


def test_pipes(runtime: Runtime, images: Path) -> None:
    """What was a pipe is whatever the restore has there."""
    bundle = runtime.bundle().shell(COUNTER)
    container = Named(runtime, bundle)
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        words = runtime.words("run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id)
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=runtime.env, check=True
        )
        assert reader.readline() == "tick 1\n"
        container.checkpoint(images).ok()
    names = json.loads((images / "descriptors.json").read_text())
    assert names[1] == names[2] and names[1].startswith("pipe:[")
    container.restore(images).ok()
    wait_for(lambda: len(ticks(container)) > 2)
    assert ticks(container)[0] > 1


@pytest.mark.parametrize("kind", ["terminal", "socket", "device"])
def test_stdio_of_other_kinds(runtime: Runtime, images: Path, kind: str) -> None:
    """A terminal of the host's, though the container has none of its own; a unix socket; a device."""
    ends = [_ends(kind), _ends(kind)]
    bundle = runtime.bundle().shell("while read word; do echo got $word; done")
    if kind == "device":
        bundle.shell(COUNTER)
    elif kind == "socket":
        bundle.without_namespace(
            "network"
        )  # criu looks for sockets in the container's network namespace only
    id = runtime.new_id()
    where = ["--bundle", runtime.put(bundle, id)]
    try:
        for verb, (ours, theirs) in zip(
            (["run"], ["restore", "--image-path", str(images)]), ends, strict=True
        ):
            words = runtime.words(*verb, "--detach", *where, id)
            with open(beside(runtime) / "err", "ab") as err:
                done = subprocess.run(words, stdin=theirs, stdout=theirs, stderr=err, env=runtime.env)
            assert done.returncode == 0, (beside(runtime) / "err").read_text()
            if kind != "device":
                os.write(ours, b"word\n")
                said = b""
                while b"got word" not in said:
                    said += os.read(ours, 100)
            if verb == ["run"]:
                runtime.verb("checkpoint", "--image-path", str(images), id).ok()
        assert runtime.state_of(id)["status"] == "running"
    finally:
        for end in [end for both in ends for end in both]:
            os.close(end)


def _ends(kind: str) -> tuple[int, int]:
    if kind == "terminal":
        return os.openpty()
    if kind == "socket":
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()
    return os.open("/dev/null", os.O_RDONLY), os.open("/dev/full", os.O_RDWR)


def test_a_job_of_a_shell(runtime: Runtime, images: Path) -> None:
    """What a shell of `exec` left in the background: the leader of its session is not in the images."""
    container = counting(runtime)
    master, slave = os.openpty()
    try:
        script = "(while :; do echo job; sleep 0.1; done &); sleep 1000"
        shell = runtime.spawn("exec", "--tty", container.id, "sh", "-c", script, stdin=slave)
        shell.says("job")
        container.checkpoint(images).fails("Task attached to shell terminal. Consider using --shell-job")
        goes_on(container)
        container.checkpoint(images, "--shell-job").ok()
        shell.wait()
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("flags", [[], ["--shell-job"]])
def test_the_terminal_of_restored_jobs(runtime: Runtime, images: Path, flags: list[str]) -> None:
    """It is the caller's stdin. criu 4.2 falls over where a job is in the images, but says when it looks for that."""
    container = counting(runtime)
    container.checkpoint(images).ok()
    container.restore(images, *flags).ok()
    goes_on(container)
    log = (images / "restore.log").read_text()
    assert ("tty: Standard stream is not a terminal" in log) == bool(flags)
