"""docker alone: what it asks of a runtime, and a daemon with user namespaces."""

from __future__ import annotations

import os

import pytest

from tests.engines.docker import Docker
from tests.engines.engine import IMAGE, asking

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


def test_restart_policy(docker: Docker) -> None:
    docker.call(
        "run", "--detach", "--name", "one", "--restart", "on-failure:2", *docker.habits, IMAGE, "false"
    ).ok()
    docker.call("wait", "one").ok()
    assert int(docker.inspect("one", "{{.RestartCount}}")) >= 0
