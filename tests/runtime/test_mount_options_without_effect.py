"""Options that a mount cannot have: told, where peers drop them without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import layout
from tests.support.mountinfo import table
from tests.support.runtime import Runtime

OF_FILE_SYSTEMS = ("sync", "dirsync", "lazytime", "mand", "silent", "iversion")
SHOW = "cat /proc/self/mountinfo"


def told(err: str) -> list[str]:
    """The warnings."""
    return [line for line in err.splitlines() if "level=warning" in line]


@pytest.mark.parametrize("more", [(), ("remount",)], ids=["new", "remount"])
def test_options_of_file_systems_on_a_bind_mount(
    runtime: Runtime, folder: Path, more: tuple[str, ...]
) -> None:
    bundle = (
        runtime.bundle().bind(folder, "/area", "bind").bind(folder, "/area", "bind", *more, *OF_FILE_SYSTEMS)
    )
    done = runtime.run(bundle.shell(SHOW)).ok()
    (warning,) = told(done.err)
    place = len(bundle.config["mounts"]) - 1
    assert f"mounts[{place}].options: {', '.join(OF_FILE_SYSTEMS)} on /area: without effect" in warning
    assert "they belong to the file system and not to a bind mount of it" in warning
    assert "sync" not in table(done.out)["/area"].options


def test_the_opposites_on_a_bind_mount(runtime: Runtime, folder: Path) -> None:
    """They ask for what is there."""
    words = ("async", "nolazytime", "nomand", "loud", "noiversion", "defaults", "nosuid")
    assert not told(runtime.run(runtime.bundle().bind(folder, "/area", "bind", *words)).ok().err)


@pytest.mark.parametrize("word", ["silent", "iversion"])
def test_flags_of_a_new_file_system_at_a_remount(runtime: Runtime, word: str) -> None:
    bundle = (
        runtime.bundle().mount("/area", "tmpfs", "tmpfs").mount("/area", "tmpfs", "tmpfs", "remount", word)
    )
    (warning,) = told(runtime.run(bundle).ok().err)
    assert f"{word} on /area: without effect, for only a new file system takes them" in warning


@pytest.mark.needs_root
@pytest.mark.skipif(not layout().v1, reason="this host has no cgroup v1")
def test_data_of_a_cgroup_v1_mount(runtime: Runtime) -> None:
    words = ("nosuchoption=7", "sync", "ro", "nosuid")
    bundle = runtime.bundle().mount("/area", "cgroup", "cgroup", *words)
    done = runtime.run(bundle.shell(SHOW)).ok()
    (warning,) = told(done.err)
    assert (
        "options: sync, nosuchoption=7 on /area: without effect, for the hierarchies of cgroup v1" in warning
    )
    assert {"ro", "nosuid"} <= table(done.out)["/area"].options


@pytest.mark.needs_root
@pytest.mark.skipif(layout().v2 is None, reason="this host mounts no cgroup2")
def test_flags_of_mount_2_on_cgroup_v2(runtime: Runtime) -> None:
    bundle = runtime.bundle().namespace("cgroup").mount("/area", "cgroup2", "cgroup", "iversion", "ro")
    (warning,) = told(runtime.run(bundle).ok().err)
    assert "options: iversion on /area: without effect, for only mount(2) takes them" in warning


@pytest.mark.needs_root
def test_a_cgroup_mount_as_engines_have_it(runtime: Runtime) -> None:
    words = ("rprivate", "nosuid", "noexec", "nodev", "relatime", "ro")
    bundle = runtime.bundle().namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", *words)
    assert not told(runtime.run(bundle).ok().err)
