"""The text of the programs behind `mounts`: an order that keeps the container's processes out."""

from __future__ import annotations

from stat import S_IFDIR
from typing import Any

import pytest

from pyrunc.config.spec import Mount
from pyrunc.kernel.constants import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, PR_SET_DUMPABLE
from pyrunc.linux.mounts import running, running_rules
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

JOINS = ("mount", "user", "pid", "ipc", "uts", "network")


def config_of(*listed: Mount, **linux: Any) -> Any:
    kinds = [{"type": kind} for kind in ("mount", "user", "pid")]
    mappings = [{"containerID": 0, "hostID": 1000, "size": 1}]
    return {
        "mounts": list(listed),
        "linux": {"namespaces": kinds, "uidMappings": mappings, "gidMappings": mappings, **linux},
    }


def program_of(*listed: Mount) -> Program:
    program = running.plan_add(config_of(*listed), Host(0, 0, False, {"/source": S_IFDIR | 0o755}), JOINS)
    program.encode()
    return program


def bind(destination: str) -> Mount:
    return {"destination": destination, "type": "bind", "source": "/source", "options": ["rbind", "ro"]}


def places(program: Program, name: str, first: int | None = None) -> list[int]:
    """The steps that make this call, with this first argument."""
    return [
        index
        for index, (call, arguments) in enumerate(program.calls)
        if call == name and (first is None or arguments[0] == first)
    ]


def entrance(program: Program) -> int:
    """The step that enters the container's mount namespace."""
    (step,) = [i for i in places(program, "setns") if program.calls[i][1][1] == CLONE_NEWNS]
    return step


def test_who_is_in_the_pid_namespace_has_nothing_of_the_host() -> None:
    """Two clones before anything is opened; the second in new namespaces, with the socket alone."""
    program = program_of(bind("/a"), {"destination": "/p", "type": "proc", "source": "proc"})
    outside, within = places(program, "clone3")
    assert within < min(places(program, "open_tree") + places(program, "openat"))
    joined = [step for step in places(program, "setns") if program.calls[step][1][1] == CLONE_NEWPID]
    (apart,) = places(program, "unshare", CLONE_NEWUSER | CLONE_NEWNS)
    (close,) = places(program, "close_range", 1)
    assert outside < min(joined) and max(joined) < apart < close < within


def test_everything_is_made_before_the_container_is_entered_and_moved_after() -> None:
    program = program_of(bind("/a"), {"destination": "/t", "type": "tmpfs"})
    enter = entrance(program)
    for name in ("open_tree", "fsopen", "fsmount", "mount_setattr", "sendmsg"):
        assert max(places(program, name)) < enter
    assert min(places(program, "move_mount")) > enter
    assert len(places(program, "move_mount")) == 2


def test_sources_are_opened_with_the_runtimes_ids_and_places_with_the_containers() -> None:
    program = program_of(bind("/a"))
    (ids,) = places(program, "setresuid")
    assert max(places(program, "open_tree")) < ids < min(places(program, "mkdirat"))


def test_it_is_never_dumpable() -> None:
    """Before anything is joined, and again when its ids have changed, which undoes it."""
    program = program_of(bind("/a"))
    first, second = places(program, "prctl", PR_SET_DUMPABLE)
    assert first < min(places(program, "setns"))
    assert max(places(program, "setresuid")) < second < min(places(program, "sendmsg"))


def test_namespaces_that_file_systems_show() -> None:
    assert running.kinds_for([bind("/a")]) == []
    assert "pid" not in running.kinds_for([{"destination": "/s", "type": "sysfs"}])
    assert running.kinds_for([bind("/a"), {"destination": "/p", "type": "proc"}])[-1] == "pid"


@pytest.mark.parametrize("path", ["/", "/.", "/a/..", "/proc", "/sys", "/sys/firmware", "//sys/"])
def test_places_that_stay(path: str) -> None:
    for check in (running_rules.check_add, running_rules.check_remove):
        report = Report()
        check(config_of({"destination": path, "type": "tmpfs"}, maskedPaths=["/sys/firmware"]), report)
        assert [problem.path for problem in report.problems] == ["mounts[0].destination"]


@pytest.mark.parametrize("path", ["/sys/firm", "/sysfs", "/proc2", "/sys/firmware/in"])
def test_places_beside_them(path: str) -> None:
    report = Report()
    running_rules.check_add(
        config_of({"destination": path, "type": "tmpfs"}, maskedPaths=["/sys/firmware"]), report
    )
    assert not report.problems
