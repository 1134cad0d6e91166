"""What `mounts add` and `mounts remove` refuse: bad input, places that stay as they are, hosts that cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_old_mounts import FILTER
from tests.support.mounts_verb import add, bind, entry, points, recorded, remove, table, tmpfs
from tests.support.runtime import Container, Runtime

UID = GID = 1000
BAD: dict[str, tuple[Any, tuple[str, ...]]] = {
    "an object": ({}, ("not a JSON array",)),
    "a number": ([1], ("mounts[0]", "must be an object")),
    "no destination": ([{"type": "tmpfs"}], ("mounts[0]", "destination")),
    "empty destination": ([tmpfs("")], ("destination", "at least one character")),
    "NUL": ([tmpfs("/a\0b")], ("NUL",)),
    "the root": ([tmpfs("/")], ("the root",)),
    "the root by another name": ([tmpfs("/bin/..")], ("the root",)),
    "/proc": ([entry("/proc", "proc", "proc")], ("/proc", "stays as it is")),
    "in /proc": ([tmpfs("/proc/sys")], ("inside /proc",)),
    "over a mask": ([entry("/sys", "sysfs", "sysfs")], ("/sys/firmware", "masked")),
    "a mask itself": ([tmpfs("/sys/firmware")], ("masked",)),
    "no source": ([bind("/missing", "/a")], ("/missing", "no such file or directory")),
    "no type": ([{"destination": "/a"}], ("type", "is missing")),
    "no such type": ([entry("/a", "nosuchfs", "")], ("nosuchfs", "no such device")),
    "unknown option": ([bind("/bin", "/a", "nonsense")], ("filesystem-specific", "nonsense")),
    "remount": ([entry("/dev", "tmpfs", "", "remount", "ro")], ("remount",)),
    "cgroup": ([entry("/a", "cgroup", "cgroup")], ("cgroup", "config.json")),
    "cgroup2": ([entry("/a", "cgroup2", "cgroup")], ("cgroup2", "config.json")),
    "mount(2)": ([tmpfs("/a", "silent")], ("mount(2)",)),
    "a later one": ([tmpfs("/a"), entry("/b", "nosuchfs", "")], ("mount nosuchfs on /b",)),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(sleeper: Container, what: str) -> None:
    entries, words = BAD[what]
    before = table(sleeper)
    file = sleeper.bundle.path / "bad.json"
    file.write_text(json.dumps(entries))
    host = sleeper.runtime.footprint(sleeper.bundle)
    sleeper.runtime.verb("mounts", "add", sleeper.id, str(file)).fails(*words)
    assert table(sleeper) == before and recorded(sleeper) == []
    host.assert_unchanged()


def test_bad_words(sleeper: Container) -> None:
    verb = sleeper.runtime.verb
    assert "not understood" in verb("mounts", "list", sleeper.id, "x").err
    assert "requires" in verb("mounts", "add", sleeper.id).err
    verb("mounts", "add", sleeper.id, "/missing/file").fails("/missing/file", "no such file")
    file = sleeper.bundle.path / "bad.json"
    file.write_text("[{]")
    verb("mounts", "add", sleeper.id, str(file)).fails("bad.json", "line 1")


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/sys", "/proc/kcore", "/sys/firmware", "/sys", "/home"])
def test_what_must_not_be_unmounted(sleeper: Container, path: str) -> None:
    before = table(sleeper)
    assert remove(sleeper, tmpfs(path)).status == 1
    assert table(sleeper) == before


def test_without_a_mount_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().without_namespace("mount").sleeper()
    bundle.config["mounts"] = []
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    with runtime.running(bundle) as container:
        container.says("ready")
        add(container, tmpfs("/a")).fails("mount namespace")
        remove(container, tmpfs("/tmp")).fails("mount namespace")


@pytest.mark.needs_root
def test_a_source_that_root_may_not_look_at(sleeper: Container, volume: Path) -> None:
    os.chown(volume, UID, GID)
    volume.chmod(0o700)
    sleeper.runtime.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    outcome = add(sleeper, bind(volume / "file", "/a"))
    sleeper.runtime.prefix = []
    outcome.fails(f"open {volume}/file", "permission denied")


@pytest.mark.needs_root
def test_without_the_newer_calls(sleeper: Container, volume: Path) -> None:
    old = sleeper.runtime.like()
    old.prefix = [*FILTER, "ENOSYS"]
    file = volume / "mounts.json"
    file.write_text(json.dumps([tmpfs("/dev/shm")]))
    old.verb("mounts", "add", sleeper.id, str(file)).fails("move_mount(2)", "5.12")
    old.verb("mounts", "remove", sleeper.id, str(file)).ok()
    assert "/dev/shm" not in points(sleeper)
