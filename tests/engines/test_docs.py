"""The lines of README and docs/engines.md are run as they stand, with the paths of the runtime and the image put in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines import docs
from tests.engines.buildah import Buildah
from tests.engines.containerd import Containerd
from tests.engines.cri import Cri, Pod
from tests.engines.docker import Docker
from tests.engines.engine import IMAGE, Engine
from tests.engines.podman import Podman
from tests.support.runtime import Outcome


def line(engine: Engine, name: str, *more: str, runtime: Path | None = None, **words: str) -> Outcome:
    """Run the one line of a block; `more` goes behind the verb `run` or `build`."""
    text = docs.block(name, runtime or engine.runtime).replace("IMAGE", IMAGE)
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
    assert pod.status().status.runtime_handler == known["handler"]
    assert runtime_of(pod) == str(cri.runtime)


@pytest.mark.xdist_group("cri")
def test_default_of_cri(cri: Cri) -> None:
    """A pod without a RuntimeClass."""
    pod = cri.pod(handler="")
    assert pod.run("one", "echo", "hello from a pod").ends().exit_code == 0
    assert pod.status().status.runtime_handler == ""
    assert runtime_of(pod) == str(cri.runtime)


def runtime_of(pod: Pod) -> str:
    """The program that containerd calls for a pod."""
    info = json.loads({entry.key: entry.value for entry in pod.status().info}["info"])
    return str((info["runtimeOptions"] or {}).get("binary_name"))


def test_podman(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = podman.folder / "podman"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(podman.by_default())} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setitem(podman.env, "PATH", f"{podman.folder}:{podman.env['PATH']}")
    assert line(podman, "podman", *podman.habits).ok().out == "hello from podman\n"


def test_default_of_podman(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = podman.folder / "default.conf"
    known = Path(podman.env["CONTAINERS_CONF"]).read_text()
    conf.write_text(known.replace("[engine]\n", docs.blocks()["default.conf"], 1))
    monkeypatch.setitem(podman.env, "CONTAINERS_CONF", str(conf))
    words = ("run", "--detach", "--name", "one", *podman.habits, IMAGE, "testify", "sleep")
    podman.execute(podman.by_default(*words)).ok()
    assert podman.inspect("one", "{{.OCIRuntime}}") == "pyrunc"


@pytest.mark.xdist_group("docker")
def test_docker(docker: Docker) -> None:
    assert line(docker, "docker", "--network", "none").ok().out == "hello from docker\n"


@pytest.mark.xdist_group("docker")
def test_default_of_docker(docker: Docker) -> None:
    docker.call("run", "--detach", "--name", "one", "--network", "none", IMAGE, "testify", "sleep").ok()
    assert docker.inspect("one", "{{.HostConfig.Runtime}}") == "pyrunc"


@pytest.mark.parametrize("block", ["buildah", "buildah-environment"])
def test_buildah(buildah: Buildah, block: str) -> None:
    context = buildah.folder / "docs"
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text(f"FROM {IMAGE}\nRUN echo hello from buildah\n")
    called = buildah.folder / f"called-{block}"
    called.touch()
    buildah.may_write(called)
    runtime = context / "runtime"
    runtime.write_text(f'#!/bin/sh\necho "$@" >> {called}\nexec {buildah.runtime} "$@"\n')
    runtime.chmod(0o755)
    outcome = line(buildah, block, *buildah.habits, runtime=runtime, CONTEXT=str(context)).ok()
    assert "hello from buildah" in outcome.out
    assert "create --bundle" in called.read_text()
