"""podman: no daemon; conmon calls the runtime, and the `containers.conf` of the README names it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.engines import docs
from tests.engines.engine import IMAGE, DockerLike, open_files, processes, program, write_storage_conf
from tests.support.runtime import SYSTEMD


class Podman(DockerLike):
    """podman with its own storage."""

    name = "podman"
    container_cgroup = re.compile(r"libpod-[0-9a-f]{64}(\.scope)?$")

    def start(self) -> None:
        """Write its configuration, import the image."""
        files, tasks = open_files(), processes()
        defaults = f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={tasks}:{tasks}"]\n'
        conf = self.folder / "containers.conf"
        # Locks in files below our own folder: those in /dev/shm are shared by all podmans of the host.
        known = docs.block("containers.conf", self.runtime)
        conf.write_text(known.replace("[engine]\n", '[engine]\nlock_type = "file"\n', 1) + defaults)
        self.env["CONTAINERS_CONF"] = str(conf)
        self.env["CONTAINERS_STORAGE_CONF"] = str(write_storage_conf(self.folder))
        self.limits = ("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={tasks}:{tasks}")
        # An ordinary user has no cgroups on v1, and there podman asks for none unless a parent is named.
        self.in_pod: tuple[str, ...] = () if self.user else ("--cgroup-parent", self.cgroup_parent)
        self.habits = ("--network", "none", *self.in_pod)
        self.call("import", str(self.image), IMAGE).ok()

    def by_name(self, *words: str) -> list[str]:
        """The command line with the name of the runtime that containers.conf gives, in place of its path."""
        command = self.command(*words)
        command[command.index("--runtime") + 1] = "pyrunc"
        return command

    def by_default(self, *words: str) -> list[str]:
        """The command line without a runtime: containers.conf may have a default."""
        command = self.command()
        return [*command[: command.index("--runtime")], *words]

    def command(self, *words: str) -> list[str]:
        """`podman --runtime PATH`; no journal is asked for anything, and systemd only for cgroups."""
        manager = "systemd" if SYSTEMD else "cgroupfs"
        options = ["--cgroup-manager", manager, "--events-backend", "file", "--log-level", "error"]
        scratch = ["--tmpdir", f"{self.folder}/tmp"]
        return [program("podman"), *options, *scratch, "--runtime", str(self.runtime), *words]

    def state_directories(self) -> list[Path]:
        """The runtime's default: podman gives no --root."""
        return [self.default_state]

    def remove_containers(self) -> None:
        """Remove all pods and containers."""
        self.call("pod", "rm", "--all", "--force", "--time", "0")
        self.call("rm", "--all", "--force", "--time", "0")

    def stop(self) -> None:
        """As an ordinary user: remove what belongs to subordinate ids, as only their user namespace can."""
        if os.geteuid():
            self.call("unshare", "rm", "-rf", f"{self.folder}/graph")
