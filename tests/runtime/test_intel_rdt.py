"""linux.intelRdt from create to delete.

The installed runtime says that resctrl is not mounted, where it is not. For the rest the runtime is given a mount
point: a file system that behaves like resctrl (tests/support/resctrl.py), for want of the hardware.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.payload import REPOSITORY
from tests.support.resctrl import Resctrl
from tests.support.runtime import Container, Runtime
from tests.support.updating import limits_of, update

#: pyrunc that finds resctrl at the first word; with a second, it kills itself right after making a directory there.
GIVEN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyrunc.linux import intel_rdt
place, kill, words = sys.argv[2], sys.argv[3], sys.argv[4:]
intel_rdt.mount_point = lambda table="": place
original = intel_rdt.os.mkdir
def mkdir(path, *rest, **named):
    original(path, *rest, **named)
    if kill and str(path).startswith(place):
        os.kill(os.getpid(), int(kill))
intel_rdt.os.mkdir = mkdir
from pyrunc.cli.main import main
sys.exit(main(words))
"""
MB = "MB:0=50;1=70"


@pytest.fixture
def resctrl(folder: Path) -> Iterator[Resctrl]:
    mounted = Resctrl(folder / "resctrl")
    yield mounted
    mounted.end()


def given(runtime: Runtime, resctrl: Resctrl, kill: int = 0) -> Runtime:
    """The runtime, told where resctrl is."""
    twin = runtime.like()
    twin.command = [
        sys.executable,
        "-c",
        GIVEN,
        str(REPOSITORY),
        str(resctrl.path),
        str(int(kill)) if kill else "",
    ]
    return twin


def bundle_with(runtime: Runtime, **wanted: Any) -> Bundle:
    bundle = runtime.bundle().sleeper()
    bundle.linux["intelRdt"] = wanted
    return bundle


@pytest.mark.parametrize("wanted", [{}, {"closID": "/"}, {"memBwSchema": MB}, {"enableMonitoring": True}])
def test_not_mounted(runtime: Runtime, wanted: dict[str, Any]) -> None:
    """MUST generate an error, also for an empty object, which asks for a group."""
    with open("/proc/self/mountinfo") as file:
        if " - resctrl " in file.read():
            pytest.skip("this host has resctrl mounted")
    bundle = bundle_with(runtime, **wanted)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.intelRdt", "resctrl is not mounted", "mount -t resctrl")
    before.assert_unchanged()


def test_without_intel_rdt_resctrl_is_not_touched(runtime: Runtime, resctrl: Resctrl) -> None:
    """MUST NOT."""
    given(runtime, resctrl).run(runtime.bundle().ask("pid")).ok()
    assert resctrl.writes == [] and resctrl.tasks == {} and set(resctrl.shares) == {""}


def test_from_create_to_delete(runtime: Runtime, resctrl: Resctrl, folder: Path) -> None:
    """The process is in its group before a hook runs, and stays; the group goes with the container."""
    caller = given(runtime, resctrl)
    bundle = bundle_with(runtime, memBwSchema=MB, enableMonitoring=True)
    container = caller.container(bundle)
    for kind in ("prestart", "createRuntime"):
        bundle.hook(kind, f"cat {resctrl.path}/{container.id}/tasks > {folder}/{kind}")
    container.create().ok()
    pid = container.pid
    for kind in ("prestart", "createRuntime"):
        assert (folder / kind).read_text() == f"{pid}\n"
    container.start().ok()
    assert resctrl.tasks[pid] == (container.id, f"{container.id}/mon_groups/{container.id}")
    assert resctrl.shares[container.id]["MB"] == {"0": 50, "1": 70}
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    assert set(resctrl.shares) == {""} and resctrl.monitors == set()


def test_events_tell_shares_and_what_is_measured(runtime: Runtime, resctrl: Resctrl) -> None:
    resctrl.measured |= {
        "mon_L3_00/llc_occupancy": "1048576",
        "mon_L3_00/mbm_total_bytes": "2000",
        "mon_L3_00/mbm_local_bytes": "1000",
        "mon_L3_01/mbm_local_bytes": "Unavailable",
    }
    caller = given(runtime, resctrl)
    bundle = bundle_with(runtime, memBwSchema=MB, l3CacheSchema="L3:0=f;1=ff0", enableMonitoring=True)
    with caller.running(bundle) as container:
        event = json.loads(caller.verb("events", "--stats", container.id).ok().out)
    assert event["data"]["intel_rdt"] == {
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fff;1=fff",
        "l3_cache_schema": "L3:0=f;1=ff0",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": MB,
        "schemata": [MB, "L3:0=f;1=ff0"],
        "mbm_stats": [{"mbm_total_bytes": 2000, "mbm_local_bytes": 1000}, {"mbm_total_bytes": 0}],
        "cmt_stats": [{"llc_occupancy": 1048576}, {"llc_occupancy": 0}],
    }


def test_events_of_a_group_that_is_gone(runtime: Runtime, resctrl: Resctrl) -> None:
    caller = given(runtime, resctrl)
    with caller.running(bundle_with(runtime)) as container:
        (resctrl.path / container.id).rmdir()
        caller.verb("events", "--stats", container.id).fails("resctrl group", "no such file or directory")


def test_run_removes_its_group(runtime: Runtime, resctrl: Resctrl) -> None:
    bundle = bundle_with(runtime).ask("pid")
    given(runtime, resctrl).run(bundle).ok()
    assert len(resctrl.removed) == 1 and set(resctrl.shares) == {""}


