"""containerd's tasks: what subscribers hear, what is measured, and what outlives the daemon or its shim."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.engines.cgroup import V2
from tests.engines.containerd import Containerd
from tests.engines.engine import asking, forgets_what_ended_meanwhile
from tests.support import footprint
from tests.support.runtime import wait_for

pytestmark = pytest.mark.xdist_group("containerd")


def shim_of(pid: int) -> int:
    """The pid of the shim: it adopted the container's first process from the runtime."""
    entry = footprint.stat_of(pid)
    assert entry is not None
    shim = footprint.stat_of(entry[2])
    assert shim is not None
    assert shim[0].startswith("containerd-shim"), shim
    return entry[2]


def test_events(containerd: Containerd) -> None:
    """create, start, exit with the status, delete."""
    with containerd.events() as events:
        name = containerd.detached([], "sh", "-c", "testify sleep; exit 7")
        pid, _ = containerd.tasks()[name]
        assert events.hears("/tasks/create", name)["pid"] == pid
        assert events.hears("/tasks/start", name)["pid"] == pid
        containerd.call("tasks", "kill", "--signal", "SIGKILL", name).ok()
        left = events.hears("/tasks/exit", name)
        assert (left["pid"], left["exit_status"]) == (pid, 137)
        containerd.call("tasks", "rm", name)
        assert events.hears("/tasks/delete", name)["exit_status"] == 137


def test_exit_event_has_the_status(containerd: Containerd) -> None:
    with containerd.events() as events:
        name = containerd.new_name()
        assert containerd.call(*containerd.run_words(["--rm"], name, "sh", "-c", "exit 7")).status == 7
        assert events.hears("/tasks/exit", name)["exit_status"] == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_containerd(containerd: Containerd, number: signal.Signals) -> None:
    """Tasks outlive the daemon; one that ends in between is told as such."""
    lasting, ending = containerd.detached([]), containerd.detached([])
    before = containerd.tasks()
    containerd.restart(number, lambda: os.kill(before[ending][0], signal.SIGKILL))
    if forgets_what_ended_meanwhile():
        wait_for(lambda: not containerd.status(ending), 10, f"the end of {ending}")
    else:
        containerd.stops(ending)
        assert "non-zero exit code 137" in containerd.call("tasks", "rm", ending).err
    assert containerd.tasks()[lasting] == before[lasting] == (before[lasting][0], "RUNNING")
    containerd.call("tasks", "kill", "--signal", "SIGTERM", lasting).ok()
    containerd.stops(lasting)
    containerd.call("tasks", "rm", lasting).ok()
    assert containerd.run([], "true").status == 0


def test_killed_shim(containerd: Containerd) -> None:
    """containerd has the runtime remove what a killed shim leaves: `delete --force`."""
    with containerd.events() as events:
        name = containerd.detached([])
        pid, _ = containerd.tasks()[name]
        os.kill(shim_of(pid), signal.SIGKILL)
        left = events.hears("/tasks/exit", name)
        assert (left["pid"], left["exit_status"]) == (pid, 137)
        wait_for(lambda: name not in containerd.tasks(), 10, "the end of the task")
        footprint.reap()
        assert not Path(f"/proc/{pid}").exists()
        containerd.shim_socket(name).unlink(missing_ok=True)


def test_metrics(containerd: Containerd) -> None:
    """The shim finds the container's cgroup by its pid, and the limits in it."""
    name = containerd.detached(["--memory-limit", str(64 << 20)])
    metrics = json.loads(containerd.call("tasks", "metrics", "--format", "json", name).ok().out)
    memory = metrics["memory"]
    assert (memory["usage_limit"] if V2 else memory["usage"]["limit"]) == 64 << 20
    assert metrics["pids"]["current"] == 1


def test_out_of_memory(containerd: Containerd) -> None:
    """The shim watches the container's cgroup, and tells when the kernel kills in it."""
    with containerd.events() as events:
        options = ["--memory-limit", str(16 << 20)]
        name = containerd.detached(options, "sh", "-c", "while true; do testify eat 64; sleep 0.1; done")
        events.hears("/tasks/oom", name)


