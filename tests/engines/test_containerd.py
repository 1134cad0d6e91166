"""containerd through ctr: foreground and detached, with and without a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engines.containerd import Containerd
from tests.engines.engine import program
from tests.support.runtime import wait_for

pytestmark = pytest.mark.xdist_group("containerd")


@pytest.mark.parametrize("status", [0, 9, 255])
def test_foreground(containerd: Containerd, status: int) -> None:
    outcome = containerd.run([], "sh", "-c", f"echo good; echo bad >&2; exit {status}")
    assert (outcome.status, outcome.out, outcome.err) == (status, "good\n", "bad\n")


def test_foreground_terminal(containerd: Containerd) -> None:
    shell = containerd.terminal(*containerd.run_words(["--rm", "--tty"], containerd.new_name(), "sh"))
    shell.until("# ")
    shell.type("testify tty\n")
    shell.until('"ask":"tty"')
    shell.until("# ")
    assert '"isatty":[true,true,true]' in shell.seen
    shell.type("exit 5\n")
    assert shell.end().status == 5


@pytest.mark.parametrize("terminal", [[], ["--tty"]])
def test_detached_kill_delete(containerd: Containerd, terminal: list[str]) -> None:
    name = containerd.detached(terminal)
    pid, _ = containerd.tasks()[name]
    assert Path(f"/proc/{pid}/comm").read_text() == "testify\n"
    containerd.call("tasks", "kill", "--signal", "SIGKILL", name).ok()
    wait_for(lambda: containerd.status(name) == "STOPPED", 10, "the end of the task")
    assert containerd.call("tasks", "rm", name).status in (0, 137)
    assert name not in containerd.tasks()
    containerd.call("containers", "rm", name).ok()


def test_ends_by_signal(containerd: Containerd) -> None:
    name = containerd.detached([])
    containerd.call("tasks", "kill", "--signal", "SIGTERM", name).ok()
    wait_for(lambda: containerd.status(name) == "STOPPED", 10, "the end of the task")
    containerd.call("tasks", "rm", name).ok()


def test_removed_by_force(containerd: Containerd) -> None:
    name = containerd.detached([])
    containerd.call("tasks", "rm", "--force", name)
    assert name not in containerd.tasks()


def test_created_not_started(containerd: Containerd) -> None:
    """`containers create`, `tasks start`: the same container twice."""
    name = containerd.detached([])
    containerd.call("tasks", "rm", "--force", name)
    command = [program("ctr"), "tasks", "start", "--detach", name]
    containerd.execute(command).ok()
    assert containerd.status(name) == "RUNNING"


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("no-such-program", "executable file not found"),
        ("/etc/passwd", "permission denied"),
        ("/no/such", "no such file"),
    ],
)
def test_not_a_program(containerd: Containerd, word: str, say: str) -> None:
    outcome = containerd.run([], word)
    assert outcome.status == 1
    assert word in outcome.err and say in outcome.err, outcome
    assert "{" not in outcome.err, "the sentence, not JSON"


def test_options(containerd: Containerd) -> None:
    options = [
        "--read-only",
        "--memory-limit",
        str(64 << 20),
        "--cap-drop",
        "CAP_CHOWN",
        "--seccomp",
        "--env",
        "FOO=bar",
    ]
    options += ["--cwd", "/home"]
    answers = containerd.ask(
        options, "mkdir /x", "caps", "seccomp", "env", "cwd", "nnp", "pid", "namespaces", "fds"
    )
    assert answers["mkdir /x"] == {"errno": "EROFS"}
    assert 0 not in answers["caps"]["effective"] and 5 in answers["caps"]["effective"]
    assert answers["seccomp"] == 2
    assert "FOO=bar" in answers["env"]
    assert answers["cwd"] == "/home"
    assert answers["nnp"] == 1
    assert answers["pid"] == 1
    assert set(answers["fds"]) == {"0", "1", "2"}
    assert answers["namespaces"]["net"] != os.readlink("/proc/self/ns/net")


def test_mount(containerd: Containerd, folder: Path) -> None:
    (folder / "file").write_text("from the host")
    mount = f"type=bind,src={folder},dst=/host,options=rbind:ro"
    answers = containerd.ask(["--mount", mount], "read /host/file", "mkdir /host/x")
    assert answers["read /host/file"] == "from the host"
    assert answers["mkdir /host/x"] == {"errno": "EROFS"}


def test_user_namespace(containerd: Containerd) -> None:
    options = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
    answers = containerd.ask(options, "read /proc/self/uid_map", "ids", "stat /bin/testify")
    assert answers["read /proc/self/uid_map"].split() == ["0", "100000", "65536"]
    assert answers["ids"]["uid"] == [0, 0, 0]
    assert answers["stat /bin/testify"]["uid"] == 0


def test_joined_namespaces_and_kill_all(containerd: Containerd) -> None:
    """A task in the PID namespace of another: when its first process ends, the runtime has to kill the others."""
    one = containerd.detached([])
    pid, _ = containerd.tasks()[one]
    joined = ["--with-ns", f"pid:/proc/{pid}/ns/pid", "--with-ns", f"network:/proc/{pid}/ns/net"]
    two = containerd.detached(joined, "sh", "-c", "sleep 4321 & exec testify sleep")
    other, _ = containerd.tasks()[two]
    for kind in ("pid", "net"):
        assert os.readlink(f"/proc/{other}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}")
    containerd.call("tasks", "kill", "--signal", "SIGKILL", two).ok()
    wait_for(lambda: containerd.status(two) == "STOPPED", 10, "the end of the task")
    containerd.call("tasks", "rm", two)
    assert containerd.status(one) == "RUNNING"


def test_pid_file(containerd: Containerd, folder: Path) -> None:
    name = containerd.detached(["--pid-file", str(folder / "pid")])
    assert int((folder / "pid").read_text()) == containerd.tasks()[name][0]
