"""podman alone: pods, user namespaces, its reading of the runtime's log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engines.engine import IMAGE, asking
from tests.engines.podman import Podman
from tests.support.payload import Testimony
from tests.support.runtime import wait_for
from tests.support.service_manager import ServiceManager


def ranges(podman: Podman) -> tuple[str, str]:
    """uids and gids of a container's user namespace; an ordinary user's are counted within his subordinate ids."""
    return ("0:1:5000", "0:2:5000") if podman.rootless else ("0:100000:65536", "0:200000:65536")


def test_pod_shares_namespaces(podman: Podman) -> None:
    """Two containers of a pod have network, IPC and host name in common; not mounts or pids."""
    infra = ["--infra-image", IMAGE, "--infra-command", "testify sleep"]
    pod = ["--name", "pod", "--network", "none", "--share", "ipc,net,uts", "--hostname", "together"]
    podman.call("pod", "create", *pod, *infra, *podman.in_pod).ok()
    podman.call(
        "run", "--detach", "--pod", "pod", "--name", "one", *podman.in_pod, IMAGE, "testify", "sleep"
    ).ok()
    questions = asking("namespaces", "uname", "pid")
    answers = podman.call("run", "--rm", "--pod", "pod", *podman.in_pod, IMAGE, *questions).ok().testimony
    pid = podman.inspect("one", "{{.State.Pid}}")
    same = {n for n, ours in answers["namespaces"].items() if os.readlink(f"/proc/{pid}/ns/{n}") == ours}
    assert {"ipc", "net", "uts"} <= same
    assert not {"mnt", "pid"} & same
    assert answers["pid"] == 1
    assert answers["uname"]["hostname"] == "together"
    assert podman.call("pod", "ps", "--format", "{{.Status}}").out.strip() == "Running"
    podman.call("pod", "rm", "--force", "--time", "1", "pod").ok()


@pytest.mark.needs_cgroups
def test_pod_as_a_whole(podman: Podman) -> None:
    """It is paused, goes on, is stopped and started again, with all its containers."""
    infra = ["--infra-image", IMAGE, "--infra-command", "testify sleep"]
    podman.call("pod", "create", "--name", "pod", "--network", "none", *infra, *podman.in_pod).ok()
    for name in ("one", "two"):
        options = ["--detach", "--pod", "pod", "--name", name, *podman.in_pod]
        podman.call("run", *options, IMAGE, "testify", "sleep").ok()

    def states() -> set[str]:
        return {podman.inspect(name, "{{.State.Status}}") for name in ("one", "two")}

    for verb, state in (
        ("pause", "paused"),
        ("unpause", "running"),
        ("stop", "exited"),
        ("start", "running"),
        ("restart", "running"),
        ("kill", "exited"),
    ):
        podman.call("pod", verb, *(["--time", "8"] if verb == "stop" else []), "pod").ok()
        wait_for(lambda: states() == {state}, 10, f"{state} after {verb}")  # noqa: B023
    podman.call("pod", "rm", "--force", "--time", "0", "pod").ok()


def test_user_namespace(podman: Podman) -> None:
    """Ids are mapped, the root file system belongs to the container's root, and the default profile holds."""
    uids, gids = ranges(podman)
    options = ["--uidmap", uids, "--gidmap", gids, "--memory", "64m", "--pids-limit", "50"]
    maps = ("read /proc/self/uid_map", "read /proc/self/gid_map")
    questions = (*maps, "ids", "stat /bin/testify", "seccomp", "mkdir /x", "stat /dev/null")
    answers = podman.ask(options, *questions)
    assert answers["read /proc/self/uid_map"].split() == uids.split(":")
    assert answers["read /proc/self/gid_map"].split() == gids.split(":")
    assert answers["ids"]["uid"] == [0, 0, 0]
    assert answers["stat /bin/testify"]["uid"] == 0
    assert answers["seccomp"] == 2
    assert "errno" not in str(answers["mkdir /x"])
    assert answers["stat /dev/null"]["rdev"] == [1, 3]


def test_user_namespace_as_a_user(podman: Podman) -> None:
    options = ["--uidmap", ranges(podman)[0], "--user", "ann", "--read-only", "--cap-drop", "ALL"]
    answers = podman.ask(options, "ids", "mkdir /x", "caps")
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["mkdir /x"] == {"errno": "EROFS"}


def test_user_namespace_with_a_terminal(podman: Podman) -> None:
    uids, gids = ranges(podman)
    options = ["--uidmap", uids, "--gidmap", gids]
    shell = podman.terminal("run", "--rm", "-it", *podman.habits, *options, IMAGE, "sh")
    shell.until("# ")
    shell.type("testify tty; exit 6\n")
    assert '"isatty":[true,true,true]' in shell.seen + shell.end().out
    assert shell.process.returncode == 6


