"""`ps`: the container's processes and nobody else, as a table of the host's ps(1) and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import layout
from tests.support import footprint
from tests.support.runtime import Container, Runtime, wait_for

#: A child, and one whose parent has ended; the shell waits for both.
FAMILY = "sleep 1001 & (sleep 1002 &) ; echo up; wait"


def pids(container: Container) -> list[int]:
    outcome = container.runtime.verb("ps", "--format", "json", container.id).ok()
    found: list[int] = json.loads(outcome.out)
    return found


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


@pytest.fixture
def family(runtime: Runtime) -> Iterator[Container]:
    with runtime.running(runtime.bundle().shell(FAMILY)) as container:
        container.says("up")
        wait_for(lambda: len(children(container.pid)) == 2, say="the second child's adoption")
        yield container


def test_json(family: Container) -> None:
    first = family.pid
    found = pids(family)
    assert found == sorted([first, *children(first)])
    assert {name(pid) for pid in found} == {f"sh -c {FAMILY}", "sleep 1001", "sleep 1002"}


def test_table(family: Container) -> None:
    """As runc: ps -ef if there are no options; the header, and the rows of the container's processes."""
    header, *rows = family.runtime.verb("ps", family.id).ok().out.splitlines()
    assert header.split() == "UID PID PPID C STIME TTY TIME CMD".split()
    assert [int(row.split()[1]) for row in rows] == pids(family)
    assert rows[0].split()[2] != "1"
    for row in rows[1:]:
        assert row.split()[2] == str(family.pid)
        assert " sleep 100" in row


def test_options_of_ps(family: Container) -> None:
    ps = family.runtime.verb
    out = ps("ps", family.id, "-e", "-o", "ppid,pid,args").ok().out
    assert out.split("\n")[0].split() == ["PPID", "PID", "COMMAND"]
    assert [int(row.split()[1]) for row in out.splitlines()[1:]] == pids(family)
    assert ps("ps", family.id, "aux").ok().out.startswith("USER ")
    # Options behind the id are those of ps, whatever they look like.
    assert ps("ps", family.id, "-f", "-p", str(family.pid)).ok().out.count("\n") == 2
    assert ps("ps", family.id, "-p", "1").ok().out.count("\n") == 1
    assert ps("ps", family.id, "-C", "there-is-no-such").ok().out.count("\n") == 1


def test_threads_stay_with_their_process(family: Container) -> None:
    out = family.runtime.verb("ps", family.id, "-em", "-o", "pid,lwp").ok().out
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [int(row[0]) for row in rows if row[0] != "-"] == pids(family)
    assert [int(row[1]) for row in rows if row[0] == "-"] == pids(family)


def test_what_is_refused(family: Container) -> None:
    ps = family.runtime.verb
    ps("ps", "--format", "xml", family.id).fails("invalid format option")
    ps("ps", family.id, "-e", "-o", "args").fails("couldn't find PID field in ps output")
    ps("ps", family.id, "--there-is-no-such").fails("ps --there-is-no-such: ")
    ps("ps", family.runtime.new_id()).fails("container does not exist")
    assert "requires a minimum of 1 argument" in ps("ps").err
    path = {"PATH": f"{family.runtime.folder}"}
    ps("ps", family.id, env=path).fails('exec: "ps": executable file not found')
    assert json.loads(ps("ps", "-f", "json", family.id, env=path).ok().out) == pids(family)


def test_by_status(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    assert pids(container) == [container.pid]
    container.start().ok()
    container.says("ready")
    if runtime.auto_cgroup:
        runtime.verb("pause", container.id).ok()
        assert pids(container) == [container.pid]
        runtime.verb("resume", container.id).ok()
    container.kill("KILL").ok()
    container.stops()
    assert runtime.verb("ps", "-f", "json", container.id).ok().out == "[]\n"
    assert len(runtime.verb("ps", container.id).ok().out.splitlines()) == 1


def test_cgroups_below(family: Container) -> None:
    """Whoever the container has moved into a cgroup inside its own is its still."""
    before = pids(family)
    below = family.cgroup("freezer" if not layout().pure_v2 else "") / "below" / "deeper"
    below.mkdir(parents=True)
    (child, _) = children(family.pid)
    (below / "cgroup.procs").write_text(str(child))
    assert pids(family) == before


def test_a_stopped_container_without_a_pid_namespace(runtime: Runtime) -> None:
    """What its first process has left runs on, and is its."""
    bundle = runtime.bundle().without_namespace("pid").shell("sleep 1000 & echo $!")
    with runtime.running(bundle) as container:
        container.stops()
        assert pids(container) == [int(container.out)]


class TestWithoutCgroup:
    """`--cgroup-manager disabled`, and an ordinary user who has none."""

    @pytest.fixture
    def without(self, runtime: Runtime) -> Runtime:
        runtime.globals = ["--cgroup-manager", "disabled"]
        return runtime

    def test_the_pid_namespace_tells(self, without: Runtime) -> None:
        """With those in a namespace below; and nobody of this test, which is in the same cgroup."""
        bundle = without.bundle().shell("busybox unshare -fp sleep 1003 & " + FAMILY)
        for kind in bundle.process["capabilities"].values():
            kind.append("CAP_SYS_ADMIN")
        with without.running(bundle) as container:
            container.says("up")
            wait_for(lambda: len(pids(container)) == 5, say="the process in the namespace below")
            assert os.getpid() not in pids(container)
            assert max(map(name, pids(container))) == "sleep 1003"
            container.kill("KILL").ok()
            container.stops()
            assert pids(container) == []

    def test_else_descent_tells(self, without: Runtime) -> None:
        """What is documented: a process whose parent has ended is not found."""
        bundle = without.bundle().without_namespace("pid").shell(FAMILY)
        with without.running(bundle) as container:
            container.says("up")
            found = pids(container)
            orphan = find("sleep 1002")
            assert [name(pid) for pid in found] == [f"sh -c {FAMILY}", "sleep 1001"]
            assert orphan not in found
            subprocess.run(["kill", "-9", str(orphan)], check=True)
        footprint.reap()

    @pytest.mark.needs_root
    def test_an_ordinary_user(self, runtime: Runtime) -> None:
        user = runtime.as_user(1000, 1000)
        with user.running(user.bundle().shell(FAMILY).rootless(1000, 1000)) as container:
            container.says("up")
            wait_for(lambda: len(children(container.pid)) == 2, say="the second child's adoption")
            assert pids(container) == sorted([container.pid, *children(container.pid)])
            assert len(user.verb("ps", container.id).ok().out.splitlines()) == 4


def find(command: str) -> int:
    """The pid of the one process with this command line among those that tests have started."""
    (pid,) = (pid for pid in footprint.descendants() if name(pid) == command)
    return pid
