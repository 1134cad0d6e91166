"""What is refused before anything is mounted, what the facts say, and how a refusal of the kernel is explained."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENODEV, ENOENT, EPERM
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.mounts import facts
from pyrunc.linux.mounts.explain import explain, kernel_sentence
from pyrunc.linux.mounts.filesystem import (
    CONTEXT,
    LAYERS,
    NOT_AT_ALL,
    PAGE,
    layered,
    settings_of,
    way_of,
)
from pyrunc.linux.mounts.options import parse
from pyrunc.linux.mounts.rules import check
from pyrunc.plan.host import Host
from pyrunc.validate.report import Report

MAP = [{"containerID": 0, "hostID": 1000, "size": 1}]


def config_of(*mounts: dict[str, Any], kinds: tuple[str, ...] = ("mount",), **linux: Any) -> Any:
    return {"mounts": list(mounts), "linux": {"namespaces": [{"type": kind} for kind in kinds], **linux}}


def problems(config: Any, **sources: int) -> list[str]:
    host = Host(0, 0, False, {f"/{name}": mode for name, mode in sources.items()})
    report = Report()
    check(config, host, report)
    return [str(problem) for problem in [*report.problems, *report.warnings]]


def bind(destination: str = "/d", **more: Any) -> dict[str, Any]:
    return {"destination": destination, "source": "/src", "options": ["bind"], **more}


@pytest.mark.parametrize(
    ("mount", "path", "words"),
    [
        (bind(), "mounts[0].source", "bind source path: stat /src: no such file or directory"),
        (bind(source=""), "mounts[0].source", "is missing"),
        (
            bind(options=["bind", "size=1", "bogus"]),
            "mounts[0].options",
            "filesystem-specific options: size=1, bogus",
        ),
        (bind(options=["bind", "idmap"]), "mounts[0].options", "needs a user namespace"),
        (bind(uidMappings=MAP), "mounts[0].gidMappings", "required together with uidMappings"),
        (bind(gidMappings=MAP), "mounts[0].uidMappings", "required together with gidMappings"),
        (bind(uidMappings=MAP * 2, gidMappings=MAP), "mounts[0].uidMappings[1].containerID", "mapped twice"),
        (bind(options=["remount", "bind", "idmap"]), "mounts[0].options", "only for a new mount"),
        (
            {"destination": "/c", "type": "cgroup", "uidMappings": MAP, "gidMappings": MAP},
            "mounts[0].options",
            "cgroup cannot be id-mapped",
        ),
        (
            bind(options=["bind", "idmap=uids=0-1-2"]),
            "mounts[0].options",
            "only for user ids or only for group ids",
        ),
        (
            bind(options=["bind", "idmap=uids=0-1;gids=0-1-2"]),
            "mounts[0].options",
            '"0-1" is not INSIDE-HOST-COUNT',
        ),
        (bind(options=["bind", "idmap=x"]), "mounts[0].options", '"x" is not understood'),
        (
            bind(options=["bind", "idmap=uids=@0-1-2;gids=0-1-2"]),
            "mounts[0].options",
            '"@0-1-2" is not within one mapping',
        ),
        (
            bind(options=["bind", "ridmap=uids=0-1-2#1-9-9;gids=0-1-2"]),
            "mounts[0].options[1].containerID",
            "1 is mapped twice",
        ),
        (
            {"destination": "/t", "type": "ramfs", "options": ["tmpcopyup"]},
            "mounts[0].options",
            "only for a new tmpfs",
        ),
        ({"destination": "/t"}, "mounts[0].type", "is missing"),
        ({"destination": "/t", "type": "none"}, "mounts[0].type", "is not a file system"),
        ({"destination": "", "type": "tmpfs"}, "mounts[0].destination", "is empty"),
        (
            {"destination": "t", "type": "tmpfs"},
            "mounts[0].destination",
            '"t" is relative, which is deprecated',
        ),
        ({"destination": "/t\0", "type": "tmpfs"}, "mounts[0]", "contains a NUL byte"),
        ({"destination": "/t", "type": "tmpfs", "options": ["a\0"]}, "mounts[0]", "contains a NUL byte"),
        ({"destination": "/proc", "type": "tmpfs"}, "mounts[0].destination", "not of type proc"),
        ({"destination": "/./proc//", "type": "tmpfs"}, "mounts[0].destination", "not of type proc"),
        ({"destination": "/proc/sys/x", "type": "tmpfs"}, "mounts[0].destination", "inside /proc"),
        ({"destination": "/x/../proc/net/dev", "type": "tmpfs"}, "mounts[0].destination", "inside /proc"),
        (
            {"destination": "/t", "type": "tmpfs", "options": ["x=" + "y" * 4094]},
            "mounts[0].options",
            "page of 4095 bytes",
        ),
        ({"destination": "/t", "type": "tmpfs", "source": "é" * 2048}, "mounts[0]", "page of 4095 bytes"),
        (
            {"destination": "/t", "type": "tmpfs", "options": ["remount", "x=" + "y" * 256]},
            "mounts[0].options",
            "longer than 255 bytes",
        ),
        (
            {"destination": "/t", "type": "overlay", "options": ["lowerdir=" + "y" * 256 + ":/x" * 2000]},
            "mounts[0].options",
            "page of 4095 bytes",
        ),
    ],
)
def test_refused(mount: dict[str, Any], path: str, words: str) -> None:
    found = problems(config_of(mount), src=-ENOENT)
    assert any(problem.startswith(path + ": ") and words in problem for problem in found), found


def test_accepted() -> None:
    mounts = [
        bind(),
        bind("/proc/cpuinfo"),
        bind("/proc/sys/kernel/ns_last_pid"),
        bind("/proc"),
        bind("/procfs/x"),
        bind(uidMappings=[], gidMappings=[]),
        {"destination": "/b", "type": "bind", "source": "/src"},
        {"destination": "/b", "options": ["bind", "remount", "ro"]},
        {"destination": "/t", "type": "tmpfs", "options": ["x=" + "y" * 255]},
        {"destination": "/t", "type": "tmpfs", "options": ["x=" + "y" * 4093]},
        {"destination": "/t", "type": "overlay", "options": ["lowerdir=" + ":/x" * 2000]},
        {"destination": "/t", "type": "tmpfs"},
        {"destination": "/", "type": "tmpfs"},
    ]
    assert problems(config_of(*mounts), src=0o100644) == []


def test_every_problem_at_once() -> None:
    mounts = [bind(), {"destination": "/proc/x", "type": "tmpfs"}, {"destination": "/t"}]
    found = problems(config_of(*mounts, kinds=("pid",)), src=-ENOENT)
    assert [problem.split(":")[0] for problem in found] == [
        "mounts",
        "mounts[0].source",
        "mounts[1].destination",
        "mounts[2].type",
    ]


def test_a_source_that_the_hosts_root_cannot_stat_may_be_a_fuse_mount_of_a_user() -> None:
    assert problems(config_of(bind()), src=-EACCES) == []


def test_unmapped_owners() -> None:
    mapping = [{"containerID": 0, "hostID": 5, "size": 5}]
    mount = {"destination": "/p", "type": "devpts", "options": ["gid=5", "uid=4"]}
    user = config_of(mount, kinds=("mount", "user"), uidMappings=mapping, gidMappings=mapping)
    found = problems(user)
    assert len(found) == 1 and "cannot specify gid=5 mount option for unmapped gid" in found[0]
    assert problems(config_of(mount)) == []


def test_long_overlay_layers_are_set_one_by_one_where_a_page_does_not_hold_them() -> None:
    def way(*words: str) -> int:
        options = parse(words)
        return way_of("overlay", "overlay", settings_of("overlay", options), options)

    layers = [f"/layers/{index}/{'x' * 50}" for index in range(99)]
    options = parse(["lowerdir=" + ":".join(layers), "upperdir=/u", "index=off"])
    assert layered(settings_of("overlay", options)) == [
        *(("lowerdir+", layer) for layer in layers),
        ("upperdir", "/u"),
        ("index", "off"),
    ]
    assert way("lowerdir=/a:/b") == CONTEXT
    assert way("lowerdir=" + ":".join(layers[:9])) == PAGE
    assert way("lowerdir=" + ":".join(layers)) == LAYERS
    assert way("lowerdir=" + "/a\\:b" * 100) == PAGE
    assert way("lowerdir=" + "/a\\:b" * 1000) == NOT_AT_ALL
    assert way("iversion") == way("loud", "silent") == PAGE
    assert way("iversion", "noiversion") == way("silent", "loud") == CONTEXT


def test_read_only_superblocks_only_where_they_are_the_mounts_own() -> None:
    assert settings_of("ext4", parse(["ro"])) == [("ro", None)]
    for kind in ("proc", "sysfs", "tmpfs", "mqueue", "pstore", "tracefs", "configfs"):
        assert settings_of(kind, parse(["ro"])) == []
    assert settings_of("ext4", parse(["rw", "async"]), remount=True) == [("rw", None), ("async", None)]


def test_facts(tmp_path: Path) -> None:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "rootfs/var").mkdir()
    (tmp_path / "rootfs/run").mkdir()
    (tmp_path / "rootfs/var/run").symlink_to("../run")
    (tmp_path / "rootfs/etc/resolv.conf").symlink_to("../../../run/resolve/stub")
    (tmp_path / "rootfs/loop").symlink_to("loop")
    (tmp_path / "file").touch()
    config = {
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/etc/resolv.conf", "source": "file", "options": ["bind"]},
            {"destination": "/var/run/x", "source": "missing", "options": ["rbind"]},
            {"destination": "/loop", "type": "tmpfs"},
            {"destination": "/etc/plain", "type": "tmpfs"},
            {"destination": "/var", "type": "tmpfs"},
            {"destination": "/var/run/y", "type": "tmpfs"},
        ],
        "linux": {},
    }
    host = Host(0, 0, False, {})
    facts.gather(host, config, str(tmp_path))  # type: ignore[arg-type]
    assert host.root == f"{tmp_path}/rootfs" and os.path.isdir(host.root_real)
    assert host.sources == {
        f"{tmp_path}/file": os.stat(tmp_path / "file").st_mode,
        f"{tmp_path}/missing": -ENOENT,
    }
    assert host.links == {"/etc/resolv.conf": "/run/resolve/stub", "/var/run/x": "/run/x", "/loop": "/loop"}


def test_links_into_proc_are_judged_by_where_they_lead() -> None:
    host = Host(0, 0, False, {})
    host.links = {"/link/x": "/proc/sys/x", "/sys": "/tmp"}
    report = Report()
    mounts = [{"destination": "/link/x", "type": "tmpfs"}, {"destination": "/sys", "type": "sysfs"}]
    check(config_of(*mounts), host, report)
    texts = [str(problem) for problem in report.problems]
    assert "inside /proc" in texts[0] and "must be mounted on ordinary directory" in texts[1]


def test_explanations() -> None:
    mounts = [{"destination": "/proc", "type": "proc"}, bind(), {"destination": "/x", "type": "odd"}]
    config = config_of(*mounts, kinds=("mount", "user"))
    assert "PID namespace" in explain("mounts[0]", config, EPERM)
    assert "may not take away" in explain("mounts[1]", config, EPERM)
    assert "both be directories" in explain("mounts[1].source", config, EINVAL)
    assert "/proc/filesystems" in explain("mounts[2]", config, ENODEV)
    assert "CAP_SYS_ADMIN" in explain("mounts[2]", config_of(*mounts), EPERM)
    assert explain("mounts[9]", config, EPERM) == explain("process.args", config, EPERM) == ""
    assert kernel_sentence("e tmpfs: Bad value for 'size'\n") == "tmpfs: Bad value for 'size'"
