"""containerd and its client ctr: an own daemon; the runtime is named with `--runc-binary`."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.engines.engine import IMAGE, Engine, asking, program
from tests.engines.image import make_oci_archive
from tests.support import footprint
from tests.support.payload import Testimony
from tests.support.runtime import SYSTEMD, Outcome, wait_for

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""


class Events:
    """The lines of `ctr events`: time, containerd's namespace, topic, JSON."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The events with this topic so far."""
        text = os.pread(self._file.fileno(), 1 << 22, 0).decode()
        lines = [line.partition(f" {topic} ")[2] for line in text.splitlines()]
        return [json.loads(line) for line in lines if line]

    def hears(self, topic: str, name: str) -> dict[str, Any]:
        """Wait for an event with this topic about this container."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.of(topic) if event["container_id"] == name]

        event: dict[str, Any] = wait_for(found, 10, f"{topic} of {name}")[0]
        return event


class Containerd(Engine):
    """containerd with scratch folders; its containers live in a containerd namespace named after the test."""

    name = "containerd"
    container_id = re.compile(r"^c[0-9]+$")

    def __init__(self, runtime: Path, image: Path) -> None:
        super().__init__(runtime, image)
        self.container_cgroup = re.compile(f"/{self.tag}(\\.slice)?/[^/]+$")
        self.env["CONTAINERD_ADDRESS"] = f"{self.folder}/containerd.sock"
        self.env["CONTAINERD_NAMESPACE"] = self.tag
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start containerd, import the image."""
        config = self.folder / "config.toml"
        config.write_text(_CONFIG.format(folder=self.folder))
        command = [program("containerd"), "--config", str(config)]
        self.start_daemon(command, "containerd.log")
        archive = make_oci_archive(self.image, IMAGE, self.folder / "image.tar")
        self.call("images", "import", str(archive)).ok()

    def answers(self) -> bool:
        """Whether containerd serves its client."""
        return (self.folder / "containerd.sock").exists() and super().answers()

    def command(self, *words: str) -> list[str]:
        """The client; socket and namespace are in its environment."""
        return [program("ctr"), *words]

    def run_words(self, options: list[str], name: str, *words: str) -> list[str]:
        """`ctr run` with our runtime."""
        runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", str(self.runtime)]
        root = ["--runc-root", f"{self.folder}/runc"]
        unit = (
            ["--runc-systemd-cgroup", "--cgroup", f"{self.cgroup_parent}:{self.tag}:{name}"]
            if SYSTEMD
            else []
        )
        return ["run", *runtime, *root, *unit, *options, IMAGE, name, *words]

    def new_name(self) -> str:
        """A name for a container."""
        return f"c{next(self._numbers)}"

    def run(self, options: list[str], *words: str) -> Outcome:
        """`ctr run --rm` in the foreground."""
        return self.call(*self.run_words(["--rm", *options], self.new_name(), *words))

    def ask(self, options: list[str], *questions: str) -> Testimony:
        """What testify answers in a container with these options."""
        return self.run(options, *asking(*questions)).ok().testimony

    def detached(self, options: list[str], *words: str) -> str:
        """`ctr run --detach`; returns the name once the task is listed as running."""
        name = self.new_name()
        command = self.run_words(["--detach", *options], name, *(words or ("testify", "sleep")))
        if "--tty" in options:
            self.terminal(*command).end().ok()  # ctr looks for a terminal of its own even then
        else:
            self.call(*command).ok()
        wait_for(lambda: self.status(name) == "RUNNING", 10, f"the start of {name}")
        return name

    def tasks(self) -> dict[str, tuple[int, str]]:
        """pid and status of each task."""
        lines = [line.split() for line in self.call("tasks", "ls").ok().out.splitlines()[1:]]
        return {name: (int(pid), status) for name, pid, status in lines}

    def status(self, name: str) -> str:
        """The status of a task; empty if there is none."""
        return self.tasks().get(name, (0, ""))[1]

    def shim_socket(self, name: str) -> Path:
        """The socket of a task's shim, which a killed shim leaves behind."""
        words = f"{self.folder}/containerd.sock/{self.tag}/{name}"
        return Path("/run/containerd/s", hashlib.sha256(words.encode()).hexdigest())

    def stops(self, name: str) -> None:
        """Wait until the task has ended."""
        wait_for(lambda: self.status(name) == "STOPPED", 10, f"the end of {name}")

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """What containerd tells its subscribers, from now on."""
        with tempfile.TemporaryFile() as out:
            command = self.command("events")
            client = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=out)
            footprint.own_children.add(client.pid)
            try:
                events = Events(out)
                wait_for(lambda: self._label() and events.of("/images/update"), 10, "the subscription")
                yield events
            finally:
                client.terminate()
                client.wait()
                footprint.own_children.discard(client.pid)

    def _label(self) -> bool:
        return self.call("images", "label", IMAGE, f"now={time.monotonic_ns()}").status == 0

    def state_directories(self) -> list[Path]:
        """`--runc-root`, with the containerd namespace below it."""
        return [self.folder / "runc" / self.tag]

    def remove_containers(self) -> None:
        """Kill and remove all tasks and containers."""
        for name in self.tasks():
            self.call("tasks", "rm", "--force", name)
        for name in self.call("containers", "ls", "--quiet").out.split():
            self.call("containers", "rm", name)
