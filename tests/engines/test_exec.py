"""More processes in a container of podman and docker: exec, health checks, top. One test for both."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.engines.engine import DockerLike, asking
from tests.engines.terminal import size_arrives
from tests.support import footprint
from tests.support.runtime import wait_for


def test_exec(engine: DockerLike) -> None:
    """In the container's namespaces and cgroup, with its profile, as the user and where it is asked for."""
    engine.detached("one", ["--memory", "64m", "--cap-drop", "CHOWN", "--env", "FOO=bar"])
    options = ["--user", "ann", "--workdir", "/home/ann", "--env", "WORD=said"]
    questions = (
        "namespaces",
        "ids",
        "cwd",
        "env",
        "seccomp",
        "read /proc/self/cgroup",
        "read /proc/1/cgroup",
        "fds",
    )
    answers = engine.call("exec", *options, "one", *asking(*questions)).ok().testimony
    pid = engine.inspect("one", "{{.State.Pid}}")
    for name, inside in answers["namespaces"].items():
        assert inside == os.readlink(f"/proc/{pid}/ns/{name}"), name
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["cwd"] == "/home/ann"
    assert {"FOO=bar", "WORD=said"} <= set(answers["env"])
    assert answers["seccomp"] == 2
    assert answers["read /proc/self/cgroup"] == answers["read /proc/1/cgroup"]
    assert set(answers["fds"]) == {"0", "1", "2"}
    capabilities = engine.call("exec", "one", *asking("caps")).ok().testimony["caps"]
    assert 0 not in capabilities["bounding"] and capabilities["effective"] == capabilities["bounding"]


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exec_status_and_output(engine: DockerLike, status: int) -> None:
    engine.detached("one", [])
    outcome = engine.call("exec", "one", "sh", "-c", f"echo good; echo bad >&2; exit {status}")
    assert (outcome.status, outcome.out, outcome.err.splitlines()[:1]) == (status, "good\n", ["bad"])


@pytest.mark.parametrize(
    ("word", "status"), [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126)]
)
def test_exec_of_no_program(engine: DockerLike, word: str, status: int) -> None:
    engine.detached("one", [])
    outcome = engine.call("exec", "one", word)
    assert outcome.status in ({status} if engine.name == "podman" else {126, status}), (
        outcome
    )  # docker 20: always 126
    said = outcome.out + outcome.err  # docker writes it where the program's output would be
    assert word in said and ("permission denied" in said) == (status == 126), outcome


def test_exec_with_a_terminal(engine: DockerLike) -> None:
    """`exec -it`: the size of the window arrives, also when it changes."""
    engine.detached("one", [])
    shell = engine.terminal("exec", "-it", "one", "sh")
    shell.until("# ")
    shell.type("testify tty\n")
    shell.until('"ask":"tty"')
    shell.until("# ")
    assert '"isatty":[true,true,true]' in shell.seen
    size_arrives(shell, shell.rows, shell.columns)
    size_arrives(shell, 20, 50)
    shell.type("exit 5\n")
    assert shell.end().status == 5
    assert engine.inspect("one", "{{.State.Status}}") == "running"


def test_exec_detached(engine: DockerLike) -> None:
    """It goes on without a client, and ends with its container."""
    engine.detached("one", [])
    engine.call("exec", "--detach", "one", "sh", "-c", "echo 1 > /tmp/there; exec sleep 4321").ok()
    pid = int(engine.inspect("one", "{{.State.Pid}}"))
    wait_for(lambda: engine.call("exec", "one", "sh", "-c", "test -e /tmp/there").status == 0, 10, "its file")
    engine.call("kill", "one").ok()
    wait_for(lambda: not footprint.alive(pid), 10, "the end of the container")


def test_exec_reads_its_input(engine: DockerLike, folder: Path) -> None:
    (folder / "in").write_text("from outside\n")
    engine.detached("one", [])
    command = shlex.join(engine.command("exec", "-i", "one", "cat"))
    assert engine.execute(["sh", "-c", f"{command} < {folder}/in"]).ok().out == "from outside\n"


@pytest.mark.needs_cgroups
def test_exec_is_refused(engine: DockerLike) -> None:
    """While the container stands still, and after its end."""
    engine.detached("one", [])
    engine.call("pause", "one").ok()
    assert engine.call("exec", "one", "true").status != 0
    engine.call("unpause", "one").ok()
    engine.call("exec", "one", "true").ok()
    engine.call("kill", "one").ok()
    wait_for(lambda: engine.inspect("one", "{{.State.Running}}") == "false", 10, "its end")
    assert engine.call("exec", "one", "true").status != 0


def test_privileged_exec(engine: DockerLike) -> None:
    engine.detached("one", ["--cap-drop", "ALL", "--user", "ann"])
    capabilities = (
        engine.call("exec", "--privileged", "--user", "0", "one", *asking("caps")).ok().testimony["caps"]
    )
    assert 0 in capabilities["effective"]


def test_health(engine: DockerLike) -> None:
    """The check is an exec: it finds the container well, and later not."""
    # podman's timer would be a unit of systemd, which knows nothing of the folders of these tests.
    interval = "disable" if engine.name == "podman" else "1s"
    engine.detached(
        "one",
        ["--health-cmd", "test ! -e /tmp/ill", "--health-interval", interval, "--health-retries", "1"],
    )

    def health() -> str:
        if engine.name == "podman":
            engine.call("healthcheck", "run", "one")
        return engine.inspect("one", "{{.State.Health.Status}}")

    wait_for(lambda: health() == "healthy", 20, "health")
    engine.call("exec", "one", "touch", "/tmp/ill").ok()
    wait_for(lambda: health() == "unhealthy", 20, "illness")


def test_top(engine: DockerLike) -> None:
    """docker asks the runtime for the processes, and ps about them."""
    engine.detached("one", [], "sh", "-c", "testify sleep & exec testify sleep")
    wait_for(lambda: engine.call("top", "one").ok().out.count("testify") == 2, 10, "both processes")
