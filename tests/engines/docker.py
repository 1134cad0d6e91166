"""docker: an own dockerd (which starts its own containerd), with the `daemon.json` of the README."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.engines import docs
from tests.engines.engine import IMAGE, DockerLike, open_files, program
from tests.support import footprint
from tests.support.private_files import with_files
from tests.support.runtime import SYSTEMD


class Docker(DockerLike):
    """dockerd with scratch folders. `remap`: containers get the user namespace of this subordinate range."""

    name = "docker"
    container_cgroup = re.compile(r"(docker-)?[0-9a-f]{64}(\.scope)?$")
    elsewhere = (
        "/etc/docker/key.json",
        "/etc/docker",
        "/run/docker/plugins",
        "/run/docker",
        "/opt/containerd/bin",
        "/opt/containerd/lib",
        "/opt/containerd",
    )

    def __init__(self, runtime: Path, image: Path, remap: tuple[int, int] | None = None) -> None:
        super().__init__(runtime, image)
        self.remap = remap
        self.socket = f"unix://{self.folder}/docker.sock"
        self.env["DOCKER_HOST"] = self.socket
        self.habits = ("--network", "none", "--runtime", "pyrunc")

    def start(self) -> None:
        """Start dockerd, import the image."""
        known = json.loads(docs.block("daemon.json", self.runtime)) | json.loads(
            docs.blocks()["default.json"]
        )
        limit = {"Name": "nofile", "Soft": open_files(), "Hard": open_files()}
        settings = known | {
            "data-root": f"{self.folder}/data",
            "exec-root": f"{self.folder}/exec",
            "pidfile": f"{self.folder}/dockerd.pid",
            "hosts": [self.socket],
            "cgroup-parent": self.cgroup_parent,
            "default-ulimits": {"nofile": limit},
            "exec-opts": [f"native.cgroupdriver={'systemd' if SYSTEMD else 'cgroupfs'}"],
            "live-restore": True,
            "experimental": True,  # docker checkpoint
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "ip-masq": False,
        }
        command = [program("dockerd"), "--config-file", f"{self.folder}/daemon.json"]
        if self.remap:
            settings["userns-remap"] = "daemon"
            ranges = self.folder / "ranges"
            ranges.write_text(f"daemon:{self.remap[0]}:{self.remap[1]}\n")
            command = [*with_files({"/etc/subuid": ranges, "/etc/subgid": ranges}), *command]
        (self.folder / "daemon.json").write_text(json.dumps(settings))
        self.start_daemon(command, "dockerd.log")
        self.call("import", str(self.image), IMAGE).ok()

    def answers(self) -> bool:
        """Whether dockerd serves its client."""
        return (self.folder / "docker.sock").exists() and super().answers()

    def stop(self) -> None:
        """Stop dockerd, and a containerd that has outlived it."""
        own = self.own_processes()
        super().stop()
        footprint.end(own)

    def own_processes(self) -> set[int]:
        """dockerd and its containerd."""
        try:
            return super().own_processes() | {
                int((self.folder / "exec/containerd/containerd.pid").read_text())
            }
        except FileNotFoundError:
            return super().own_processes()

    def command(self, *words: str) -> list[str]:
        """The client; the socket is in its environment."""
        return [program("docker"), *words]

    def state_directories(self) -> list[Path]:
        """dockerd keeps the runtime's state among its own."""
        return [path / "moby" for path in (self.folder / "exec").glob("runtime-*")] if self.started() else []

    def started(self) -> bool:
        """Whether dockerd has made its folder of state."""
        return (self.folder / "exec").is_dir()
