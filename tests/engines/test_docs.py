"""The README's lines for each engine are run as they stand, with the path of the runtime and of the image put in."""

from __future__ import annotations

import json

import pytest

from tests.engines import docs
from tests.engines.buildah import Buildah
from tests.engines.containerd import Containerd
from tests.engines.cri import Cri
from tests.engines.docker import Docker
from tests.engines.engine import IMAGE, Engine
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


@pytest.mark.xdist_group("cri")
def test_runtime_class(cri: Cri) -> None:
    """`config.toml` as it stands, with what keeps this containerd to itself; the handler is the RuntimeClass's."""
    known = docs.runtime_class()
    assert (known["apiVersion"], known["kind"]) == ("node.k8s.io/v1", "RuntimeClass")
    pod = cri.pod()
    assert pod.run("one", "echo", "hello from a pod").ends().exit_code == 0
    status = pod.status()
    assert status.status.runtime_handler == known["handler"]
    info = json.loads({entry.key: entry.value for entry in status.info}["info"])
    assert info["runtimeOptions"]["binary_name"] == str(cri.runtime)


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
