"""exec: the process is in the container's cgroups, also where these are paused or full."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.exec import cgroups_of, home_v2, in_same_namespaces, pid_of, started
from tests.support.limits import V2
from tests.support.runtime import Runtime, wait_for


def test_the_cgroup_is_the_containers(runtime: Runtime) -> None:
    container = started(runtime, runtime.bundle())
    assert cgroups_of(pid_of(container)) == cgroups_of(container.pid)


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_the_cgroup_is_the_containers_on_v2(v2: Runtime) -> None:
    container = started(v2, v2.bundle())
    assert home_v2(container).name == container.id
    pid = pid_of(container)
    assert str(pid) in (home_v2(container) / "cgroup.procs").read_text().split()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_a_first_process_that_has_moved_on(v2: Runtime) -> None:
    """Into a cgroup inside, as systemd does to have controllers there; then its own takes no processes any more."""
    container = started(v2, v2.bundle())
    home = home_v2(container)
    (home / "inner").mkdir()
    (home / "other").mkdir()
    (home / "inner" / "cgroup.procs").write_text(str(container.pid))
    (home / "cgroup.subtree_control").write_text("+" + (home / "cgroup.controllers").read_text().split()[0])
    pid = pid_of(container)
    assert str(pid) in (home / "inner" / "cgroup.procs").read_text().split()
    flags = ["--cgroup", "other"]
    assert str(pid_of(container, *flags)) in (home / "other" / "cgroup.procs").read_text().split()
    container.exec(["true"], "--cgroup", "/").fails("exec failed", "busy")
    (home / "inner" / "cgroup.freeze").write_text("1")
    container.exec(["true"]).fails("exec failed", "is frozen")
    (home / "inner" / "cgroup.freeze").write_text("0")
    container.exec(["true"]).ok()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
def test_paused_on_v2(v2: Runtime) -> None:
    container = started(v2, v2.bundle())
    v2.verb("pause", container.id).ok()
    container.exec(["true"]).fails("cannot exec in a paused container")
    running = v2.spawn("exec", "--ignore-paused", container.id, "testify", "pdeathsig")
    ended = v2.spawn("exec", "--ignore-paused", container.id, "touch", "/ran")
    killed = v2.spawn("exec", "--ignore-paused", container.id, "touch", "/ran")
    procs = home_v2(container) / "cgroup.procs"
    wait_for(lambda: len(procs.read_text().split()) == 4, say="three processes in the frozen cgroup")
    ended.process.send_signal(signal.SIGINT)
    ended.wait().fails("interrupted by SIGINT")
    killed.process.kill()
    killed.process.wait()
    wait_for(lambda: len(procs.read_text().split()) == 2, say="the end of two of them")
    v2.verb("resume", container.id).ok()
    assert running.wait().ok().testimony["pdeathsig"] == 0
    assert not (container.bundle.rootfs / "ran").exists()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
@pytest.mark.parametrize("which", ["below", "above"])
def test_another_cgroup_that_is_frozen(v2: Runtime, which: str) -> None:
    """The container is not paused; but who is started in there stops, and the caller must not stop with it."""
    bundle = v2.bundle()
    if which == "above":
        bundle.linux["cgroupsPath"] = f"/{v2.tag}-slice/container"
    container = started(v2, bundle)
    home = home_v2(container)
    frozen = home.parent if which == "above" else home / "sub"
    frozen.mkdir(exist_ok=True)
    (frozen / "cgroup.freeze").write_text("1")
    flags = ["--cgroup", "sub"] if which == "below" else []
    running = v2.spawn("exec", *flags, container.id, "echo", "thawed")
    ended = v2.spawn("exec", *flags, container.id, "touch", "/ran")
    procs = (home if which == "above" else frozen) / "cgroup.procs"
    before = 1 if which == "above" else 0
    wait_for(lambda: len(procs.read_text().split()) == before + 2, say="two processes in the frozen cgroup")
    ended.process.send_signal(signal.SIGTERM)
    ended.wait().fails("interrupted by SIGTERM")
    (frozen / "cgroup.freeze").write_text("0")
    assert running.wait().ok().out == "thawed\n"
    assert not (container.bundle.rootfs / "ran").exists()


@pytest.mark.needs_root
@pytest.mark.cgroupfs
@pytest.mark.skipif(V2, reason="this host has no cgroup v1")
def test_cgroups_below_on_v1(runtime: Runtime) -> None:
    """All hierarchies, or those of some controllers."""
    container = started(runtime, runtime.bundle())
    lines = [line.split(":", 2) for line in cgroups_of(container.pid).splitlines()]
    tops = {names: Path("/sys/fs/cgroup", names.removeprefix("name=").partition(",")[0] or "unified", path.strip("/"))
            for _, names, path in lines}  # fmt: skip
    made = [home / "below" for home in tops.values() if home.is_dir()]
    for place in made:
        place.mkdir()
    if (cpuset := tops.get("cpuset")) is not None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            (cpuset / "below" / name).write_text((cpuset / name).read_text())
    pid = pid_of(container, "--cgroup", "below")
    assert all(line.endswith("/below") for line in cgroups_of(pid).splitlines() if container.id in line)
    pid = pid_of(container, "--cgroup", "memory,pids:/below")
    below = {line.split(":")[1] for line in cgroups_of(pid).splitlines() if line.endswith("/below")}
    assert below == {"memory", "pids"}
    for words, flags in (
        ("unknown controller nothing", ["--cgroup", "nothing:below"]),
        ("specified multiple times", ["--cgroup", "memory:below", "--cgroup", "pids,memory:x"]),
        ("missing <controller>: prefix", ["--cgroup", "below", "--cgroup", "memory:below"]),
        ("invalid --cgroup argument", ["--cgroup", "a:b:c"]),
    ):
        container.exec(["true"], *flags).fails("exec failed", words)


def test_without_a_cgroup(runtime: Runtime) -> None:
    runtime.globals = ["--cgroup-manager", "disabled"]
    container = started(runtime, runtime.bundle())
    in_same_namespaces(container)
    container.exec(["true"], "--cgroup", "x").fails("exec failed", "has no cgroup")


@pytest.mark.needs_root
def test_limits_of_the_cgroup_hold(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"pids": {"limit": 4}}
    container = started(runtime, bundle)
    assert container.asks("forks 10")["forks 10"] == {"made": 2, "errno": "EAGAIN"}


@pytest.mark.needs_root
def test_too_little_memory_for_one_more(runtime: Runtime) -> None:
    """An error, and the container lives on."""
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"memory": {"limit": 16 << 20}}
    container = started(runtime, bundle)
    done = container.exec(["testify", "eat", "64"])
    assert done.status == 128 + 9
    assert container.status == "running"