def test_closid_stays_after_delete(runtime: Runtime, resctrl: Resctrl) -> None:
    """MUST NOT be removed; and the next container with the same shares takes it, one with others does not."""
    caller = given(runtime, resctrl)
    bundle = bundle_with(runtime, closID="gold", memBwSchema=MB, enableMonitoring=True).ask("pid")
    for _ in range(2):
        caller.run(bundle).ok()
        assert set(resctrl.shares) == {"", "gold"} and resctrl.monitors == set()
    assert len([path for path, _ in resctrl.writes if path == "gold/schemata"]) == 1
    bundle.linux["intelRdt"]["memBwSchema"] = "MB:0=10"
    before = runtime.footprint(bundle)
    caller.run(bundle).fails("linux.intelRdt", "exists with other shares", "MB:0=10 is wanted")
    before.assert_unchanged()


def test_with_joined_namespaces(runtime: Runtime, resctrl: Resctrl) -> None:
    """The process is the second stage, which the first has cloned."""
    caller = given(runtime, resctrl)
    with caller.running(bundle_with(runtime)) as first:
        bundle = bundle_with(runtime).namespace("pid", f"/proc/{first.pid}/ns/pid")
        with caller.running(bundle) as second:
            assert resctrl.tasks[second.pid] == (second.id, "")


@pytest.mark.parametrize("wanted", [{}, {"closID": "gold", "memBwSchema": MB}, {"enableMonitoring": True}])
@pytest.mark.parametrize("place", ["hook", "init", "shares"])
def test_failed_create_leaves_nothing(
    runtime: Runtime, resctrl: Resctrl, wanted: dict[str, Any], place: str
) -> None:
    """Not even a group with a closID: no container has come to use it."""
    bundle = bundle_with(runtime, **wanted)
    if place == "hook":
        bundle.hook("createRuntime", "exit 9")
    elif place == "init":
        bundle.process["args"] = ["/nowhere"]
    else:
        bundle.linux["intelRdt"]["schemata"] = ["L9:0=1"]
    before = runtime.footprint(bundle)
    outcome = given(runtime, resctrl).run(bundle)
    assert outcome.status != 0 and "left behind" not in outcome.err, outcome
    assert ("Unknown or unsupported resource name" in outcome.err) == (place == "shares")
    assert set(resctrl.shares) == {""} and resctrl.monitors == set()
    before.assert_unchanged()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("monitored", [False, True])
def test_killed_right_after_a_group_is_made(
    runtime: Runtime, resctrl: Resctrl, number: int, monitored: bool
) -> None:
    """The record names it before it is made: `delete --force` removes it. Interrupted, create does."""
    bundle = bundle_with(runtime, enableMonitoring=monitored)
    container: Container = given(runtime, resctrl, number).container(bundle)
    before = runtime.footprint(bundle)
    outcome = container.create()
    if number == signal.SIGKILL:
        assert outcome.status == -number and container.id in resctrl.shares
        given(runtime, resctrl).verb("delete", "--force", container.id).ok()
    else:
        assert "interrupted" in container.err
    assert set(resctrl.shares) == {""}
    before.assert_unchanged()


def test_damaged_record(runtime: Runtime, resctrl: Resctrl) -> None:
    """Whether the group was there before nobody knows any more; it is left, and that is said."""
    container = given(runtime, resctrl).container(bundle_with(runtime))
    container.create().ok()
    (runtime.root / container.id / "state.json").write_text("{")
    outcome = container.delete("--force").ok()
    assert "resctrl group" in outcome.err
    os.rmdir(resctrl.path / container.id)


# -- update ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sharing(runtime: Runtime, resctrl: Resctrl) -> Iterator[Container]:
    """A container with a group of resctrl."""
    caller = given(runtime, resctrl)
    with caller.running(bundle_with(caller, memBwSchema="MB:0=50;1=70")) as container:
        yield container


def schemata(resctrl: Resctrl, container: Container) -> dict[str, str]:
    lines = (resctrl.path / container.id / "schemata").read_text().split()
    return dict(line.split(":", 1) for line in lines)


def test_shares_of_resctrl(sharing: Container, resctrl: Resctrl) -> None:
    before = schemata(resctrl, sharing)
    update(sharing, "--mem-bw-schema", "MB:0=20;1=30", "--pids-limit", "20").ok()
    assert schemata(resctrl, sharing) == {**before, "MB": "0=20;1=30"}
    update(sharing, "--schemata", "MB:0=40", "--schemata", "L3:0=f").ok()
    after = schemata(resctrl, sharing)
    assert after["MB"].startswith("0=40;")
    assert after["L3"] != before["L3"]
    config = json.loads((sharing.runtime.root / sharing.id / "config.json").read_text())
    assert config["linux"]["intelRdt"] == {
        "memBwSchema": "MB:0=50;1=70",
        "schemata": ["MB:0=20;1=30", "MB:0=40", "L3:0=f"],
    }


def test_shares_that_are_refused_put_the_rest_back(sharing: Container, resctrl: Resctrl) -> None:
    before, shares = limits_of(sharing), schemata(resctrl, sharing)
    flags = ("--pids-limit", "20", "--mem-bw-schema", "MB:0=20", "--schemata", "NOSUCH:0=1")
    update(sharing, *flags).fails("linux.intelRdt", "NOSUCH:0=1")
    assert limits_of(sharing) == before
    assert schemata(resctrl, sharing) == shares
    update(sharing, "--mem-bw-schema", "0=20").fails("linux.intelRdt.memBwSchema")
