"""A container as a service of systemd: the quadlet of docs/engines.md, in a unit's own cgroup (`--cgroups=split`)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import docs
from tests.engines.engine import IMAGE
from tests.engines.podman import Podman
from tests.support.runtime import SESSION, wait_for

pytestmark = [
    pytest.mark.needs_cgroups,
    pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="this host has no systemd"),
]


def systemctl(*words: str) -> str:
    user = ["--user"] if SESSION else []
    done = subprocess.run(["systemctl", *user, *words], capture_output=True, text=True)
    assert done.returncode == 0, f"systemctl {words}: {done.stderr}"
    return done.stdout.strip()


class Unit:
    """The service that podman's generator has made of a quadlet."""

    def __init__(self, name: str) -> None:
        self.name = f"{name}.service"
        self.container = f"systemd-{name}"

    def fact(self, property: str) -> str:
        return systemctl("show", "--property", property, "--value", self.name)


@contextlib.contextmanager
def quadlet(podman: Podman, name: str, *more: str, **words: str) -> Iterator[Unit]:
    """The page's quadlet, with `words` replaced and with what keeps podman to the tests' own folders."""
    text = docs.block("hello.container", podman.runtime).replace("IMAGE", IMAGE)
    for before, after in words.items():
        text = "\n".join(
            f"{before}={after}" if line.startswith(before) else line for line in text.splitlines()
        )
    options = podman.command()
    options = options[1 : options.index("--runtime")]
    own = [f"GlobalArgs={' '.join(options)}", "Network=none", f"PodmanArgs={' '.join(podman.limits)}"]
    names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
    service = ["[Service]", *(f"Environment={name}={podman.env[name]}" for name in names)]
    folder = Path(SESSION.get("XDG_RUNTIME_DIR", "/run")) / "containers" / "systemd"
    folder.mkdir(parents=True, exist_ok=True)
    unit = Unit(f"{podman.tag}-{name}")
    path = folder / f"{podman.tag}-{name}.container"
    path.write_text("\n".join([text.rstrip(), *own, *more, *service, ""]))
    try:
        systemctl("daemon-reload")
        systemctl("start", unit.name)
        yield unit
    finally:
        path.unlink()
        for word in ("stop", "reset-failed"):  # where the unit is no longer there, both fail
            with contextlib.suppress(AssertionError):
                systemctl(word, unit.name)
        systemctl("daemon-reload")


def test_quadlet(podman: Podman) -> None:
    with quadlet(podman, "hello") as unit:
        assert unit.fact("ActiveState") == "active"
        pid, conmon, runtime = podman.inspect(
            unit.container, "{{.State.Pid}} {{.State.ConmonPid}} {{.OCIRuntime}}"
        ).split()
        assert (unit.fact("MainPID"), runtime) == (conmon, "pyrunc")
        own = unit.fact("ControlGroup")
        cgroup = Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition("::")[2]
        assert cgroup.startswith(f"{own}/") and "payload" in cgroup
        wait_for(lambda: "hello from a unit" in podman.call("logs", unit.container).out, 10, "its words")
        systemctl("stop", unit.name)
        assert unit.fact("Result") == "success"
        assert podman.call("inspect", unit.container).status != 0


def test_container_says_when_it_is_ready(podman: Podman) -> None:
    """`Notify=true`: the unit is started when the container has said so, through the socket at its side."""
    with quadlet(podman, "ready", "Notify=true", Exec="testify notify READY=1 -- sleep") as unit:
        assert unit.fact("ActiveState") == "active"
        assert podman.inspect(unit.container, "{{.State.Running}}") == "true"


def test_unit_fails_with_its_container(podman: Podman) -> None:
    with quadlet(podman, "fails", Exec='sh -c "sleep 1; exit 7"') as unit:
        wait_for(lambda: unit.fact("ActiveState") == "failed", 20, "the end of the unit")
        assert (unit.fact("Result"), unit.fact("ExecMainStatus")) == ("exit-code", "7")
