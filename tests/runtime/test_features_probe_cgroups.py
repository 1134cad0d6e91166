"""features --probe: what it says of cgroups and resctrl is true for the user who asks, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.lifecycle import probe_cgroups
from pyrunc.linux import intel_rdt
from pyrunc.linux.cgroups.layout import Hierarchy, layout
from tests.support import footprint
from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.needs_root

#: A user without a session, so without a systemd.
UID, GID = 54321, 54321


def asked(runtime: Runtime) -> dict[str, Any]:
    """What the probe says of `linux.cgroup`."""
    before = cgroups()
    done = runtime.verb("features", "--probe").ok()
    assert done.err == ""
    new = cgroups() - before  # perhaps of another test that runs now
    wait_for(lambda: not any(map(os.path.exists, new)), 10, "the end of the cgroups of a probe")
    found: dict[str, Any] = json.loads(done.out)["linux"]["cgroup"]
    return found


def cgroups() -> set[str]:
    """Those that a probe has made and not removed."""
    found = footprint.below("/sys/fs/cgroup")
    return {path for path in found if os.path.basename(path).startswith("pyrunc-probe-")}


def mounted() -> list[Hierarchy]:
    found = layout()
    return [*found.v1, *([found.v2] if found.v2 else [])]


def versions() -> list[str]:
    found = layout()
    return ["v1"] * bool(found.v1) + ["v2"] * bool(found.v2)


def test_root(runtime: Runtime) -> None:
    said = asked(runtime)
    assert all(said[version]["available"] for version in versions())


def test_root_where_cgroups_are_read_only(runtime: Runtime) -> None:
    """As in a container: the one hierarchy that refuses is named."""
    last = mounted()[-1] if layout().pure_v2 else layout().v1[-1]
    runtime.prefix = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -o remount,bind,ro {last.mount} && exec "$@"',
        "sh",
    ]
    answer = asked(runtime)["v2" if layout().pure_v2 else "v1"]
    assert not answer["available"]
    assert answer["reason"].startswith(f"make cgroup {last.mount}")
    assert "read-only file system" in answer["reason"]


def test_an_ordinary_user(runtime: Runtime) -> None:
    said = asked(runtime.as_user(UID, GID))
    for version in versions():
        assert not said[version]["available"]
        assert "make cgroup /sys/fs/cgroup/" in said[version]["reason"]
        assert "permission denied" in said[version]["reason"]
    assert said["systemd"]["reason"] == "only the host's root may have its systemd make units"
    assert not said["systemdUser"]["available"]


@pytest.fixture
def session(runtime: Runtime) -> Iterator[list[Path]]:
    """The cgroups of an ordinary user's session, in each hierarchy, the cgroup around them his, too."""
    made: list[Path] = []
    for hierarchy in mounted():
        # Beside the test's own, for below it there may be no cgroup with processes (v2).
        top = Path(hierarchy.mount + hierarchy.own).parent if layout().pure_v2 else Path(hierarchy.mount)
        for path in (top / f"{runtime.tag}-user", top / f"{runtime.tag}-user" / "session"):
            path.mkdir()
            made.append(path)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if "cpuset" in hierarchy.controllers and not layout().pure_v2:
                    (path / name).write_text((path.parent / name).read_text())
            for name in ("", "cgroup.procs", "cgroup.subtree_control"):
                if (path / name).exists():
                    os.chown(path / name, UID, GID)
    yield [path for path in made if path.name == "session"]
    for path in reversed(made):
        path.rmdir()


def test_an_ordinary_user_to_whom_cgroups_are_delegated(runtime: Runtime, session: list[Path]) -> None:
    enter = "; ".join(f"echo $$ > {path}/cgroup.procs" for path in session)
    user = runtime.as_user(UID, GID, "sh", "-ec", f'{enter}; exec "$@"', "sh")
    said = asked(user)
    assert all(said[version]["available"] for version in versions()), said
    if layout().pure_v2:
        # To be moved into a cgroup beside one's own takes the right to write to this file of what is above both.
        os.chown(session[0].parent / "cgroup.procs", 0, 0)
        assert f"write to {session[0].parent}/cgroup.procs" in asked(user)["v2"]["reason"]


def test_resctrl_asks_who_may_write(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """On a folder of the same names: it is the kernel's word on the right to write that counts."""
    (folder / "mon_groups").mkdir()
    monkeypatch.setattr(intel_rdt, "mount_point", lambda: str(folder))
    names = ("enabled", "schemata", "monitoring")
    assert [probe_cgroups.resctrl(name) for name in names] == ["", "", ""]
    os.seteuid(UID)
    try:
        said = [probe_cgroups.resctrl(name) for name in names]
    finally:
        os.seteuid(0)
    assert [reason.partition(" (")[0] for reason in said] == [
        f"write to {folder}: permission denied",
        f"write to {folder}: permission denied",
        f"write to {folder}/mon_groups: permission denied",
    ]
