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

    def build(self, *lines: str, tag: str = "localhost/built", options: tuple[str, ...] = ()) -> Outcome:
        """Build a Containerfile of these lines."""
        (self.folder / "Containerfile").write_text("\n".join(lines) + "\n")
        limits = ["--ulimit", f"nofile={open_files()}:{open_files()}", "--ulimit", "nproc=10000:10000"]
        runtime = ["--isolation", "oci", "--runtime", str(self.runtime), "--network", "none", "--no-cache"]
        cgroup = ["--cgroup-parent", f"/{self.tag}"]
        files = ["--tag", tag, "--file", f"{self.folder}/Containerfile", f"{self.folder}/context"]
        return self.call("build", *runtime, *cgroup, *limits, *options, *files)

    def command(self, *words: str) -> list[str]:
        """The client; its storage is in its environment."""
        return [program("buildah"), *words]

    def remove_containers(self) -> None:
        """Remove working containers."""
        self.call("rm", "--all")

    def state_directories(self) -> list[Path]:
        """The runtime's default: buildah gives no --root."""
        return [self.default_state]
