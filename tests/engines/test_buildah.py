"""buildah: RUN in a build."""

from __future__ import annotations

import pytest

from tests.engines.buildah import Buildah
from tests.engines.engine import IMAGE, asking
from tests.support.payload import Testimony


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
    memory = () if buildah.user else ("--memory", "64m")  # he has no cgroups: see test_ordinary_user
    options = ("--cap-drop", "CAP_CHOWN", *memory, "--volume", f"{buildah.folder}/context:/host:ro")
    lines = ['RUN ["testify", "caps", "--", "mkdir", "/host/x", "--", "access", "/host/rootfs.tar"]']
    answers = Testimony(buildah.build(f"FROM {IMAGE}", *lines, options=options).ok().out)
    assert 0 not in answers["caps"]["effective"] and answers["caps"]["effective"]
    assert answers["mkdir /host/x"] == {"errno": "EROFS"}
    assert answers["access /host/rootfs.tar"] == 0


def test_user_namespace(buildah: Buildah) -> None:
    # An ordinary user's are counted within his subordinate ids.
    ids = ["0", "1", "5000"] if buildah.rootless else ["0", "100000", "65536"]
    options = ("--userns-uid-map", ":".join(ids), "--userns-gid-map", ":".join(ids))
    lines = ['RUN ["testify", "read", "/proc/self/uid_map"]']
    answers = Testimony(buildah.build(f"FROM {IMAGE}", *lines, options=options).ok().out)
    assert answers["read /proc/self/uid_map"].split() == ids


def test_stages(buildah: Buildah) -> None:
    """Each stage has its own root file system; a later one takes files and mounts from an earlier one."""
    lines = [
        f"FROM {IMAGE} AS builder",
        "RUN mkdir /out && echo built > /out/made && chmod 0750 /out/made",
        "FROM scratch AS base",
        "COPY --from=builder /bin /bin",
        "ENV PATH=/bin",
        "FROM base",
        "RUN --mount=type=bind,from=builder,source=/out,target=/from cat /from/made > /copied",
        "COPY --from=builder --chown=1000:1000 /out /out",
        f"RUN {' '.join(asking('read /copied', 'stat /out/made', 'access /from/made', 'access /etc/passwd'))}",
    ]
    answers = Testimony(buildah.build(*lines).ok().out)
    assert answers["read /copied"] == "built\n"
    assert (answers["stat /out/made"]["uid"], answers["stat /out/made"]["mode"]) == (1000, 0o750)
    assert answers["access /from/made"] == answers["access /etc/passwd"] == {"errno": "ENOENT"}


def test_mounts_of_a_run(buildah: Buildah) -> None:
    """`--mount`: a tmpfs and the context are there for one RUN, and leave nothing in the image; a secret is as well."""
    (buildah.folder / "secret").write_text("a word")
    options = ("--secret", f"id=word,src={buildah.folder}/secret")
    mounts = ("type=tmpfs,target=/scratch", "type=bind,source=/,target=/context,ro", "type=secret,id=word")
    words = asking("access /context/rootfs.tar", "mkdir /context/x", "read /run/secrets/word", "mounts")
    lines = [
        f"FROM {IMAGE}",
        f"RUN {' '.join(f'--mount={mount}' for mount in mounts)} echo x > /scratch/x; {' '.join(words)}",
        f"RUN {' '.join(asking('access /scratch/x', 'access /run/secrets/word'))}",
    ]
    answers = Testimony(buildah.build(*lines, options=options).ok().out)
    assert answers["access /context/rootfs.tar"] == 0
    assert answers["mkdir /context/x"] == {"errno": "EROFS"}
    assert answers["read /run/secrets/word"] == "a word"
    assert any(" /scratch " in line and "tmpfs" in line for line in answers["mounts"].splitlines())
    assert answers["access /scratch/x"] == answers["access /run/secrets/word"] == {"errno": "ENOENT"}
