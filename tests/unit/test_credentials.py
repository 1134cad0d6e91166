"""User, groups, umask, no_new_privs: what is refused and what is emitted."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.config.annotations import KEEP_GROUPS
from pyrunc.linux import credentials
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

ROOT = Host(0, 0, False, {})
ROOTLESS = Host(1000, 1000, True, {})
ONE = [{"containerID": 0, "hostID": 1000, "size": 1}]
MANY = [
    {"containerID": 0, "hostID": 100000, "size": 1000},
    {"containerID": 5000, "hostID": 200000, "size": 2},
]


def config(mappings: list[dict[str, int]] | None = None, path: str = "", **user: Any) -> Any:
    linux: dict[str, Any] = {"namespaces": []}
    if mappings is not None:
        linux = {
            "namespaces": [{"type": "user", "path": path}],
            "uidMappings": mappings,
            "gidMappings": mappings,
        }
    return {"process": {"user": user}, "linux": linux}


def problems(config: Any, host: Host = ROOT) -> list[str]:
    report = Report()
    credentials.check(config, host, report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize(
    "uid,good", [(0, True), (999, True), (1000, False), (4999, False), (5000, True), (5002, False)]
)
def test_unmapped_uid(uid: int, good: bool) -> None:
    found = problems(config(MANY, uid=uid))
    if good:
        assert found == []
    else:
        assert found[0].startswith(
            f"process.user.uid: cannot setuid to unmapped uid {uid} in the user namespace"
        )


def test_unmapped_gids() -> None:
    first, second = problems(config(MANY, gid=3000, additionalGids=[1, 4000]))
    assert "cannot setgid to unmapped gid 3000" in first
    assert second.startswith("process.user.additionalGids[1]: cannot setgroups to unmapped gid 4000")


def test_mappings_of_a_joined_namespace_are_not_known() -> None:
    assert problems(config(MANY, path="/proc/1/ns/user", uid=4000)) == []
    assert problems(config(None, uid=4000)) == []


def test_additional_groups_where_setgroups_is_denied() -> None:
    found = problems(config(ONE, uid=0, additionalGids=[0]), ROOTLESS)
    assert "cannot set any additional groups" in found[0]
    assert problems(config(ONE, uid=0), ROOTLESS) == []
    assert problems(config(ONE, uid=0, additionalGids=[0]), ROOT) == []
    assert problems(config(MANY, uid=0, additionalGids=[5]), ROOTLESS) == []


def planned(config: Any, host: Host = ROOT) -> list[tuple[str, tuple[Any, ...]]]:
    program = Program()
    credentials.plan_user(config, host, program)
    return program.calls


def test_groups_then_gid_then_uid() -> None:
    calls = planned(config(uid=7, gid=8, additionalGids=[9, 10]))
    assert [name for name, _ in calls] == ["setgroups", "setresgid", "setresuid"]
    assert calls[0][1][0] == 2
    assert calls[1][1] == (8, 8, 8) and calls[2][1] == (7, 7, 7)


def test_absent_user_is_root() -> None:
    calls = planned({"process": {}, "linux": {}})
    assert calls == [("setgroups", (0, 0)), ("setresgid", (0, 0, 0)), ("setresuid", (0, 0, 0))]


def test_keeping_the_callers_groups() -> None:
    kept = config(uid=7) | {"annotations": {KEEP_GROUPS: "1"}}
    assert [name for name, _ in planned(kept)] == ["setresgid", "setresuid"]


@pytest.mark.parametrize("umask,expected", [(None, 0o22), (0, 0), (0o77, 0o77)])
def test_umask(umask: int | None, expected: int) -> None:
    program = Program()
    asked: Any = {"process": {"user": {} if umask is None else {"umask": umask}}}
    credentials.plan_umask(asked, ROOT, program)
    assert program.calls == [("umask", (expected,))]


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(wanted: bool) -> None:
    program = Program()
    asked: Any = {"process": {"noNewPrivileges": wanted}}
    credentials.plan_no_new_privileges(asked, ROOT, program)
    assert len(program) == int(wanted)


def test_roots_stdio_is_left() -> None:
    program = Program()
    credentials.plan_stdio_owner(config(uid=0), ROOT, program)
    assert len(program) == 0
