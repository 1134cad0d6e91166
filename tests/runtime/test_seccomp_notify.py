"""SCMP_ACT_NOTIFY with a real agent (config-linux.md "Seccomp", "The Container Process State")."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError
from pyrunc.lifecycle import seccomp_agent
from tests.runtime.test_seccomp import everything, rule
from tests.support.bundle import Bundle
from tests.support.patience import patient
from tests.support.runtime import Runtime, wait_for
from tests.support.seccomp_agent import agent

STRANGE = errno.EADDRNOTAVAIL
UID, GID = 1000, 1000

both_ways = pytest.mark.parametrize("nnp", [False, True], ids=["privileged", "no-new-privileges"])


def notifying(runtime: Runtime, path: Path | str, *names: str, nnp: bool = False, **more: Any) -> Bundle:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW", rule("NOTIFY", *names), listenerPath=str(path), **more
    )
    bundle.process["noNewPrivileges"] = nnp
    return bundle


@both_ways
def test_run(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    """The agent's errno is what the program gets; calls that the agent lets go on are made."""
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl", "getcpu", nnp=nnp)
        said = runtime.ask(bundle, "syscall keyctl 1001", "syscall getcpu", "syscall getpid")
    assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}
    assert said["syscall getcpu"] == 0
    assert judge.calls == ["keyctl", "getcpu"]
    assert len(judge.messages) == 1


