"""rlimits and the OOM score, set from outside by the runtime."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.errors import KernelError
from pyrunc.linux import capabilities, limits
from tests.support.process_steps import config


@pytest.fixture
def sleeper() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        import time

        try:
            time.sleep(60)
        finally:
            os._exit(0)
    yield pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_rlimits(sleeper: int) -> None:
    wanted = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": limits.INFINITY},
    ]
    asked = config(rlimits=wanted)
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        wanted.pop()
    limits.apply_rlimits(asked, sleeper)
    assert resource.prlimit(sleeper, resource.RLIMIT_NOFILE) == (100, 200)
    assert resource.prlimit(sleeper, resource.RLIMIT_CORE)[0] == 0


def test_limit_that_is_refused(sleeper: int) -> None:
    nr_open = int(Path("/proc/sys/fs/nr_open").read_text())
    with pytest.raises(KernelError) as caught:
        limits.apply_rlimits(
            config(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": nr_open + 1}]), sleeper
        )
    assert str(caught.value) == (
        f"set RLIMIT_NOFILE to soft 1, hard {nr_open + 1}: operation not permitted "
        f"(fs.nr_open of this machine allows at most {nr_open})"
    )


def test_limit_above_the_hard_one(sleeper: int) -> None:
    if capabilities.passable()[0] >> 24 & 1:
        pytest.skip("this host has CAP_SYS_RESOURCE, so no limit is refused")
    resource.prlimit(sleeper, resource.RLIMIT_CORE, (0, 4096))
    with pytest.raises(KernelError) as caught:
        limits.apply_rlimits(config(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 8192}]), sleeper)
    assert "more than the present hard limit 4096 takes CAP_SYS_RESOURCE" in str(caught.value)


def test_oom_score(sleeper: int) -> None:
    file = Path(f"/proc/{sleeper}/oom_score_adj")
    before = file.read_text()
    limits.apply_oom_score_adj(config(), sleeper)
    assert file.read_text() == before
    limits.apply_oom_score_adj(config(oomScoreAdj=321), sleeper)
    assert file.read_text() == "321\n"


def test_oom_score_that_is_refused(sleeper: int) -> None:
    if capabilities.passable()[0] >> 24 & 1:
        pytest.skip("this host has CAP_SYS_RESOURCE, so no score is refused")
    with pytest.raises(KernelError) as caught:
        limits.apply_oom_score_adj(config(oomScoreAdj=-999), sleeper)
    assert str(caught.value).startswith("set oomScoreAdj to -999: permission denied (it is ")
