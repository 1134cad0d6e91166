"""sd_notify(3) with systemd itself: a unit whose program is the runtime, and what systemctl(1) then tells of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="this host has no systemd")


class Unit:
    """A transient service of the system's manager."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, *words: str, access: str) -> None:
        """Start it with this command; returns when it is ready (Type=notify)."""
        options = [
            "--quiet",
            f"--unit={self.name}",
            "--service-type=notify",
            f"--property=NotifyAccess={access}",
        ]
        subprocess.run(["systemd-run", *options, "--", *words], check=True, timeout=120)

    def __getitem__(self, name: str) -> str:
        """A property."""
        command = ["systemctl", "show", f"--property={name}", "--value", self.name]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def stop(self) -> None:
        """Stop it."""
        subprocess.run(["systemctl", "stop", self.name], check=True, timeout=120)


@pytest.fixture
def unit(runtime: Runtime) -> Iterator[Unit]:
    unit = Unit(f"{runtime.tag}.service")
    yield unit
    for verb in ("stop", "reset-failed"):
        subprocess.run(["systemctl", verb, unit.name], check=False, capture_output=True, timeout=120)


def test_in_the_foreground(runtime: Runtime, unit: Unit) -> None:
    """The runtime is the main process all along, so that the strictest NotifyAccess hears everything."""
    bundle = runtime.bundle().ask(
        "notify READY=1|STATUS=up", "nap 1", "notify MAINPID=1|STATUS=still", "barrier 60", "sleep"
    )
    container = runtime.container(bundle)
    unit.start(
        *runtime.words("run", "--bundle", runtime.put(bundle, container.id), container.id), access="main"
    )
    assert unit["StatusText"] in ("up", "still") and unit["ActiveState"] == "active"
    wait_for(lambda: unit["StatusText"] == "still", 60, "the second status")
    main = int(unit["MainPID"])
    assert main not in (0, container.pid)
    with open(f"/proc/{main}/cmdline", "rb") as file:
        assert container.id.encode() in file.read()
    unit.stop()
    assert unit["Result"] == "success" and unit["ActiveState"] == "inactive"


def test_detached(runtime: Runtime, unit: Unit) -> None:
    """The runtime has gone, and the container's process is the unit's main process."""
    bundle = runtime.bundle().ask("notify STATUS=coming", "notify READY=1|STATUS=up", "sleep")
    container = runtime.container(bundle)
    words = runtime.words("run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id)
    unit.start(*words, access="all")
    assert int(unit["MainPID"]) == container.pid
    assert unit["StatusText"] == "up" and unit["ActiveState"] == "active"
    container.kill("KILL").ok()
    wait_for(lambda: unit["ActiveState"] != "active", 60, "the end of the unit")


def test_watchdog(runtime: Runtime, unit: Unit) -> None:
    """A container that says it is stuck is treated as the unit would be."""
    bundle = runtime.bundle().ask("notify READY=1", "nap 1", "notify WATCHDOG=trigger", "sleep")
    id = runtime.new_id()
    unit.start(*runtime.words("run", "--bundle", runtime.put(bundle, id), id), access="main")
    wait_for(lambda: unit["Result"] == "watchdog", 60, "the watchdog")
