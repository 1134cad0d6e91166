"""Hierarchies of cgroup v1 by their names: where each is, and where a container sees it."""

from __future__ import annotations

import os
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import layout, tree
from pyrunc.linux.cgroups.layout import Hierarchy, Layout, shown_as
from pyrunc.linux.cgroups.manager import choose


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (
            "7:name=x:/\n6:name=systemd:/\n5:cpu,cpuacct:/a\n",
            ["/cg/systemd", "/cg/cpu", "/cg/x"],  # what anybody may unmount comes last
        ),
        ("7:name=memory:/\n5:memory:/\n", ["/cg/memory", "/cg/name=memory"]),
        ("7:name=unified:/\n5:memory:/\n0::/\n", ["/cg/memory", "/cg/name=unified"]),
        ("7:name=x:/\n0::/\n", []),  # limits are those of cgroup v2
    ],
)
def test_places_of_named_hierarchies(own: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_read", lambda path: own if path == "/proc/self/cgroup" else "")
    monkeypatch.setattr(layout, "_is_root", lambda _: True)
    monkeypatch.setattr(layout, "_is_read_only", lambda _: False)
    assert [hierarchy.mount for hierarchy in layout.layout("/cg").v1] == found


@pytest.mark.parametrize(
    ("name", "rootless", "fails"), [("x", True, False), ("systemd", True, True), ("x", False, True)]
)
def test_a_named_hierarchy_of_somebody_else(
    name: str, rootless: bool, fails: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no limit: an ordinary user to whom nobody has delegated it stays outside."""

    def make(path: str, top: str, made: list[str]) -> bool:
        if top == "/foreign":
            raise PermissionError(EACCES, "Permission denied", path)
        os.mkdir(path)
        made.append(path)
        return True

    monkeypatch.setattr(tree, "make", make)
    host = Layout(
        (Hierarchy(str(folder), ("pids",), "/"), Hierarchy("/foreign", (f"name={name}",), "/")), None
    )
    limited: Any = {"linux": {"resources": {"pids": {"limit": 5}}, "cgroupsPath": "/box"}}
    manager = choose(limited, "box", host, rootless=rootless)
    if fails:
        with pytest.raises(PyruncError, match="make cgroup /foreign/box"):
            manager.create()
    else:
        manager.create()
        assert manager.paths() == {"pids": f"{folder}/box"}
        manager.remove()
    assert os.listdir(folder) == []


def test_how_a_container_sees_it() -> None:
    others = ["cpu", "cpuacct", "name=systemd", "name=cpu", "name=unified", ""]
    assert shown_as(["cpu", "cpuacct"], others) == "cpu,cpuacct"
    assert shown_as(["name=systemd"], others) == "systemd"
    assert shown_as(["name=cpu"], others) == "name=cpu"
    assert shown_as(["name=unified"], others) == "name=unified"
    assert shown_as(["cpu", "name=x"], others) == "cpu,name=x"
