"""`events` where the cgroups are few, none, the container's own or taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.events import events, kinds, lines, told
from tests.support.limits import V2, M, limited, only_v1
from tests.support.runtime import Runtime, wait_for


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
