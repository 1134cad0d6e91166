"""buildah: RUN in a build."""

from __future__ import annotations

import pytest

from tests.engines.buildah import Buildah
from tests.engines.engine import IMAGE
from tests.support.payload import Testimony

pytestmark = pytest.mark.xdist_group("buildah")


def test_run_changes_the_image(buildah: Buildah) -> None:
    outcome = buildah.build(
        f"FROM {IMAGE}", "RUN echo made > /made", "RUN cat /made; testify pid -- seccomp"
    ).ok()
    assert "made" in outcome.out
    assert Testimony(outcome.out)["seccomp"] == 2


@pytest.mark.parametrize("status", [1, 5, 42])
def test_failing_run(buildah: Buildah, status: int) -> None:
    outcome = buildah.build(f"FROM {IMAGE}", f"RUN echo ran; exit {status}")
    assert outcome.status == status, outcome
    assert f"exit status {status}" in outcome.err
    assert "ran\n" in outcome.out


def test_program_missing(buildah: Buildah) -> None:
    outcome = buildah.build(f"FROM {IMAGE}", 'RUN ["/no/such/program"]')
    assert outcome.status != 0
    assert "/no/such/program" in outcome.err and "no such file or directory" in outcome.err.lower(), outcome


def test_user_directory_and_environment(buildah: Buildah) -> None:
    lines = [
        "USER ann",
        "WORKDIR /home/ann",
        "ENV FOO=bar",
        'RUN ["testify", "ids", "--", "cwd", "--", "env"]',
    ]
    answers = Testimony(buildah.build(f"FROM {IMAGE}", *lines).ok().out)
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["cwd"] == "/home/ann"
    assert "FOO=bar" in answers["env"]


def test_options(buildah: Buildah) -> None:
    """Capabilities, memory and a volume of the build."""
    options = ("--cap-drop", "CAP_CHOWN", "--memory", "64m", "--volume", f"{buildah.folder}/context:/host:ro")
    lines = ['RUN ["testify", "caps", "--", "mkdir", "/host/x", "--", "access", "/host/rootfs.tar"]']
    answers = Testimony(buildah.build(f"FROM {IMAGE}", *lines, options=options).ok().out)
    assert 0 not in answers["caps"]["effective"] and answers["caps"]["effective"]
    assert answers["mkdir /host/x"] == {"errno": "EROFS"}
    assert answers["access /host/rootfs.tar"] == 0


def test_user_namespace(buildah: Buildah) -> None:
    options = ("--userns-uid-map", "0:100000:65536", "--userns-gid-map", "0:100000:65536")
    lines = ['RUN ["testify", "read", "/proc/self/uid_map"]']
    answers = Testimony(buildah.build(f"FROM {IMAGE}", *lines, options=options).ok().out)
    assert answers["read /proc/self/uid_map"].split() == ["0", "100000", "65536"]
