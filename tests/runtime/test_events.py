"""`events`: what is told of a container is what the kernel counts, and word of a lack of memory comes when it lacks.

Numbers that grow are held between what the kernel's file said before and what it says afterwards.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_cgroup_block_io import disk, with_disk
from tests.runtime.test_cgroup_limits_bite import huge_pages
from tests.support.limits import SWAP, V2, M, limited, only_v1, value
from tests.support.patience import patient
from tests.support.runtime import Container, Running, Runtime, wait_for

NS = 10**9
MEMORY = {"limit": 32 * M, **({"swap": 32 * M} if SWAP else {})}
__all__ = ["disk", "huge_pages"]


def told(container: Container) -> dict[str, Any]:
    """The data of `events --stats`."""
    (line,) = container.runtime.verb("events", "--stats", container.id).ok().out.splitlines()
    event: dict[str, Any] = json.loads(line)
    assert line.startswith(f'{{"type":"stats","id":"{container.id}","data":{{"cpu":{{')
    assert set(event) == {"type", "id", "data"}
    data: dict[str, Any] = event["data"]
    return data


def counted(container: Container, v1: str, v2: str, key: str = "") -> int:
    """The number in a file (`controller/file` on cgroup v1), or behind `key` in it."""
    controller, _, file = ("/" + v2 if V2 else v1).rpartition("/")
    text = value(container, controller.strip("/"), file)
    if key:
        return next(int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key)
    return int(text)


def between(container: Container, read: Callable[[dict[str, Any]], int], *where: str, unit: int = 1) -> int:
    """What `read` finds in what is told, which has to fit what the kernel says."""
    before = counted(container, *where) * unit
    found = read(told(container))
    assert before <= found <= counted(container, *where) * unit
    return found


def events(container: Container, *flags: str) -> Running:
    """`events` that goes on, and by now watches."""
    running = container.runtime.spawn("events", *flags, container.id)
    wait_for(lambda: watches(running.process.pid), say="the watch")
    return running


def watches(pid: int) -> bool:
    """Whether the process sleeps with a pidfd, which is opened before what else is watched."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return any("pidfd" in link for link in links) and "poll" in Path(f"/proc/{pid}/wchan").read_text()


def lines(running: Running) -> list[dict[str, Any]]:
    """The whole lines so far."""
    return [json.loads(line) for line in running.out.splitlines(keepends=True) if line.endswith("\n")]


def kinds(running: Running) -> list[str]:
    return [event["type"] for event in lines(running)]


# -- once ------------------------------------------------------------------------------------------------


