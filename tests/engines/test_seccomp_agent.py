"""A seccomp profile with an agent, as podman hands it on (--security-opt seccomp=FILE; docker drops listenerPath)."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from tests.engines.podman import Podman
from tests.support.seccomp_agent import agent


def test_notifications(podman: Podman, folder: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(folder / "agent"),
        "listenerMetadata": "a word",
        "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_NOTIFY"}],
    }
    (folder / "profile.json").write_text(json.dumps(profile))
    with agent(folder / "agent", keyctl=errno.EADDRNOTAVAIL) as judge:
        answers = podman.ask(
            ["--security-opt", f"seccomp={folder}/profile.json"], "syscall keyctl 1001", "pid"
        )
        assert answers["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"} and answers["pid"] == 1
        assert (judge.state["metadata"], judge.state["fds"]) == ("a word", ["seccompFd"])
