"""buildah: each RUN of a build is a container, made by the runtime given with `--runtime`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.engines.engine import IMAGE, Engine, open_files, program, write_storage_conf
from tests.support.runtime import Outcome


class Buildah(Engine):
    """buildah with its own storage."""

    name = "buildah"
    container_cgroup = re.compile(r"/buildah-")
    container_id = re.compile(r"^buildah-")

    def start(self) -> None:
        """Write its storage configuration, build the image."""
        self.env["CONTAINERS_STORAGE_CONF"] = str(write_storage_conf(self.folder))
        (self.folder / "context").mkdir()
        shutil.copy(self.image, self.folder / "context" / "rootfs.tar")
        self.build("FROM scratch", "ADD rootfs.tar /", "ENV PATH=/bin", tag=IMAGE).ok()

    @property
    def habits(self) -> list[str]:
        """Options of every build on the hosts of the tests."""
        limits = ["--ulimit", f"nofile={open_files()}:{open_files()}", "--ulimit", "nproc=10000:10000"]
        # An ordinary user has no cgroups on v1, and there buildah asks for none unless a parent or a limit is named.
        cgroup = [] if self.user else ["--cgroup-parent", f"/{self.tag}"]
        return ["--network", "none", *limits, *cgroup]

    def build(self, *lines: str, tag: str = "localhost/built", options: tuple[str, ...] = ()) -> Outcome:
        """Build a Containerfile of these lines."""
        (self.folder / "Containerfile").write_text("\n".join(lines) + "\n")
        runtime = ["--isolation", "oci", "--runtime", str(self.runtime), "--no-cache"]
        files = ["--tag", tag, "--file", f"{self.folder}/Containerfile", f"{self.folder}/context"]
        return self.call("build", *runtime, *self.habits, *options, *files)

    def command(self, *words: str) -> list[str]:
        """The client; its storage is in its environment."""
        return [program("buildah"), *words]

    def remove_containers(self) -> None:
        """Remove working containers."""
        self.call("rm", "--all")

    def state_directories(self) -> list[Path]:
        """The runtime's default: buildah gives no --root."""
        return [self.default_state]
