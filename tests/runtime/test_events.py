"""`events` as it goes on: a line at each interval, and word of a lack of memory when it lacks."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from tests.support.events import MEMORY, events, kinds, lines, watches
from tests.support.limits import limited
from tests.support.patience import patient
from tests.support.runtime import Runtime, wait_for


def test_a_line_at_each_interval(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, pids={"limit": 20})) as container:
        begun = time.monotonic()
        running = events(container, "--interval", "200ms")
        wait_for(lambda: len(lines(running)) >= 4)
        assert time.monotonic() - begun >= 0.8
        for event in lines(running):
            assert (event["type"], event["id"]) == ("stats", container.id)
            assert event["data"]["pids"] == {"current": 1, "limit": 20}
        container.kill("KILL").ok()
        ended = running.wait()
        assert (ended.status, ended.err) == (0, "")


def test_between_events_it_sleeps(runtime: Runtime) -> None:
    """Also for longer than poll(2) can wait at once (24 days)."""
    with runtime.running(limited(runtime)) as container:
        running = events(container, "--interval", "1000h")
        status = Path(f"/proc/{running.process.pid}/status")

        def switches() -> list[str]:
            return [line for line in status.read_text().splitlines() if "ctxt_switches" in line]

        before = switches()
        time.sleep(1)
        assert switches() == before
        container.kill("KILL").ok()
        assert running.wait().ok().out == ""


def test_lack_of_memory(runtime: Runtime) -> None:
    """Each time; the container goes on."""
    eat = "testify eat 200; while [ ! -e /area/go ]; do sleep 0.1; done; testify eat 200; echo both"
    bundle = limited(runtime, memory=MEMORY).shell(
        f"while [ ! -e /area/begin ]; do sleep 0.1; done; {eat}; exec sleep 1000"
    )
    with runtime.running(bundle) as container:
        running = events(container, "--interval", "1h")
        (bundle.rootfs / "area" / "begin").touch()
        wait_for(lambda: lines(running))
        assert running.out.splitlines()[0] == f'{{"type":"oom","id":"{container.id}"}}'
        before = len(lines(running))
        (bundle.rootfs / "area" / "go").touch()
        wait_for(lambda: len(lines(running)) > before)
        container.says("both")
        assert set(kinds(running)) == {"oom"}
        assert container.status == "running"
        container.kill("KILL").ok()
        running.wait().ok()


def test_lack_of_memory_that_ends_the_container(runtime: Runtime) -> None:
    bundle = limited(runtime, memory=MEMORY).ask("eat 200")
    container = runtime.container(bundle)
    container.create().ok()
    running = events(container, "--interval", "1h")
    container.start().ok()
    assert [json.loads(line)["type"] for line in running.wait().ok().out.splitlines()] == ["oom"]
    container.delete().ok()


def test_the_end_is_no_lack_of_memory(runtime: Runtime) -> None:
    """cgroup v1 signals the same when the cgroup is removed; cgroup v2 wakes when the limit is only near."""
    fill = "busybox dd if=/dev/zero of=/area/file bs=1M count=64 2>/dev/null"
    bundle = limited(runtime, memory=MEMORY).shell(
        f"while [ ! -e /area/begin ]; do sleep 0.1; done; {fill}; echo full; exec sleep 1000"
    )
    with runtime.running(bundle) as container:
        running = events(container, "--interval", "1h")
        (bundle.rootfs / "area" / "begin").touch()
        container.says("full")
        container.delete("--force").ok()
        assert running.wait().ok().out == ""


@pytest.mark.parametrize("interval", ["1h", "50ms"])
def test_nobody_reads(runtime: Runtime, interval: str) -> None:
    """It ends when its reader does, not only at the next line, and says nothing."""
    with runtime.running(limited(runtime)) as container:
        output, writer = os.pipe()
        with os.fdopen(writer, "wb") as pipe:
            said = runtime.into(pipe, runtime.temporary())
            running = said.spawn("events", "--interval", interval, container.id)
        wait_for(lambda: watches(running.process.pid), say="the watch")
        os.close(output)
        assert running.process.wait(patient(10)) == 141
        assert running.err == ""
        assert container.status == "running"


def test_a_reader_who_is_slow(runtime: Runtime) -> None:
    """It waits for room in the pipe, also where the pipe's maker has made it say so instead (O_NONBLOCK)."""
    with runtime.running(limited(runtime)) as container:
        output, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        with os.fdopen(writer, "wb") as pipe:
            said = runtime.into(pipe, runtime.temporary())
            running = said.spawn("events", "--interval", "5ms", container.id)
        with os.fdopen(output) as stream:
            time.sleep(0.5)
            assert running.process.poll() is None, running.err
            told = [json.loads(stream.readline()) for _ in range(20)]
            assert {event["type"] for event in told} == {"stats"}
            container.kill("KILL").ok()
            stream.read()
        assert running.process.wait(patient(10)) == 0


# -- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["0", "0s", "-1s"])
def test_interval_of_nothing(runtime: Runtime, interval: str) -> None:
    with runtime.running(limited(runtime)) as container:
        for more in ((), ("--stats",)):
            outcome = runtime.verb("events", f"--interval={interval}", *more, container.id)
            outcome.fails("duration interval must be greater than 0")


def test_interval_without_a_unit(runtime: Runtime) -> None:
    outcome = runtime.verb("events", "--interval", "5", "one")
    outcome.fails('invalid value "5" for flag -interval: parse error')
    assert "Incorrect Usage." in outcome.out


def test_containers_that_do_not_run(runtime: Runtime) -> None:
    container = runtime.container(limited(runtime).ask("pid"))
    for flags in ((), ("--stats",)):
        runtime.verb("events", *flags, container.id).fails("container does not exist")
    container.create().ok()
    container.start().ok()
    container.stops()
    for flags in ((), ("--stats",)):
        runtime.verb("events", *flags, container.id).fails(f"container with id {container.id} is not running")