def test_exec_in_a_user_namespace(podman: Podman) -> None:
    uids, gids = ranges(podman)
    podman.detached("one", ["--uidmap", uids, "--gidmap", gids])
    answers = podman.call(
        "exec", "--user", "ann", "one", *asking("ids", "read /proc/self/uid_map", "caps", "namespaces")
    ).ok().testimony  # fmt: skip
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["read /proc/self/uid_map"].split() == uids.split(":")
    assert answers["caps"]["effective"] == []
    pid = podman.inspect("one", "{{.State.Pid}}")
    assert answers["namespaces"]["user"] == os.readlink(f"/proc/{pid}/ns/user")


def test_detached_terminal(podman: Podman) -> None:
    podman.detached("one", ["--tty"])
    assert "/dev/pts/" in os.readlink(f"/proc/{podman.inspect('one', '{{.State.Pid}}')}/fd/0")
    podman.call("stop", "--time", "8", "one").ok()


def test_runtime_by_name(podman: Podman) -> None:
    """The name that containers.conf gives."""
    outcome = podman.execute(podman.by_name("run", "--rm", *podman.habits, IMAGE, "testify", "exit", "9"))
    assert outcome.status == 9, outcome


def test_sentence_comes_through(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman reads the runtime's sentence out of its log, and shows all of stderr where it may not read that."""
    command = podman.by_name("run", "--rm", *podman.habits, IMAGE, "no-such-program")
    outcome = podman.execute(command)
    assert outcome.status == 127, outcome
    assert "create failed: " in outcome.err and 'exec: "no-such-program": ' in outcome.err, outcome
    assert not any(word in outcome.err for word in ("level=", "msg=", "{")), outcome
    said = Path(podman.env["CONTAINERS_CONF"]).read_text()
    (entry,) = [line for line in said.splitlines() if line.startswith("runtime_supports_json")]
    (podman.folder / "without.conf").write_text(said.replace(entry, 'runtime_supports_json = ["runc"]'))
    monkeypatch.setitem(podman.env, "CONTAINERS_CONF", str(podman.folder / "without.conf"))
    outcome = podman.execute(command)
    assert outcome.status == 127, outcome
    assert " level=error msg=" in outcome.err and r"exec: \"no-such-program\": " in outcome.err, outcome


def test_sigproxy_and_stop_signal(podman: Podman) -> None:
    podman.detached("one", ["--stop-signal", "USR1"], *asking("signals"))
    podman.call("kill", "--signal", "USR1", "one").ok()
    podman.call("kill", "--signal", "TERM", "one").ok()
    podman.call("wait", "one").ok()
    assert '"signal","answer":10' in podman.call("logs", "one").out


def test_replaced_files(podman: Podman) -> None:
    """podman's own /etc/hosts, /etc/hostname and /run/.containerenv are bind mounts of files."""
    options = ["--hostname", "inside", "--add-host", "there:10.1.2.3"]
    answers = podman.ask(options, "read /etc/hosts", "read /etc/hostname", "access /run/.containerenv")
    assert "10.1.2.3" in answers["read /etc/hosts"]
    assert answers["read /etc/hostname"].strip() == "inside"
    assert answers["access /run/.containerenv"] == 0


@pytest.mark.needs_root
def test_privileged(podman: Podman) -> None:
    """podman asks for the capabilities of the host's bounding set; docker for all, which not every host has."""
    answers = podman.ask(
        ["--privileged"], "caps", "seccomp", "write /proc/sys/kernel/hostname inside", "uname"
    )
    bounding = int(Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0], 16)
    assert answers["caps"]["bounding"] == [n for n in range(64) if bounding >> n & 1]
    assert answers["seccomp"] == 0
    assert answers["uname"]["hostname"] == "inside"


@pytest.mark.parametrize("mode", ["container", "conmon"])
def test_sdnotify(podman: Podman, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `container` conmon listens on a socket that podman mounts: the runtime keeps its hands off."""
    with ServiceManager(podman.folder / f"notify-{mode}") as manager:
        podman.may_write(Path(manager.name))
        questions = asking("env", "notify READY=1", "sleep")
        options = ["--detach", f"--sdnotify={mode}", "--name", f"notify-{mode}", *podman.habits]
        monkeypatch.setitem(podman.env, "NOTIFY_SOCKET", manager.name)
        podman.call("run", *options, IMAGE, *questions).ok()
        manager.hears("READY=1")
        said = Testimony(podman.call("logs", f"notify-{mode}").ok().out)
        names = [entry for entry in said["env"] if entry.startswith("NOTIFY_SOCKET=")]
        assert names == (["NOTIFY_SOCKET=/run/notify/notify.sock"] if mode == "container" else [])
        podman.call("rm", "--force", "--time", "0", f"notify-{mode}").ok()


def test_no_cgroup(podman: Podman) -> None:
    """`--cgroups=disabled`: the container is where conmon is."""
    options = ["--detach", "--name", "one", "--cgroups", "disabled", "--network", "none", *podman.limits]
    podman.execute(podman.by_name("run", *options, IMAGE, "testify", "sleep")).ok()
    pid, conmon = podman.inspect("one", "{{.State.Pid}} {{.State.ConmonPid}}").split()
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{conmon}/cgroup").read_text()
    podman.call("stop", "--time", "8", "one").ok()
    assert podman.inspect("one", "{{.State.ExitCode}}") == "0"
