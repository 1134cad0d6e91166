"""`update` that fails: what was set is put back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.limits import SWAP, V2, M, limited
from tests.support.runtime import Runtime
from tests.support.updating import limits_of, obstacle, saved, with_json


@pytest.mark.needs_root
@pytest.mark.parametrize("start", ["bare", "limited"])
def test_what_was_set_is_put_back(runtime: Runtime, start: str) -> None:
    """The last of many values is refused by the kernel: no device has these numbers."""
    resources: dict[str, Any] = {
        "memory": {"limit": 64 * M, "reservation": 32 * M},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0"},
        "pids": {"limit": 20},
    }
    with runtime.running(limited(runtime, **(resources if start == "limited" else {}))) as container:
        before, kept = limits_of(container), saved(container)
        other: dict[str, Any] = {
            "memory": {"limit": 32 * M, "reservation": 16 * M, **({"swap": 48 * M} if SWAP else {})},
            "cpu": {"shares": 2048, "quota": 60000, "period": 80000, "burst": 500, "cpus": "1"},
            "pids": {"limit": 40},
        }
        if not V2:
            other["memory"] |= {"swappiness": 3, "disableOOMKiller": True}
        devices = [{"major": 999, "minor": 9, "rate": 5}]
        outcome = with_json(container, {**other, "blockIO": {"throttleReadBpsDevice": devices}})
        outcome.fails("linux.resources.blockIO.throttleReadBpsDevice[0]", "no such device")
        assert "level=warning" not in outcome.err, "all could be put back"
        assert (limits_of(container), saved(container)) == (before, kept)
        with_json(container, other).ok()
        changed = limits_of(container)
        assert {name for name in before if before[name] == changed[name]} <= {
            "cpu.idle",
            "cpu/cpu.idle",
            "blkio/blkio.throttle.read_bps_device",
        }


def test_what_cannot_be_saved_is_put_back(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, pids={"limit": 20})) as container:
        before, kept = limits_of(container), saved(container)
        path = obstacle(container)
        with_json(container, {"pids": {"limit": 30}}).fails("save", "config.json", "is a directory")
        assert (limits_of(container), saved(container)) == (before, kept)
        path.rmdir()
        with_json(container, {"pids": {"limit": 30}}).ok()
        assert saved(container)["pids"] == {"limit": 30}


@pytest.mark.parametrize("way", ["created with it", "asked for now"])
def test_a_limit_below_the_usage(runtime: Runtime, way: str) -> None:
    """With checkBeforeUpdate it is refused; cgroup v1 always refuses it."""
    check = {"checkBeforeUpdate": True}
    bundle = limited(runtime, memory={"limit": 128 * M, **(check if way == "created with it" else {})})
    # As the last command the shell becomes testify, which goes on holding what it has eaten.
    bundle.shell("exec testify eat 40 -- sleep")
    with runtime.running(bundle) as container:
        container.says("eat 40")
        before = limits_of(container)
        wanted = {
            "memory": {"limit": 16 * M, **(check if way == "asked for now" else {})},
            "pids": {"limit": 9},
        }
        with_json(container, wanted).fails("memory", "current usage")
        assert limits_of(container) == before
        assert container.status == "running"
