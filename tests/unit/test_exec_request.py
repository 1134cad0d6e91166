"""The process that `exec` is asked for: from words, from a file; and cgroups below the container's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.lifecycle.exec_request import ExecRequest, Overrides, number, process_of
from pyrunc.linux.cgroups.below import parse
from pyrunc.linux.cgroups.v1.manager import Home
from pyrunc.linux.cgroups.v1.manager import Manager as OnV1
from pyrunc.linux.cgroups.v2.manager import Manager as OnV2
from pyrunc.log import Log
from pyrunc.store.store import Store

CONFIG: Any = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {
        "cwd": "/first",
        "args": ["first"],
        "env": ["A=1"],
        "terminal": True,
        "consoleSize": {"height": 1, "width": 2},
        "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [3]},
        "capabilities": {"bounding": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"], "ambient": []},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "noNewPrivileges": True,
        "oomScoreAdj": 7,
    },
}


def from_words(*words: str, **overrides: Any) -> Any:
    request = ExecRequest(Store("/none"), "one", Log(), words=words, overrides=Overrides(**overrides))
    return process_of(request, CONFIG)


def from_file(folder: Path, **process: Any) -> Any:
    path = folder / "process.json"
    path.write_text(json.dumps(process))
    return process_of(ExecRequest(Store("/none"), "one", Log(), file=str(path)), CONFIG)


def test_words_alone() -> None:
    """All else is as at create, but the terminal, which is asked for anew."""
    process = from_words("second", "-x")
    assert process["args"] == ["second", "-x"]
    assert process["terminal"] is False and "consoleSize" not in process
    for name in ("cwd", "env", "user", "capabilities", "rlimits", "noNewPrivileges", "oomScoreAdj"):
        assert process[name] == CONFIG["process"][name], name


def test_nothing_of_the_configuration_is_changed() -> None:
    before = json.dumps(CONFIG)
    from_words(
        "x", env=["B=2"], user="5:6", additional_gids=["7"], capabilities=["CAP_CHOWN"], terminal=True, cwd="/"
    )  # fmt: skip
    assert json.dumps(CONFIG) == before


def test_overrides() -> None:
    process = from_words(
        "x", cwd="/c", env=["B=2", "A=3"], user="5", additional_gids=["8"], apparmor="p", selinux="l",
        no_new_privileges=False, terminal=True,
    )  # fmt: skip
    assert (process["cwd"], process["env"]) == ("/c", ["A=1", "B=2", "A=3"])
    assert process["user"] == {"uid": 5, "gid": 2, "umask": 63, "additionalGids": [3, 8]}
    assert (process["apparmorProfile"], process["selinuxLabel"]) == ("p", "l")
    assert process["noNewPrivileges"] is False
    assert process["terminal"] is True and process["consoleSize"] == {"height": 1, "width": 2}


def test_capabilities_are_never_made_inheritable() -> None:
    """And ambient only where they are inheritable (CVE-2022-29162)."""
    found = from_words("x", capabilities=["CAP_CHOWN", "CAP_KILL"])["capabilities"]
    assert found == {
        "bounding": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }


def test_no_words() -> None:
    with pytest.raises(PyruncError, match="process args cannot be empty"):
        from_words()


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "0x10", "1_0", " 1", "1 ", "٣", "1e3", "4294967295", "9" * 5000]
)
def test_what_is_no_id(text: str) -> None:
    """CVE-2026-30892: half a number is none."""
    with pytest.raises(PyruncError, match="as int for uid failed"):
        number(text, "uid")


def test_ids() -> None:
    assert [number(text, "uid") for text in ("0", "007", "4294967294")] == [0, 7, 4294967294]


def test_a_file_leaves_out_what_the_container_has(tmp_path: Path) -> None:
    process = from_file(tmp_path, cwd="/", args=["x"])
    own = CONFIG["process"]
    for name in ("capabilities", "rlimits", "oomScoreAdj"):
        assert process[name] == own[name]
    assert process["user"] == {"umask": 63}
    for name in ("env", "terminal", "noNewPrivileges", "consoleSize"):
        assert name not in process


def test_what_a_file_gives_is_not_changed(tmp_path: Path) -> None:
    given = {"cwd": "/", "args": ["x"], "user": {"umask": 0, "uid": 9}, "oomScoreAdj": 0, "rlimits": []}
    assert from_file(tmp_path, **given) == {**given, "capabilities": CONFIG["process"]["capabilities"]}


# -- --cgroup ----------------------------------------------------------------------------------------------


def test_cgroup_arguments() -> None:
    assert parse([]) == {}
    assert parse(["/a//b/./c/"]) == {"": "a/b/c"}
    assert parse(["cpu,memory:a", "pids:/b"]) == {"cpu": "a", "memory": "a", "pids": "b"}
    assert parse(["name=systemd:a"]) == {"name=systemd": "a"}


@pytest.mark.parametrize(
    "given",
    [["../a"], ["a/../../b"], ["cpu:.."], ["a", "b"], ["cpu:a:b"], [":a"], ["cpu:a", "cpu:b"], ["a\nb"]],
)
def test_cgroup_arguments_that_are_none(given: list[str]) -> None:
    with pytest.raises(PyruncError, match="--cgroup"):
        parse(given)


def v1() -> OnV1:
    homes = [Home("/cpu/box", "/cpu", ("cpu", "cpuacct")), Home("/mem/box", "/mem", ("memory",))]
    return OnV1(homes, False, False)


def test_descend_in_some_hierarchies() -> None:
    manager = v1()
    manager.descend({"cpu": "a"})
    assert manager.paths() == {"cpu": "/cpu/box/a", "cpuacct": "/cpu/box/a", "memory": "/mem/box"}
    manager = v1()
    manager.descend({"": "a/b"})
    assert set(manager.paths().values()) == {"/cpu/box/a/b", "/mem/box/a/b"}


def test_controllers_that_share_a_hierarchy_go_together() -> None:
    with pytest.raises(PyruncError, match="shares its hierarchy"):
        v1().descend({"cpu": "a", "cpuacct": "b"})
    with pytest.raises(PyruncError, match="unknown controller pids"):
        v1().descend({"pids": "a"})


def test_descend_in_v2() -> None:
    manager = OnV2("/top/box", "/top", (), False, False)
    manager.descend({"": "a"})
    assert manager.paths() == {"": "/top/box/a"}
    with pytest.raises(PyruncError, match="unknown controller cpu"):
        manager.descend({"cpu": "a"})