@both_ways
def test_create_and_start(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    with agent(tmp_path / "agent", mkdir=STRANGE, mkdirat=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "mkdir", "mkdirat", nnp=nnp, listenerMetadata="a=b;c")
        bundle.config["annotations"] = {"org.example": "yes"}
        bundle.shell("mkdir /made; rmdir /nothing")
        container = runtime.container(bundle)
        container.create().ok()
        wait_for(lambda: len(judge.messages) == (0 if nnp else 1), say="the listener")
        pid = container.pid
        container.start().ok()
        container.stops()
        state = judge.state
    assert "Cannot assign requested address" in container.err or "t assign" in container.err
    assert not (bundle.rootfs / "made").exists()
    inner = state.pop("state")
    assert state == {"ociVersion": inner["ociVersion"], "fds": ["seccompFd"], "pid": pid, "metadata": "a=b;c"}
    # As long as `start` has not executed the program the container is created (runtime.md "State").
    assert inner["status"] == ("created" if nnp else "creating")
    assert (inner["id"], inner["pid"], inner["bundle"]) == (container.id, pid, str(bundle.path))
    assert inner["annotations"] == {"org.example": "yes"}
    assert {"ociVersion", "id", "status", "pid", "bundle"} <= set(inner)


def test_metadata_is_optional(runtime: Runtime, tmp_path: Path) -> None:
    with agent(tmp_path / "agent") as judge:
        runtime.run(notifying(runtime, judge.path, "keyctl")).ok()
        assert "metadata" not in judge.state


@both_ways
def test_user_namespace(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl", nnp=nnp).map_ids()
        bundle.process["user"] = {"uid": 1000, "gid": 1000}
        said = runtime.ask(bundle, "syscall keyctl 1001", "ids")
    assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}
    assert said["ids"]["uid"] == [1000] * 3


@both_ways
def test_rootless(runtime: Runtime, nnp: bool) -> None:
    """The runtime is an ordinary user, as which it takes the listener and reaches the agent."""
    user = runtime.as_user(UID, GID)
    with agent(Path(str(user.cwd)) / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl", nnp=nnp).rootless(UID, GID).give_rootfs(UID, GID)
        bundle.ask("syscall keyctl 1001")
        assert user.run(bundle).ok().testimony["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}


@both_ways
def test_joined_namespaces(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    """Init is the second stage then; its pid is that in the message."""
    with (
        agent(tmp_path / "agent", keyctl=STRANGE) as judge,
        runtime.running(runtime.bundle().sleeper()) as host,
    ):
        bundle = notifying(runtime, judge.path, "keyctl", nnp=nnp)
        bundle.namespace("pid", f"/proc/{host.pid}/ns/pid").ask("syscall keyctl", "sleep")
        container = runtime.container(bundle)
        container.run_detached().ok()
        container.says("EADDRNOTAVAIL")
        assert judge.state["pid"] == container.pid
        container.delete("--force").ok()


def test_the_state_is_one_message_however_long(runtime: Runtime, tmp_path: Path) -> None:
    """Longer than a socket buffer; the descriptor is beside its first byte and nowhere else."""
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl").ask("syscall keyctl")
        bundle.config["annotations"] = {"org.example": "x" * (1 << 20)}
        assert runtime.run(bundle).ok().testimony["syscall keyctl"] == {"errno": "EADDRNOTAVAIL"}
        assert judge.state["state"]["annotations"] == bundle.config["annotations"]


def test_run_detached(runtime: Runtime, tmp_path: Path) -> None:
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        container = runtime.container(
            notifying(runtime, judge.path, "keyctl", nnp=True).ask("syscall keyctl")
        )
        container.run_detached().ok()
        container.says("EADDRNOTAVAIL")
        assert judge.state["state"]["status"] == "created"


@both_ways
def test_what_init_calls_may_notify(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    """All that comes after the agent has its listener, down to execve."""
    names = (
        "sendmsg",
        "read",
        "write",
        "close",
        "accept4",
        "execve",
        "prctl",
        "capset",
        "setresuid",
        "setresgid",
        "statx",
    )
    with agent(tmp_path / "agent") as judge:
        container = runtime.container(notifying(runtime, judge.path, *names, nnp=nnp).ask("pid"))
        container.create().ok()
        container.start().ok()
        container.stops()
        assert container.testimony["pid"] == 1
        assert "execve" in judge.calls
        assert ("setresuid" in judge.calls) is not nnp


WITHOUT_SENDMSG = [rule("ERRNO", "sendmsg"), rule("NOTIFY", "sendmsg"), rule("KILL", "sendmsg")]


@both_ways
@pytest.mark.parametrize("sendmsg", WITHOUT_SENDMSG, ids=lambda entry: entry["action"])
def test_the_runtime_takes_what_init_cannot_send(
    runtime: Runtime, tmp_path: Path, nnp: bool, sendmsg: dict[str, Any]
) -> None:
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl", nnp=nnp)
        bundle.linux["seccomp"]["syscalls"].append(sendmsg)
        bundle.process["user"] = {"uid": 1000, "gid": 1000}
        said = runtime.ask(bundle, "syscall keyctl 1001")
    assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}
    assert "sendmsg" not in judge.calls


def test_a_runtime_that_may_not_trace(runtime: Runtime, tmp_path: Path) -> None:
    """Without CAP_SYS_PTRACE descriptors of another user's process cannot be taken; they can be sent."""
    bound = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--"]
    runtime.prefix = bound
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "keyctl", nnp=True).ask("syscall keyctl")
        bundle.process["user"] = {"uid": 1000, "gid": 1000}
        assert runtime.run(bundle).ok().testimony["syscall keyctl"] == {"errno": "EADDRNOTAVAIL"}
        bundle.linux["seccomp"]["syscalls"].append(rule("NOTIFY", "sendmsg"))
        runtime.run(bundle).fails("take the seccomp listener from init", "not permitted", "CAP_SYS_PTRACE")


def test_a_hook_in_the_container_is_the_agents_too(runtime: Runtime, tmp_path: Path) -> None:
    with agent(tmp_path / "agent", mkdir=STRANGE, mkdirat=STRANGE) as judge:
        bundle = notifying(runtime, judge.path, "mkdir", "mkdirat", nnp=True)
        bundle.hook("startContainer", "mkdir /made && exit 1; exit 0")
        runtime.run(bundle.ask("pid")).ok()
        assert len(judge.calls) == 1


def test_unused_listener_path_is_ignored(runtime: Runtime, tmp_path: Path) -> None:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW",
        rule("ERRNO", "keyctl"),
        listenerPath=str(tmp_path / "nobody"),
        listenerMetadata="x",
        flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    )
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "EPERM"}


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
        ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    ],
    ids=str,
)
def test_flags(runtime: Runtime, tmp_path: Path, flags: list[str]) -> None:
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        said = runtime.ask(notifying(runtime, judge.path, "keyctl", flags=flags), "syscall keyctl")
    assert said["syscall keyctl"] == {"errno": "EADDRNOTAVAIL"}


def test_notify_as_default_action(runtime: Runtime, tmp_path: Path) -> None:
    """Where the calls with which init hands the listener over are allowed."""
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = runtime.bundle().seccomp(
            "SCMP_ACT_NOTIFY", rule("ALLOW", "write", "read"), listenerPath=str(judge.path)
        )
        said = runtime.ask(bundle, "syscall keyctl", "pid")
        assert said == {"syscall keyctl": {"errno": "EADDRNOTAVAIL"}, "pid": 1}
        assert {"execve", "keyctl"} <= set(judge.calls)


