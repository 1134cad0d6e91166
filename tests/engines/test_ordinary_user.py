"""An ordinary user's containers on cgroup v1, where they have no cgroups: what becomes of limits.

What works as for root is shown by the other modules, whose fixtures `engine`, `podman` and `buildah` are also his.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.buildah import Buildah
from tests.engines.engine import IMAGE
from tests.engines.ordinary_user import HERE, ID, SUBORDINATE
from tests.engines.podman import Podman

pytestmark = pytest.mark.skipif(not HERE, reason="this host has cgroup v2")


@pytest.fixture
def his_podman(podman_of_user_session: Podman) -> Iterator[Podman]:
    """podman; the test must leave nothing behind."""
    with podman_of_user_session.watched():
        yield podman_of_user_session


@pytest.fixture
def his_buildah(buildah_of_user_session: Buildah) -> Iterator[Buildah]:
    """buildah; the test must leave nothing behind."""
    with buildah_of_user_session.watched():
        yield buildah_of_user_session


@pytest.mark.xdist_group("podman_of_user")
def test_ids(his_podman: Podman) -> None:
    """Root of a container is he; the others are his subordinate ids. Its state is in his folder."""
    his_podman.detached("one", ["--user", "ann"])
    pid = his_podman.inspect("one", "{{.State.Pid}}")
    lines = [line.split() for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()]
    assert lines == [["0", str(ID), "1"], ["1", str(SUBORDINATE), "65536"]]
    assert f"Uid:\t{SUBORDINATE + 999}\t" in Path(f"/proc/{pid}/status").read_text()
    (state,) = [
        path for path in his_podman.default_state.iterdir() if his_podman.container_id.match(path.name)
    ]
    assert state.stat().st_uid == ID


@pytest.mark.xdist_group("podman_of_user")
def test_limits_are_ignored(his_podman: Podman) -> None:
    """podman says so, and asks the runtime for none."""
    options = ["--memory", "64m", "--pids-limit", "20", "--cpus", "0.5"]
    outcome = his_podman.run(options, "testify", "forks", "40", "--", "read", "/proc/self/cgroup").ok()
    assert "limits are not supported and ignored on cgroups V1 rootless" in outcome.err
    assert outcome.testimony["forks 40"]["made"] == 40
    inside, ours = (
        {line for line in text.splitlines() if ":memory:" in line or ":pids:" in line}
        for text in (outcome.testimony["read /proc/self/cgroup"], Path("/proc/self/cgroup").read_text())
    )
    assert inside == ours


@pytest.mark.xdist_group("podman_of_user")
@pytest.mark.parametrize(
    ("words", "say"),
    [
        ("pause one", "does not have a cgroup"),
        ("stats --no-stream one", "not supported in rootless mode without cgroups v2"),
        ("update --cpus 0.25 one", "linux.resources.cpu.quota: this container has no cgroup"),
    ],
)
def test_what_takes_a_cgroup(his_podman: Podman, words: str, say: str) -> None:
    his_podman.detached("one", [])
    outcome = his_podman.call(*words.split())
    assert outcome.status == 125, outcome
    assert say in outcome.err, outcome
    assert his_podman.inspect("one", "{{.State.Status}}") == "running"


@pytest.mark.xdist_group("buildah_of_user")
def test_limits_of_a_build(his_buildah: Buildah) -> None:
    """buildah asks for them."""
    outcome = his_buildah.build(f"FROM {IMAGE}", "RUN true", options=("--memory", "64m"))
    assert outcome.status == 1, outcome
    assert "pyrunc create failed: make cgroup" in outcome.err and "permission denied" in outcome.err, outcome
