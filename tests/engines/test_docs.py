"""docs/engines.md: its lines are run as they stand there, with the path of the runtime and of the image put in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import docs
from tests.engines.buildah import Buildah
from tests.engines.containerd import Containerd
from tests.engines.docker import Docker
from tests.engines.engine import IMAGE, Engine, program
from tests.engines.podman import Podman
from tests.support.runtime import Outcome


def line(engine: Engine, name: str, *more: str, **words: str) -> Outcome:
    """Run the one line of a block; `more` goes behind the verb `run` or `build`."""
    text = docs.block(name, engine.runtime).replace("IMAGE", IMAGE)
    for before, after in words.items():
        text = text.replace(before, after)
    for verb in (" run ", " build "):
        text = text.replace(verb, f"{verb}{' '.join(more)} ", 1)
    return engine.execute(["sh", "-c", text])


@pytest.mark.xdist_group("containerd")
def test_ctr(containerd: Containerd) -> None:
    assert line(containerd, "ctr").ok().out == "hello from containerd\n"


@pytest.mark.xdist_group("containerd")
def test_containerd_config(containerd: Containerd, folder: Path) -> None:
    """containerd's CRI plugin takes the settings (running them needs a kubelet or crictl)."""
    path = folder / "config.toml"
    path.write_text(docs.block("config.toml", containerd.runtime))
    dump = containerd.execute([program("containerd"), "--config", str(path), "config", "dump"]).ok().out
    assert f'BinaryName = "{containerd.runtime}"' in dump
    assert 'default_runtime_name = "pyrunc"' in dump


@pytest.mark.xdist_group("podman")
def test_podman(podman: Podman) -> None:
    podman.env["PATH"], before = f"{podman.folder}:{podman.env['PATH']}", podman.env["PATH"]
    wrapper = podman.folder / "podman"
    options = podman.command()
    options = options[: options.index("--runtime")]
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(options)} "$@"\n')
    wrapper.chmod(0o755)
    try:
        assert line(podman, "podman", *podman.habits).ok().out == "hello from podman\n"
    finally:
        podman.env["PATH"] = before


@pytest.mark.xdist_group("docker")
def test_docker(docker: Docker) -> None:
    assert line(docker, "docker", "--network", "none").ok().out == "hello from docker\n"


@pytest.mark.xdist_group("buildah")
def test_buildah(buildah: Buildah) -> None:
    context = buildah.folder / "docs"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(f"FROM {IMAGE}\nRUN echo hello from buildah\n")
    limits = [
        "--ulimit",
        "nofile=1000:1000",
        "--ulimit",
        "nproc=10000:10000",
        "--cgroup-parent",
        f"/{buildah.tag}",
    ]
    outcome = line(buildah, "buildah", "--network", "none", *limits, CONTEXT=str(context)).ok()
    assert "hello from buildah" in outcome.out
