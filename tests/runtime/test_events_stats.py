"""`events --stats`: what is told of a container is what the kernel counts.

Numbers that grow are held between what the kernel's file said before and what it says afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_cgroup_block_io import disk, with_disk
from tests.runtime.test_cgroup_limits_bite import huge_pages
from tests.support.events import MEMORY, told
from tests.support.limits import SWAP, V2, M, limited, only_v1, value
from tests.support.runtime import Container, Runtime, wait_for

__all__ = ["disk", "huge_pages"]
NS = 10**9


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
