"""The terminal from the container's own devpts, made for real."""

from __future__ import annotations

import os
import stat
from errno import ELOOP, ENOENT, ENXIO
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_mounts import USER, own
from tests.support.interpreter import DEV, PROC, PTS, config_of, host_of, problems, run


def terminal_config(*mounts: dict[str, Any], **linux: Any) -> Any:
    config = config_of(*mounts, **linux)
    config["process"]["terminal"] = True
    config["process"]["consoleSize"] = {"height": 25, "width": 132}
    return config


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("words", [[], ["ro"]])
def test_a_terminal(bundle: Path, user: bool, words: list[str]) -> None:
    if user:
        own(bundle)
    dev = {**DEV, "options": [*DEV["options"], *words]}
    script = (
        "/bin/busybox tty; /bin/busybox stty size; echo hello > /dev/console; echo tty > /dev/tty; "
        "/bin/busybox stat -c %t /dev/console"
    )
    outcome = run(terminal_config(PROC, dev, PTS, **(USER if user else {})), bundle, script)
    assert outcome.failure == ""
    assert outcome.console.decode().split("\r\n") == ["/dev/pts/0", "25 132", "hello", "tty", "88", ""]


def test_without_devpts(bundle: Path) -> None:
    outcome = run(terminal_config(PROC, DEV), bundle)
    assert (outcome.failure, outcome.number) == ("open /dev/pts/ptmx", ENOENT)


@pytest.mark.parametrize("kind", ["host", "file", "link"])
def test_a_ptmx_that_is_not_of_a_devpts_of_its_own(bundle: Path, kind: str) -> None:
    pts = bundle / "rootfs/dev/pts"
    pts.mkdir()
    if kind == "host":
        os.mknod(pts / "ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    elif kind == "file":
        (pts / "ptmx").touch()
    else:
        (pts / "ptmx").symlink_to("/proc/self/fd/0")
    outcome = run(terminal_config(PROC), bundle)
    if kind == "link":
        assert outcome.number == ELOOP
    else:
        assert outcome.failure and outcome.number in (ENXIO, ENOENT)
        assert kind == "host" or "is not the ptmx of a devpts" in outcome.failure


def test_a_ptmx_beside_a_devpts(bundle: Path) -> None:
    """Such a node opens the devpts beside it (Linux, Documentation/filesystems/devpts), which is not to be trusted."""
    tmp = {"destination": "/dev/pts", "type": "tmpfs", "source": "tmpfs"}
    pts = {**PTS, "destination": "/dev/pts/pts"}
    device = {"type": "c", "path": "/dev/pts/ptmx", "major": 5, "minor": 2}
    outcome = run(terminal_config(PROC, DEV, tmp, pts, devices=[device]), bundle)
    assert outcome.number == ENXIO
    assert "is not the ptmx of a devpts" in outcome.failure


def test_a_console_that_is_a_link(bundle: Path) -> None:
    (bundle / "mydev/pts").mkdir(parents=True)
    (bundle / "mydev/console").symlink_to("/etc/passwd")
    dev = {"destination": "/dev", "source": "mydev", "options": ["bind"]}
    outcome = run(terminal_config(PROC, dev, PTS), bundle)
    assert (outcome.failure, outcome.number) == ("bind-mount the terminal on /dev/console", ELOOP)


def test_rules(bundle: Path) -> None:
    config = terminal_config(namespaces=("pid",))
    config["process"]["consoleSize"]["width"] = 70000
    found = problems(config, host_of(config, bundle))
    assert found[0] == "process.consoleSize.width: 70000 is not from 0 to 65535"
    assert found[1].startswith("process.terminal: needs a mount namespace")
