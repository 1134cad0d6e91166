"""docker alone: what it asks of a runtime, and a daemon with user namespaces."""

from __future__ import annotations

import os
import signal

import pytest

from tests.engines.docker import Docker
from tests.engines.engine import IMAGE, asking, forgets_what_ended_meanwhile
from tests.support.runtime import wait_for

pytestmark = pytest.mark.xdist_group("docker")


def test_runtime_is_known(docker: Docker) -> None:
    assert "pyrunc" in docker.call("info", "--format", "{{json .Runtimes}}").ok().out


def test_user_namespace(docker_remapped: Docker) -> None:
    answers = docker_remapped.ask(
        ["--memory", "64m", "--pids-limit", "50", "--user", "ann"],
        "read /proc/self/uid_map", "ids", "stat /bin/testify", "seccomp", "stat /dev/null", "mkdir /tmp/x",
    )  # fmt: skip
    assert answers["read /proc/self/uid_map"].split() == ["0", "300000", "65536"]
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["stat /bin/testify"]["uid"] == 0
    assert answers["seccomp"] == 2
    assert answers["stat /dev/null"]["rdev"] == [1, 3]
    assert "errno" not in str(answers["mkdir /tmp/x"])


def test_user_namespace_with_a_terminal(docker_remapped: Docker) -> None:
    shell = docker_remapped.terminal("run", "--rm", "-it", *docker_remapped.habits, IMAGE, "sh")
    shell.until("# ")
    shell.type("testify tty; exit 6\n")
    outcome = shell.end()
    assert outcome.status == 6
    assert '"isatty":[true,true,true]' in outcome.out


def test_exec_in_a_user_namespace(docker_remapped: Docker) -> None:
    docker_remapped.detached("one", [])
    questions = asking("ids", "read /proc/self/uid_map", "tty")
    answers = docker_remapped.call("exec", "--user", "ann", "one", *questions).ok().testimony
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["read /proc/self/uid_map"].split() == ["0", "300000", "65536"]
    shell = docker_remapped.terminal("exec", "-it", "one", "sh")
    shell.until("# ")
    shell.type("testify tty; exit 6\n")
    assert '"isatty":[true,true,true]' in shell.end().out


def test_detached_terminal(docker: Docker) -> None:
    docker.detached("one", ["--tty"])
    assert "/dev/pts/" in os.readlink(f"/proc/{docker.inspect('one', '{{.State.Pid}}')}/fd/0")
    docker.call("stop", "--time", "8", "one").ok()


def test_kill_by_signals(docker: Docker) -> None:
    docker.detached("one", [], *asking("signals"))
    docker.call("kill", "--signal", "USR1", "one").ok()
    docker.call("kill", "--signal", "TERM", "one").ok()
    docker.call("wait", "one").ok()
    assert '"signal","answer":10' in docker.call("logs", "one").out


def test_pid_namespace_of_the_host_is_emptied(docker: Docker) -> None:
    """Without a PID namespace the shim asks the runtime to kill all processes once the first has ended."""
    docker.detached("one", ["--pid", "host"], "sh", "-c", "sleep 4321 & echo ready; exec testify sleep")
    docker.call("kill", "one").ok()
    docker.call("wait", "one").ok()
    docker.call("rm", "one").ok()


def test_working_directory_is_made(docker: Docker) -> None:
    """podman looks for it in the image; docker leaves it to the runtime."""
    assert docker.ask(["--workdir", "/made/for/it"], "cwd")["cwd"] == "/made/for/it"


def test_restarted_when_it_fails(docker: Docker) -> None:
    options = ["--detach", "--name", "one", "--restart", "on-failure:2", *docker.habits]
    docker.call("run", *options, IMAGE, "false").ok()
    facts = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"
    wait_for(lambda: docker.inspect("one", facts) == "2 exited 1", 20, "the second restart")


def test_restarted_always(docker: Docker) -> None:
    """Unless it was stopped."""
    docker.detached("one", ["--restart", "always"])
    before = docker.inspect("one", "{{.State.Pid}}")
    os.kill(int(before), signal.SIGKILL)
    wait_for(lambda: docker.inspect("one", "{{.State.Pid}}") not in (before, "0"), 20, "the restart")
    docker.call("stop", "--time", "8", "one").ok()
    assert docker.inspect("one", "{{.State.Status}}") == "exited"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_live_restore(docker: Docker, number: signal.Signals) -> None:
    """Containers outlive dockerd; what ended in between is told, or restarted where its policy says so."""
    for name, options in (("lasting", []), ("ending", []), ("returning", ["--restart", "always"])):
        docker.detached(name, options)
    pids = {name: docker.inspect(name, "{{.State.Pid}}") for name in ("lasting", "ending", "returning")}

    def kill_two() -> None:
        for name in ("ending", "returning"):
            os.kill(int(pids[name]), signal.SIGKILL)

    docker.restart(number, kill_two)
    facts = "{{.State.Status}} {{.State.Pid}} {{.State.ExitCode}}"
    assert docker.inspect("lasting", facts) == f"running {pids['lasting']} 0"
    ended = f"exited 0 {255 if forgets_what_ended_meanwhile() else 137}"
    wait_for(lambda: docker.inspect("ending", facts) == ended, 10, "the status of what ended")
    wait_for(lambda: docker.inspect("returning", "{{.State.Running}}") == "true", 10, "the restart")
    assert docker.inspect("returning", "{{.State.Pid}}") != pids["returning"]
    docker.call("stop", "--time", "8", "lasting").ok()
    assert docker.inspect("lasting", facts) == "exited 0 0"
    docker.call("start", "lasting").ok()
