"""exec: the process is under the container's filter and label, and has its keyring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runtime.test_labels import CURRENT, a_label, profile, with_apparmor, with_selinux
from tests.runtime.test_seccomp import argument, rule
from tests.support.exec import started
from tests.support.runtime import Runtime, wait_for
from tests.support.seccomp_agent import agent

both_ways = pytest.mark.parametrize("nnp", [False, True], ids=["privileged", "no-new-privileges"])
__all__ = ["profile"]  # a fixture

#: The serial number of the session keyring (KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING).
KEYRING = "syscall keyctl 0 -3 0"


@both_ways
def test_the_filter_is_the_containers(runtime: Runtime, nnp: bool) -> None:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"), rule("ERRNO", "clone3", errnoRet=38)
    )
    bundle.process["noNewPrivileges"] = nnp
    container = started(runtime, bundle)
    said = container.asks("seccomp", "nnp", "caps", "syscall keyctl 99")
    assert (said["seccomp"], said["nnp"]) == (2, int(nnp))
    assert said["syscall keyctl 99"] == {"errno": "EPERM"}
    assert said["caps"]["effective"] == said["caps"]["permitted"] == [5, 10, 29]


@pytest.mark.needs_root
@both_ways
@pytest.mark.parametrize("also", [[], ["setsid"]], ids=["by the first stage", "by the second stage"])
def test_the_agent_is_told_of_the_process(
    runtime: Runtime, tmp_path: Path, nnp: bool, also: list[str]
) -> None:
    """Container process state: the pid is that of the process, the state that of the container."""
    with agent(tmp_path / "agent", keyctl=99) as judge:
        bundle = runtime.bundle().seccomp(
            "SCMP_ACT_ALLOW", rule("NOTIFY", "keyctl", *also), listenerPath=str(judge.path)
        )
        bundle.process["noNewPrivileges"] = nnp
        container = started(runtime, bundle)
        wait_for(lambda: len(judge.messages) == 1, say="the listener of the container")
        said = container.asks("syscall keyctl 1001")
        assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}
        wait_for(lambda: len(judge.messages) == 2, say="the listener of what joins")
        state = json.loads(judge.messages[1]["text"])
    assert state["pid"] != container.pid
    assert (state["state"]["pid"], state["state"]["status"]) == (container.pid, "running")


def test_a_strict_profile(runtime: Runtime) -> None:
    """Without clone3 and prlimit64, and clone only with plain flags, as the engines' profiles have it."""
    allowed = [rule("ALLOW", "clone", args=[argument(0, "MASKED_EQ", 0x7E020000, 0)])]
    refused = [
        rule("ERRNO", "prlimit64", "setrlimit", "clone3", "setns", "unshare", "setsid", "ioctl", "openat2")
    ]
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", *allowed, *refused)
    bundle.process["noNewPrivileges"] = False
    container = runtime.container(bundle.sleeper())
    container.create().ok()
    container.start().ok()
    assert container.asks("pid")["pid"] > 1


def test_the_session_keyring_is_the_containers(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("keyring", KEYRING, "sleep")
    with runtime.running(bundle) as container:
        container.says("ready")
        said = container.testimony
        assert container.asks("keyring", KEYRING) == {name: said[name] for name in ("keyring", KEYRING)}


@pytest.mark.needs_root
@pytest.mark.parametrize("first", [0, 77])
def test_the_session_keyring_in_a_user_namespace(runtime: Runtime, first: int) -> None:
    """Whoever the process is, and whoever the container's is."""
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000).ask(KEYRING, "sleep")
    bundle.process["user"] = {"uid": first, "gid": first}
    with runtime.running(bundle) as container:
        container.says("ready")
        for user in ("0", "77", "78"):
            assert container.asks(KEYRING, flags=["--user", user])[KEYRING] == container.testimony[KEYRING]


@with_apparmor
@pytest.mark.needs_root
@pytest.mark.parametrize("given", [True, False], ids=["by the option", "as the container"])
@both_ways
def test_an_apparmor_profile(runtime: Runtime, profile: str, given: bool, nnp: bool) -> None:
    bundle = runtime.bundle()
    bundle.process["noNewPrivileges"] = nnp
    if not given:
        bundle.process["apparmorProfile"] = profile
    (bundle.rootfs / "area" / "secret").write_text("secret")
    container = started(runtime, bundle)
    flags = ["--apparmor", profile] if given else []
    said = container.asks(CURRENT, "read /area/secret", flags=flags)
    assert said[CURRENT] == f"{profile} (enforce)\n"
    assert said["read /area/secret"] == {"errno": "EACCES"}


@with_apparmor
@pytest.mark.needs_root
def test_the_containers_proc_cannot_take_the_label_away(runtime: Runtime, profile: str) -> None:
    """CVE-2019-16884: whatever the image has at /proc, the label is written to the host's."""
    bundle = runtime.bundle()
    bundle.without_mount("/proc")
    (bundle.rootfs / "proc" / "self" / "attr" / "apparmor").mkdir(parents=True)
    for name in ("exec", "apparmor/exec"):
        (bundle.rootfs / "proc" / "self" / "attr" / name).touch()
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(name)
    bundle.process["apparmorProfile"] = profile
    (bundle.rootfs / "area" / "secret").write_text("secret")
    container = started(runtime, bundle)
    assert container.asks("read /area/secret")["read /area/secret"] == {"errno": "EACCES"}


@with_selinux
@pytest.mark.parametrize("given", [True, False], ids=["by the option", "as the container"])
def test_the_selinux_label(runtime: Runtime, given: bool) -> None:
    bundle = runtime.bundle()
    if not given:
        bundle.process["selinuxLabel"] = a_label("PROCESS")
    container = started(runtime, bundle)
    flags = ["--process-label", a_label("PROCESS")] if given else []
    assert container.asks(CURRENT, flags=flags)[CURRENT].strip("\0\n") == a_label("PROCESS")