def test_a_call_newer_than_libseccomp(runtime: Runtime, tmp_path: Path) -> None:
    """file_setattr, which pyrunc puts before the filter of a libseccomp that does not have it."""
    with agent(tmp_path / "agent", call469=STRANGE, file_setattr=STRANGE) as judge:
        said = runtime.ask(notifying(runtime, judge.path, "file_setattr"), "syscall 469")
    assert said["syscall 469"] == {"errno": "EADDRNOTAVAIL"}


def test_allow_list(runtime: Runtime, tmp_path: Path) -> None:
    """With ENOSYS for what is newer than the profile, before the agent is asked."""
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        bundle = runtime.bundle().seccomp(
            "SCMP_ACT_ERRNO", *everything(), rule("NOTIFY", "keyctl"), listenerPath=str(judge.path)
        )
        said = runtime.ask(bundle, "syscall keyctl", "syscall 1000", "syscall acct")
    assert [answer["errno"] for answer in said.values()] == ["EADDRNOTAVAIL", "ENOSYS", "EPERM"]


def test_relative_and_long_paths(runtime: Runtime, tmp_path: Path) -> None:
    """A relative path is one below the bundle; a long one has no place in an address of unix(7)."""
    bundle = notifying(runtime, "agent", "keyctl").ask("syscall keyctl")
    with agent(bundle.path / "agent", keyctl=STRANGE):
        assert runtime.run(bundle).ok().testimony["syscall keyctl"] == {"errno": "EADDRNOTAVAIL"}
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    bundle.linux["seccomp"]["listenerPath"] = str(folder / "agent")
    with agent(tmp_path / "agent", keyctl=STRANGE) as judge:
        judge.path.rename(folder / "agent")
        assert runtime.run(bundle).ok().testimony["syscall keyctl"] == {"errno": "EADDRNOTAVAIL"}


# -- agents that are no help -------------------------------------------------------------------------------


def refused(runtime: Runtime, bundle: Bundle, nnp: bool, *words: str) -> None:
    """Neither `run` nor `create` and `start` run the program; nothing is left."""
    bundle.shell("echo ran > /ran")
    runtime.root.mkdir(mode=0o700, exist_ok=True)
    runtime.run(bundle).fails(*words)
    before = runtime.footprint(bundle)  # with the compiled filter in the cache
    runtime.run(bundle).fails(*words)
    before.assert_unchanged()
    container = runtime.container(bundle)
    if nnp:
        container.create().ok()
        container.start().fails(*words)
        assert container.status == "stopped"
        container.delete().ok()
    else:
        container.create().fails(*words)
    before.assert_unchanged()
    assert not (bundle.rootfs / "ran").exists()


@both_ways
def test_no_agent(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    bundle = notifying(runtime, tmp_path / "nobody", "keyctl", nnp=nnp)
    refused(
        runtime, bundle, nnp, "listenerPath", str(tmp_path / "nobody"), "no such file or directory", "agent"
    )
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "nobody"))
        refused(runtime, bundle, nnp, "connection refused")