def test_time_of_processors(runtime: Runtime) -> None:
    bundle = limited(runtime).shell("while :; do :; done")
    with runtime.running(bundle) as container:
        where = ("cpuacct/cpuacct.usage", "cpu.stat", "usage_usec" if V2 else "")
        unit = 1000 if V2 else 1
        wait_for(lambda: counted(container, *where) * unit > NS // 2, say="half a second of use")
        total = between(container, lambda data: int(data["cpu"]["usage"]["total"]), *where, unit=unit)
        usage = told(container)["cpu"]["usage"]
        assert total > NS // 2
        assert usage["total"] > total, "it still counts"
        assert usage["user"] + usage["kernel"] == pytest.approx(usage["total"], rel=0.5)
        if not V2:
            assert sum(usage["percpu"]) == pytest.approx(usage["total"], rel=0.5)
            assert len(usage["percpu_user"]) == len(usage["percpu_kernel"]) == len(usage["percpu"])
            assert sum(usage["percpu_user"] + usage["percpu_kernel"]) == pytest.approx(
                usage["total"], rel=0.5
            )


def test_throttling(runtime: Runtime) -> None:
    bundle = limited(runtime, cpu={"quota": 5000, "period": 50000}).shell("while :; do :; done")
    time_key, unit = ("throttled_usec", 1000) if V2 else ("throttled_time", 1)
    with runtime.running(bundle) as container:
        wait_for(lambda: counted(container, "cpu/cpu.stat", "cpu.stat", "nr_throttled") > 3)
        for name, key, factor in (
            ("periods", "nr_periods", 1),
            ("throttledPeriods", "nr_throttled", 1),
            ("throttledTime", time_key, unit),
        ):
            read = lambda data, name=name: int(data["cpu"]["throttling"][name])  # noqa: E731
            assert between(container, read, "cpu/cpu.stat", "cpu.stat", key, unit=factor) > 3


def test_memory(runtime: Runtime) -> None:
    """Usage and its peak, each kind of page, the limit, and how often it was hit: reading a file needs cache."""
    read = "busybox dd if=/dev/zero of=/area/file bs=1M count=64 2>/dev/null"
    limits = {"limit": 32 * M, **({"swap": 48 * M} if SWAP else {})}
    bundle = limited(runtime, memory=limits).shell(f"{read}; echo written; exec testify eat 12 -- sleep")
    with runtime.running(bundle) as container:
        container.says("written")
        container.says("ready")
        of_memory = told(container)["memory"]
        assert of_memory["usage"]["limit"] == 32 * M
        assert 12 * M < of_memory["usage"]["usage"] <= of_memory["usage"]["max"] <= 32 * M
        usage = counted(container, "memory/memory.usage_in_bytes", "memory.current")
        assert of_memory["usage"]["usage"] == pytest.approx(usage, rel=0.1)
        stat = dict(
            line.split() for line in value(container, "" if V2 else "memory", "memory.stat").splitlines()
        )
        assert of_memory["raw"].keys() == stat.keys()
        for name, pages in (("anon", "rss"), ("file", "cache")):
            known = int(stat[name if V2 else pages])
            assert of_memory["raw"][name if V2 else pages] == pytest.approx(known, rel=0.1)
        assert of_memory["cache"] == of_memory["raw"]["file" if V2 else "cache"]
        assert of_memory["usage"]["failcnt"] > 0
        key = ("max",) if V2 else ()
        assert of_memory["usage"]["failcnt"] == counted(
            container, "memory/memory.failcnt", "memory.events", *key
        )
        if V2:
            assert of_memory["kernel"] == {"limit": 0, "failcnt": 0}
        else:
            assert 0 < of_memory["kernel"]["usage"] <= of_memory["kernel"]["max"]
        if SWAP:
            assert of_memory["swap"]["limit"] == 48 * M
            assert of_memory["swap"]["usage"] >= of_memory["usage"]["usage"]


def test_no_limits_are_the_kernels(runtime: Runtime) -> None:
    with runtime.running(limited(runtime)) as container:
        data = told(container)
        most = value(container, "" if V2 else "pids", "pids.max")  # systemd has a default of its own
    assert data["memory"]["usage"]["limit"] == ((1 << 64) - 1 if V2 else 9223372036854771712)
    assert data["pids"].get("limit", "max") == (most if most == "max" else int(most))
    assert data["intel_rdt"] == {}
    assert data["network_interfaces"] is None


def test_processes(runtime: Runtime) -> None:
    bundle = limited(runtime, pids={"limit": 20})
    bundle.shell("sleep 1000 & sleep 1000 & echo up; wait")
    with runtime.running(bundle) as container:
        container.says("up")
        assert told(container)["pids"] == {"current": 3, "limit": 20}


@only_v1
def test_processors_and_nodes(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, cpu={"cpus": "1", "mems": "0"})) as container:
        data = told(container)["cpuset"]
    assert data["cpus"] == [1]
    assert data["mems"] == [0]
    assert (data["sched_load_balance"], data["sched_relax_domain_level"]) == (1, -1)


@pytest.mark.needs_root
def test_block_devices(runtime: Runtime, disk: tuple[int, int]) -> None:
    bundle = with_disk(runtime, disk).ask("direct /dev/disk w 1024", "direct /dev/disk r 512", "sleep")
    with runtime.running(bundle) as container:
        container.says("ready")
        blocks = told(container)["blkio"]
    found = {
        (kind, entry["op"]): entry.get("value", 0)
        for kind in ("ioServiceBytesRecursive", "ioServicedRecursive")
        for entry in blocks[kind]
        if (entry.get("major", 0), entry.get("minor", 0)) == disk
    }
    assert found["ioServiceBytesRecursive", "Write"] == 1024 << 10
    assert found["ioServiceBytesRecursive", "Read"] == 512 << 10
    assert found["ioServicedRecursive", "Write"] >= 1
    assert found["ioServicedRecursive", "Read"] >= 1


@pytest.mark.needs_root
def test_huge_pages(runtime: Runtime, huge_pages: None) -> None:
    """How often the limit was hit. On a host of both versions the unified hierarchy counts them."""
    bundle = limited(runtime, hugepageLimits=[{"pageSize": "2MB", "limit": 2 * M}])
    bundle.ask("huge 8", "huge 8", "sleep")
    with runtime.running(bundle) as container:
        container.says("ready")
        data = told(container)["hugetlb"]
        assert data["2MB"]["failcnt"] >= 2
        if V2:
            assert data["2MB"]["failcnt"] == counted(container, "", "hugetlb.2MB.events", "max")


