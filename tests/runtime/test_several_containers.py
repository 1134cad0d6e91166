"""`list`, `kill` and `delete` of several containers, by ids and by a pattern; `kill --all`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.runtime import Container, Runtime, wait_for


@pytest.fixture
def three(runtime: Runtime) -> list[Container]:
    """Three containers that run."""
    made = [runtime.container(runtime.bundle().sleeper()) for _ in range(3)]
    for container in made:
        container.run_detached().ok()
    return made


def ids(*containers: Container) -> list[str]:
    return [container.id for container in containers]


def test_delete_of_several(runtime: Runtime, three: list[Container]) -> None:
    runtime.verb("delete", "--force", *ids(*three)).ok()
    assert runtime.verb("list", "-q").ok().out == ""
    assert not footprint.cgroups(runtime.tag)


def test_a_failure_keeps_no_other_from_it(runtime: Runtime, three: list[Container]) -> None:
    """Two go, two do not: one error with both, one line in the log, exit status 1."""
    log = runtime.folder / "log"
    for container in three[:2]:
        container.kill("KILL").ok()
        container.stops()
    unknown = runtime.new_id()
    runtime.globals += ["--log", str(log), "--log-format", "json"]
    words = [three[0].id, unknown, three[2].id, three[1].id]
    outcome = runtime.verb("delete", *words).fails("2 of 4 containers failed")
    assert outcome.status == 1
    entry = json.loads(log.read_text())
    assert entry["code"] == "several" and entry["level"] == "error"
    assert f"{unknown}: container does not exist; " in entry["msg"]
    assert (
        f"{three[2].id}: cannot delete container {three[2].id} that is not stopped: running" in entry["msg"]
    )
    assert runtime.verb("list", "-q").ok().out.split() == [three[2].id]


def test_failures_of_one_kind_keep_their_code(runtime: Runtime) -> None:
    runtime.globals += ["--log-format", "json"]
    outcome = runtime.verb("kill", "--signal", "TERM", runtime.new_id(), runtime.new_id())
    assert json.loads(outcome.err)["code"] == "not-found"


def test_a_pattern_has_to_match_the_whole_id(runtime: Runtime, three: list[Container]) -> None:
    common = three[0].id[:-1]
    runtime.verb("kill", "--regex", common, "KILL").fails("does not exist", "no id matches")
    assert [container.status for container in three] == ["running"] * 3
    runtime.verb("kill", "-r", f"{common}[13]", "KILL").ok()
    three[0].stops()
    three[2].stops()
    assert three[1].status == "running"
    assert runtime.verb("list", "-q", "--regex", f"{common}[12]").ok().out.split() == ids(*three[:2])
    runtime.verb("delete", "--regex", f"{common}[13]").ok()
    assert runtime.verb("list", "-q").ok().out.split() == [three[1].id]
    runtime.verb("delete", "--force", "--regex", ".*").ok()
    assert runtime.verb("list", "-q").ok().out == ""


def test_a_pattern_that_matches_nothing(runtime: Runtime) -> None:
    runtime.verb("delete", "--regex", "x.*").fails("does not exist", "x.*")
    runtime.verb("delete", "--force", "--regex", "x.*").ok()
    assert runtime.verb("list", "-q", "--regex", "x.*").ok().out == ""


@pytest.mark.parametrize("verb", ["list", "kill", "delete"])
def test_a_pattern_that_is_none(runtime: Runtime, verb: str) -> None:
    outcome = runtime.verb(verb, "--regex", "a(")
    assert outcome.status == 1 and r"invalid pattern \"a(\"" in outcome.err


def test_kill_of_several(runtime: Runtime, three: list[Container]) -> None:
    runtime.verb("kill", "--signal", "KILL", *ids(*three)).ok()
    for container in three:
        container.stops()


def test_kill_of_an_id_and_a_signal_is_what_it_was(runtime: Runtime, three: list[Container]) -> None:
    """The second word is a signal, unless it was named otherwise: `kill a b` never means two containers."""
    runtime.verb("kill", three[0].id, three[1].id).fails("unknown signal")
    outcome = runtime.verb("kill", *ids(*three))
    assert outcome.status == 1 and "requires a maximum of 2 argument(s)" in outcome.err
    assert [container.status for container in three] == ["running"] * 3


def test_list_of_named_ones(runtime: Runtime, three: list[Container]) -> None:
    unknown = runtime.new_id()
    outcome = runtime.verb("list", "-q", three[2].id, unknown, three[0].id)
    assert outcome.out.split() == ids(three[2], three[0])
    outcome.fails(unknown, "does not exist")
    runtime.verb("list", unknown).fails("does not exist")


@pytest.mark.needs_root
def test_kill_all(runtime: Runtime) -> None:
    """Every process gets the signal; without --all the first one only, and that is deaf to it."""
    with runtime.running(runtime.bundle().ask("orphan", "sleep")) as container:
        container.says("ready")
        first = container.pid
        (orphan,) = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
        container.kill("USR1").ok()
        assert (entry := footprint.stat_of(orphan)) is not None and entry[1] != "Z"
        container.kill("--all", "USR1").ok()
        wait_for(lambda: (entry := footprint.stat_of(orphan)) is None or entry[1] == "Z", say="its end")
        assert container.status == "running"


@pytest.mark.needs_root
def test_kill_all_of_what_outlived_the_first_process(runtime: Runtime) -> None:
    """containerd's shim calls it so when the first process of a container without a PID namespace has ended."""
    container = runtime.container(runtime.bundle().without_namespace("pid").ask("orphan", "exit 0"))
    container.create().ok()
    container.start().ok()
    container.stops()
    orphan = container.testimony["orphan"]
    assert Path(f"/proc/{orphan}").exists()
    container.kill("--all", "9").ok()
    wait_for(lambda: (entry := footprint.stat_of(orphan)) is None or entry[1] == "Z", say="its end")
    container.kill("--all", "9").ok()