def test_wrong_type_of_socket(runtime: Runtime, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wrong:
        wrong.bind(str(tmp_path / "agent"))
        wrong.listen()
        bundle = notifying(runtime, tmp_path / "agent", "keyctl")
        refused(runtime, bundle, False, "protocol wrong type for socket")


@both_ways
def test_an_agent_that_takes_no_listener(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    """It closes the connection before or while the state is sent; init's calls wait for nobody."""
    with agent(tmp_path / "agent", "close") as judge:
        bundle = notifying(runtime, judge.path, "execve", nnp=nnp)
        # Large enough that sending cannot have ended before the agent closes.
        bundle.config["annotations"] = {"org.example": "x" * (1 << 20)}
        refused(runtime, bundle, nnp)


@contextmanager
def deaf_agent(path: Path) -> Iterator[None]:
    """A socket with a backlog of one connection, which is taken, and nobody who accepts."""
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(path))
        deaf.listen(0)
        first.connect(str(path))
        yield


@both_ways
def test_an_agent_that_accepts_nobody(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    """`create` and `start` wait for it; `delete --force` ends the container, and with it the waiting."""
    bundle = notifying(runtime, tmp_path / "agent", "keyctl", nnp=nnp)
    container = runtime.container(bundle)
    with deaf_agent(tmp_path / "agent"):
        if nnp:
            container.create().ok()
        words = ["start"] if nnp else ["create", "--bundle", runtime.put(bundle, container.id)]
        waiting = runtime.spawn(*words, container.id)
        time.sleep(patient(0.5))
        container.delete("--force").ok()
        waiting.wait().fails("init ended before the seccomp agent" if nnp else "interrupted by SIGTERM")


def test_an_agent_that_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After half a minute, here after less: whether it does not accept, or accepts and does not read."""
    monkeypatch.setattr(seccomp_agent, "PATIENCE", 0.3)
    pidfd, listener = os.pidfd_open(os.getpid()), os.memfd_create("listener")
    try:
        with deaf_agent(tmp_path / "deaf"), pytest.raises(KernelError, match="connection timed out"):
            seccomp_agent._send(str(tmp_path / "deaf"), b"state", listener, pidfd)
        with socket.socket(socket.AF_UNIX) as lazy:
            lazy.bind(str(tmp_path / "lazy"))
            lazy.listen()
            with pytest.raises(KernelError, match="connection timed out"):
                seccomp_agent._send(str(tmp_path / "lazy"), b"x" * (1 << 20), listener, pidfd)
    finally:
        os.close(listener)
        os.close(pidfd)


@both_ways
def test_an_agent_that_ends_before_the_program_runs(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    with agent(tmp_path / "agent", "leave") as judge:
        bundle = notifying(runtime, judge.path, "execve", "read", "close", nnp=nnp).ask("pid")
        runtime.run(bundle).fails("function not implemented", "agent has ended")


def test_an_agent_that_is_killed_while_init_waits(runtime: Runtime, tmp_path: Path) -> None:
    with agent(tmp_path / "agent", "hold") as judge:
        bundle = notifying(runtime, judge.path, "setresgid", "read", "close").ask("pid")
        running = runtime.spawn("run", "--bundle", runtime.put(bundle, runtime.new_id()), runtime._ids[-1])
        wait_for(lambda: bool(judge.messages), 10, "the message")
        judge.end()
        running.wait().fails("set group id", "function not implemented", "agent has ended")


def test_an_agent_that_is_killed_while_the_program_runs(runtime: Runtime, tmp_path: Path) -> None:
    """seccomp_unotify(2): without a listener the call gets ENOSYS."""
    with agent(tmp_path / "agent") as judge:
        bundle = notifying(runtime, judge.path, "mkdir", "mkdirat", nnp=True)
        bundle.shell("mkdir /one; echo first; until [ -e /go ]; do sleep 0.05; done; mkdir /two; echo $?")
        with runtime.running(bundle) as container:
            container.says("first")
            judge.end()
            (bundle.rootfs / "go").touch()
            container.stops()
            assert "not implemented" in container.err.lower()
    assert (bundle.rootfs / "one").exists() and not (bundle.rootfs / "two").exists()


def listeners_of(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [fd for fd in os.listdir(folder) if "seccomp" in os.readlink(f"{folder}/{fd}")]


@both_ways
def test_no_copy_of_the_listener_stays(runtime: Runtime, tmp_path: Path, nnp: bool) -> None:
    with agent(tmp_path / "agent") as judge:
        container = runtime.container(notifying(runtime, judge.path, "keyctl", nnp=nnp).sleeper())
        container.create().ok()
        assert listeners_of(container.pid) == []
        container.start().ok()
        wait_for(lambda: len(listeners_of(judge.pid)) == 1, say="the agent's receiving of the listener")
        assert listeners_of(container.pid) == []
        container.delete("--force").ok()


# -- refused configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,words",
    [
        ({"listenerPath": None}, ["linux.seccomp.listenerPath: is missing"]),
        ({"syscalls": [rule("NOTIFY", "sendmsg", "write", "sendto")]}, ["needs sendmsg or write or sendto"]),
        ({"defaultAction": "SCMP_ACT_NOTIFY", "syscalls": []}, ["needs sendmsg or write or sendto"]),
        ({"syscalls": [rule("NOTIFY", "keyctl", errnoRet=1)]}, ["SCMP_ACT_NOTIFY has no errno"]),
        (
            {"syscalls": [], "listenerPath": None, "listenerMetadata": "x"},
            ["listenerMetadata", "listenerPath"],
        ),
        (
            {"syscalls": [], "listenerPath": "", "listenerMetadata": "x"},
            ["must not be set without listenerPath"],
        ),
    ],
    ids=["no-path", "write", "default", "errno", "metadata", "metadata-empty-path"],
)
def test_refused(runtime: Runtime, change: dict[str, Any], words: list[str]) -> None:
    bundle = notifying(runtime, "/nobody", "keyctl")
    profile = bundle.linux["seccomp"]
    profile.update(change)
    for name in [name for name, value in profile.items() if value is None]:
        del profile[name]
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(*words)
    before.assert_unchanged()