def test_pressure(runtime: Runtime) -> None:
    """What waits for the processor is told, wherever the container has a cgroup v2."""
    bundle = limited(runtime, cpu={"quota": 5000, "period": 50000}).shell("while :; do :; done")
    with runtime.running(bundle) as container:
        lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        (path,) = [line[3:] for line in lines if line.startswith("0::")] or [""]
        home = Path("/sys/fs/cgroup" if V2 else "/sys/fs/cgroup/unified", path.lstrip("/"))
        if path in ("", "/") or not (home / "cpu.pressure").exists():
            pytest.skip("this host measures no pressure")

        def total() -> int:
            return int((home / "cpu.pressure").read_text().split()[4].removeprefix("total="))

        wait_for(lambda: total() > 1000, say="pressure")
        before = total()
        data = told(container)
        assert before <= data["cpu"]["psi"]["some"]["total"] <= total()
        for part in ("cpu", "memory", "blkio"):
            for kind in ("some", "full"):
                assert data[part]["psi"][kind].keys() == {"avg10", "avg60", "avg300", "total"}


def test_created_and_paused_containers(runtime: Runtime) -> None:
    container = runtime.container(limited(runtime, pids={"limit": 20}))
    container.create().ok()
    assert told(container)["pids"] == {"current": 1, "limit": 20}
    container.start().ok()
    runtime.verb("pause", container.id).ok()
    assert told(container)["pids"] == {"current": 1, "limit": 20}
    runtime.verb("resume", container.id).ok()


def paths(value: Any, path: str = "") -> set[str]:
    """Where in a document there are which types; a number is a number."""
    if isinstance(value, dict) and value:
        return set().union(*[paths(below, f"{path}.{key}") for key, below in value.items()])
    if isinstance(value, list) and value:
        return set().union(*[paths(below, path + "[]") for below in value])
    return {f"{path} {type(value).__name__}"}


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_what_runc_tells_of_its_twin(runtime: Runtime) -> None:
    """The same keys, types and limits; more only where this older runc cannot know."""
    runc = shutil.which("runc", path=runtime.env["PATH"])
    if runc is None:
        pytest.skip("runc is not installed")
    # Used up to now, so that no number is 0 in one and left out.
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; exec sleep 1000"
    bundle = limited(runtime, memory=MEMORY, pids={"limit": 20}, cpu={"quota": 5000, "period": 50000})
    bundle.shell(script)
    with runtime.running(bundle) as container:
        container.says("ready")
        ours = told(container)
    twin = f"{runtime.tag}-twin"
    bundle.linux["cgroupsPath"] = f"/{twin}"
    # runc's mount of cgroup2 would take its flags, such as nsdelegate, from the host's.
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["type"] != "cgroup"]
    bundle.write()
    words = [runc, "--root", str(runtime.folder / "runc")]
    output = runtime.temporary()
    try:
        command = [*words, "run", "--detach", "--bundle", str(bundle.path), twin]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_for(lambda: b"ready" in os.pread(output.fileno(), 4096, 0))
        done = subprocess.run([*words, "events", "--stats", twin], check=True, capture_output=True)
        event = json.loads(done.stdout)
    finally:
        subprocess.run([*words, "delete", "--force", twin], check=True)
    theirs = event["data"]
    assert list(event) == ["type", "id", "data"]
    assert list(theirs) == list(ours)
    for part in ("cpu", "memory", "blkio"):
        ours[part].pop("psi", None)
        theirs[part].pop("psi", None)
    for both in (ours, theirs):
        del both["blkio"]  # whichever was first has read the image from the disk
        # On v1 in the hierarchy that runc does not read; on v2 enabled by who limits it.
        del both["hugetlb"]
    assert paths(ours) == paths(theirs)
    for kind in ("usage", "swap", "kernel", "kernelTCP"):
        assert ours["memory"][kind]["limit"] == theirs["memory"][kind]["limit"]
    assert ours["pids"] == theirs["pids"] == {"current": 1, "limit": 20}
    assert ours["cpuset"] == theirs["cpuset"]


# -- as it goes on ---------------------------------------------------------------------------------------


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


# -- what cannot be --------------------------------------------------------------------------------------


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


def test_without_a_cgroup(runtime: Runtime) -> None:
    runtime.globals = ["--cgroup-manager", "disabled"]
    with runtime.running(runtime.bundle().sleeper()) as container:
        for flags in ((), ("--stats",)):
            runtime.verb("events", *flags, container.id).fails("has no cgroup", "create it with a cgroup")


