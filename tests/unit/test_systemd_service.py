"""What is known of a container's unit while systemd makes it: enough to take it back, and not more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.layout import Hierarchy, Layout
from pyrunc.linux.cgroups.manager import restore
from pyrunc.linux.cgroups.systemd import manager as module
from pyrunc.linux.cgroups.systemd.manager import Manager, at
from pyrunc.linux.cgroups.systemd.systemd import Systemd

if TYPE_CHECKING:
    from pyrunc.linux.cgroups.systemd.properties import Properties


class Slow(Systemd):
    """A systemd that takes a job and does not tell of its end in time; `stopped`: the units to be stopped."""

    stopped: list[str]

    def control_group(self) -> str:
        return ""

    def version(self) -> int:
        return 257

    def start(self, unit: str, properties: Properties) -> str:
        return "/job/1"

    def started(self, unit: str, job: str) -> None:
        raise PyruncError("waited 30 s")

    def stop(self, unit: str) -> None:
        self.stopped.append(unit)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that are stopped."""
    Slow.stopped = []
    monkeypatch.setattr(module, "Systemd", Slow)
    return Slow.stopped


def managed(top: Path, path: str) -> Manager:
    hierarchy = Hierarchy(str(top), (), "/")
    found = at({"linux": {"cgroupsPath": path}}, "box", Layout((), hierarchy), False, -1)  # type: ignore[typeddict-item]
    assert isinstance(found, Manager)
    return found


def test_a_job_that_does_not_end_is_taken_back(slow: list[str], tmp_path: Path) -> None:
    """The unit may come to be after all, so it is to be stopped."""
    manager = managed(tmp_path, ":test:box")
    manager.create()
    manager.apply({})
    with pytest.raises(PyruncError, match="waited"):
        manager.admit(1)
    manager.remove()
    assert slow == ["test-box.scope"]


def test_of_a_killed_create_only_what_was_not_there_before_is_stopped(
    slow: list[str], tmp_path: Path
) -> None:
    """`create` saves what it is about to make; an empty slice of the host is not among that."""
    (tmp_path / "host.slice").mkdir()
    (tmp_path / "host.slice/cgroup.procs").touch()
    (tmp_path / "host.slice/cgroup.events").write_text("populated 0\nfrozen 0\n")
    for path in (":test:host.slice", ":test:box"):
        manager = managed(tmp_path, path)
        intent = manager.intent()
        manager.create()
        assert manager.record() == intent  # so nothing has to be saved anew
        again = restore(intent)
        again.kill()
        again.remove()
    assert slow == ["test-box.scope"]
    assert (tmp_path / "host.slice").is_dir()
