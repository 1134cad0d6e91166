"""features --probe: the features document with an answer in each place, and the answers are true here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from pyrunc.lifecycle.probe import attempt
from pyrunc.linux.lsm import enabled
from tests.support.runtime import Runtime

ANSWER = {"supported", "available", "reason"}


def probed(runtime: Runtime, *before: str) -> Any:
    """What the probe says, started by the words `before`."""
    done = subprocess.run([*before, *runtime.words("features", "--probe")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def answers(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict) and "supported" in node:
        yield path, node
    elif isinstance(node, dict):
        for name, part in node.items():
            yield from answers(part, f"{path}.{name}" if path else name)


def test_every_entry_of_the_document_has_an_answer(runtime: Runtime) -> None:
    static = json.loads(runtime.verb("features").ok().out)
    said = dict(answers(probed(runtime)))
    wanted = {f"hooks.{name}" for name in static["hooks"]}
    wanted |= {f"mountOptions.{word}" for word in static["mountOptions"]}
    linux = static["linux"]
    for key in ("namespaces", "capabilities"):
        wanted |= {f"linux.{key}.{name}" for name in linux[key]}
    for key in ("cgroup", "apparmor", "selinux", "intelRdt", "netDevices"):
        wanted |= {f"linux.{key}.{name}" for name in linux[key]}
    filters = linux["seccomp"]
    for key, of in (
        ("actions", "actions"),
        ("operators", "operators"),
        ("archs", "archs"),
        ("flags", "knownFlags"),
    ):
        wanted |= {f"linux.seccomp.{key}.{name}" for name in filters[of]}
    for key in ("modes", "flags"):
        wanted |= {f"linux.memoryPolicy.{key}.{name}" for name in linux["memoryPolicy"][key]}
    assert set(said) == wanted | {"linux.seccomp.enabled", "linux.mountExtensions.idmap.enabled"}
    for path, answer in said.items():
        assert set(answer) <= ANSWER, path
        assert ("reason" in answer) == (not answer["available"]), path
        assert answer.get("reason") != "", path


def test_what_this_host_has(runtime: Runtime) -> None:
    said = probed(runtime)["linux"]
    assert all(answer["available"] for answer in said["namespaces"].values())
    pure = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    assert said["cgroup"]["v2" if pure else "v1"]["available"]
    assert said["cgroup"]["systemd"]["available"] == os.path.isdir("/run/systemd/system")
    assert said["seccomp"]["actions"]["SCMP_ACT_NOTIFY"]["available"]
    assert said["apparmor"]["enabled"]["available"] == ("apparmor" in enabled())
    assert said["mountExtensions"]["idmap"]["enabled"]["available"]


def test_a_limit_of_the_kernel_is_found_by_trying(runtime: Runtime) -> None:
    script = 'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"'
    said = probed(runtime, "unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")["linux"]
    assert said["namespaces"]["network"] == {
        "supported": True,
        "available": False,
        "reason": "unshare: no space left on device",
    }
    assert said["namespaces"]["uts"]["available"]


def test_a_capability_that_the_caller_does_not_have(runtime: Runtime) -> None:
    said = probed(runtime, "capsh", "--drop=cap_sys_boot", "--", "-c", 'exec "$@"', "bash")["linux"]
    assert not said["capabilities"]["CAP_SYS_BOOT"]["available"]
    assert said["capabilities"]["CAP_CHOWN"]["available"]


def test_an_ordinary_user_is_told_what_takes_root(runtime: Runtime) -> None:
    said = probed(runtime, "setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
    assert said["linux"]["namespaces"]["mount"]["available"]
    assert said["mountOptions"]["rro"]["available"]
    for answer in (said["linux"]["netDevices"]["enabled"], said["mountOptions"]["ridmap"]):
        assert "only the host's root" in answer["reason"]


def test_an_attempt_that_ends_otherwise_is_no_success() -> None:
    """Such as by a filter that kills, which somebody has put around pyrunc."""
    assert attempt(lambda: None) == ""
    assert attempt(lambda: os.kill(os.getpid(), signal.SIGSYS)) == "attempt: killed by signal 31"
    assert attempt(lambda: int("nothing")) == "attempt: failed"


@pytest.mark.parametrize("words", [["features", "--probe", "more"], ["features", "--probe=2"]])
def test_other_words_are_refused(runtime: Runtime, words: list[str]) -> None:
    done = runtime.verb(*words)
    assert done.status != 0
    assert "features" in done.err or "invalid" in done.err