@only_v1
@pytest.mark.needs_root
def test_an_ordinary_user_with_one_hierarchy(runtime: Runtime) -> None:
    """What is there is told, and watched."""
    top = Path("/sys/fs/cgroup/memory", f"{runtime.tag}-delegated")
    top.mkdir()
    os.chown(top, 1000, 1000)
    os.chown(top / "cgroup.procs", 1000, 1000)
    os.chown(top / "tasks", 1000, 1000)
    enter = f'echo $$ > {top}/cgroup.procs; exec "$@"'
    user = runtime.as_user(1000, 1000, "sh", "-c", enter, "sh")
    bundle = user.bundle().rootless(1000, 1000)
    bundle.shell("while [ ! -e /area/go ]; do sleep 0.1; done; testify eat 200; echo eaten; exec sleep 1000")
    with user.running(bundle) as container:
        data = told(container)
        assert data["memory"]["usage"]["usage"] > 0
        assert data["pids"] == {}
        assert data["cpu"] == {"usage": {"kernel": 0, "user": 0}, "throttling": {}}
        running = events(container, "--interval", "1h")
        (top / container.id / "memory.limit_in_bytes").write_text(str(32 * M))
        (bundle.rootfs / "area" / "go").touch()
        container.says("eaten")
        wait_for(lambda: "oom" in kinds(running))
        container.kill("KILL").ok()
        running.wait().ok()


@pytest.mark.needs_root
def test_an_ordinary_user_without_cgroups(runtime: Runtime) -> None:
    user = runtime.as_user(1000, 1000)
    with user.running(user.bundle().sleeper().rootless(1000, 1000)) as container:
        user.verb("events", "--stats", container.id).fails("has no cgroup")


@pytest.mark.needs_root
def test_cgroups_nested_deeply(runtime: Runtime) -> None:
    place = "/sys/fs/cgroup"
    dive = "busybox mkdir -p {0} && cd -P {0} && ".format(("a" * 250 + "/") * 10)
    bundle = limited(runtime).namespace("cgroup").mount(place, "cgroup", "cgroup")
    bundle.shell(f"cd {place}; cd memory 2>/dev/null; {dive * 4} echo made; exec sleep 1000")
    with runtime.running(bundle) as container:
        container.says("made")
        assert told(container)["pids"]["current"] == 1
        running = events(container, "--interval", "50ms")
        wait_for(lambda: len(lines(running)) > 2)
        container.kill("KILL").ok()
        running.wait().ok()


@pytest.mark.needs_root
def test_cgroups_named_like_files(runtime: Runtime) -> None:
    """A container that may make cgroups names them as it likes: nobody takes them for the kernel's files."""
    place = "/sys/fs/cgroup"
    names = "hugetlb.7MB.current hugetlb.7MB.usage_in_bytes hugetlb. memory.stat memory.events io.stat pids.current"
    bundle = limited(runtime).namespace("cgroup").mount(place, "cgroup2", "cgroup")
    bundle.shell(f"cd {place}; busybox mkdir {names}; echo made; exec sleep 1000")
    with runtime.running(bundle) as container:
        container.says("made")
        assert not {"", "7MB"} & told(container)["hugetlb"].keys()
        running = events(container, "--interval", "50ms")
        wait_for(lambda: len(lines(running)) > 2)
        container.kill("KILL").ok()
        running.wait().ok()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_cgroups_that_are_taken_away(runtime: Runtime) -> None:
    """The process is moved out, and its cgroups are removed: there is nothing to tell, and that is said."""
    with runtime.running(limited(runtime)) as container:
        running = events(container, "--interval", "100ms")
        pid, homes = str(container.pid), []
        for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
            controllers, path = line.split(":", 2)[1:]
            if path.endswith(container.id):
                mount = controllers.split(",")[0].removeprefix("name=") or ("" if V2 else "unified")
                homes.append(Path("/sys/fs/cgroup", mount, path.lstrip("/")))
        for home in homes:
            (home.parent / "cgroup.procs").write_text(pid)
            wait_for(lambda home=home: not (home / "cgroup.procs").read_text())  # type: ignore[misc]
            home.rmdir()
        runtime.verb("events", "--stats", container.id).fails("cgroup", "is gone")
        wait_for(lambda: "is gone" in running.err)
        assert "oom" not in kinds(running)
        assert running.process.poll() is None
        container.kill("KILL").ok()
        assert running.wait().status == 0