def test_pause_and_resume(containerd: Containerd) -> None:
    with containerd.events() as events:
        name = containerd.detached([])
        pid, _ = containerd.tasks()[name]
        containerd.call("tasks", "pause", name).ok()
        assert containerd.status(name) == "PAUSED"
        events.hears("/tasks/paused", name)
        assert footprint.alive(pid)
        containerd.call("tasks", "resume", name).ok()
        assert containerd.status(name) == "RUNNING"
        events.hears("/tasks/resumed", name)
        assert containerd.call("tasks", "resume", name).status != 0


def test_processes(containerd: Containerd) -> None:
    """`tasks ps`: the shim asks the runtime."""
    name = containerd.detached([], "sh", "-c", "testify sleep & exec testify sleep")
    pid, _ = containerd.tasks()[name]

    def listed() -> set[int]:
        lines = containerd.call("tasks", "ps", name).ok().out.splitlines()[1:]
        return {int(line.split()[0]) for line in lines}

    wait_for(lambda: len(listed()) == 2, 10, "both processes")
    assert pid in listed()


def test_exec(containerd: Containerd) -> None:
    """A process that joins: its output, its status, the container's namespaces and environment."""
    name = containerd.detached(["--env", "FOO=bar", "--cap-drop", "CAP_CHOWN"])
    pid, _ = containerd.tasks()[name]
    command = ["tasks", "exec", "--exec-id", "more", "--cwd", "/home", name]
    answers = containerd.call(*command, *asking("namespaces", "cwd", "env", "caps", "fds")).ok().testimony
    for kind, inside in answers["namespaces"].items():
        assert inside == os.readlink(f"/proc/{pid}/ns/{kind}"), kind
    assert answers["cwd"] == "/home"
    assert "FOO=bar" in answers["env"]
    assert 0 not in answers["caps"]["effective"] and 5 in answers["caps"]["effective"]
    assert set(answers["fds"]) == {"0", "1", "2"}
    outcome = containerd.call(*command, "sh", "-c", "echo good; echo bad >&2; exit 9")
    assert (outcome.status, outcome.out, outcome.err) == (9, "good\n", "bad\n")


def test_exec_events(containerd: Containerd) -> None:
    with containerd.events() as events:
        name = containerd.detached([])
        command = ["tasks", "exec", "--exec-id", "more", name]
        assert containerd.call(*command, "sh", "-c", "exit 6").status == 6
        assert events.hears("/tasks/exec-started", name)["exec_id"] == "more"
        left = next(event for event in events.of("/tasks/exit") if event["id"] == "more")
        assert left["exit_status"] == 6


def test_exec_terminal(containerd: Containerd) -> None:
    name = containerd.detached([])
    shell = containerd.terminal("tasks", "exec", "--tty", "--exec-id", "more", name, "sh")
    shell.until("# ")
    shell.type("testify tty\n")
    shell.until('"ask":"tty"')
    shell.until("# ")
    assert '"isatty":[true,true,true]' in shell.seen
    shell.type("exit 5\n")
    assert shell.end().status == 5
    assert containerd.status(name) == "RUNNING"


@pytest.mark.parametrize(
    ("word", "say"), [("no-such-program", "executable file not found"), ("/etc/passwd", "permission denied")]
)
def test_exec_of_no_program(containerd: Containerd, word: str, say: str) -> None:
    name = containerd.detached([])
    outcome = containerd.call("tasks", "exec", "--exec-id", "more", name, word)
    assert outcome.status == 1
    assert word in outcome.err and say in outcome.err and "{" not in outcome.err, outcome


def test_exec_outlives_containerd(containerd: Containerd) -> None:
    """The shim keeps it; it ends with its container."""
    name = containerd.detached([])
    command = ["tasks", "exec", "--detach", "--exec-id", "more", name]
    containerd.call(*command, "sh", "-c", "exec sleep 4321").ok()
    containerd.restart(signal.SIGKILL)
    containerd.call("tasks", "kill", "--exec-id", "more", "--signal", "SIGKILL", name).ok()
    assert containerd.status(name) == "RUNNING"
