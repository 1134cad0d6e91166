"""Credentials and capabilities, as pyrunc-init sets them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyrunc.kernel.constants import AT_FDCWD
from pyrunc.linux import capabilities, credentials
from pyrunc.plan.host import Host, probe
from pyrunc.plan.program import Program
from tests.support import program as init
from tests.support.process_steps import HOST, able, caps, config

NEWUSER = 0x10000000


def status_of(emit: Callable[[Program], None], root: Path, flags: int = 0) -> dict[str, Any]:
    """/proc/self/status of the process after the steps, read by itself through the host's /proc."""
    program = init.begin()
    output = init.Output()
    fd, size = program.register(), program.register()
    program.call("openat", AT_FDCWD, "/proc/self/status", 0, step="open status", into=fd)
    emit(program)
    buffer = program.buffer(8192)
    program.call("read", fd, buffer, 8191, step="read status", into=size)
    program.call("write", program.inherit("out"), buffer, size, step="write it")
    program.call("exit_group", 0, step="exit")
    outcome = init.run(program, flags, {"out": output.fd})
    assert outcome.failure == "" and outcome.code == 0
    lines = [line.split(":", 1) for line in output.text.splitlines()]
    return {name: value.split() for name, value in lines}


def emit_all(asked: Any) -> Callable[[Program], None]:
    def emit(program: Program) -> None:
        capabilities.plan_before_user(asked, able(), program)
        credentials.plan_user(asked, able(), program)
        capabilities.plan_after_user(asked, able(), program)
        credentials.plan_umask(asked, able(), program)
        credentials.plan_no_new_privileges(asked, able(), program)

    return emit


def test_everything_of_a_user(root: Path) -> None:
    asked = config(
        user={"uid": 1000, "gid": 1001, "additionalGids": [7, 1002], "umask": 0o27},
        noNewPrivileges=True,
        capabilities=caps(
            bounding=["KILL", "CHOWN", "SYS_RESOURCE"],
            permitted=["KILL", "CHOWN"],
            effective=["CHOWN"],
            inheritable=["KILL"],
            ambient=["KILL"],
        ),
    )
    status = status_of(emit_all(asked), root)
    assert status["Uid"] == ["1000"] * 4 and status["Gid"] == ["1001"] * 4
    assert status["Groups"] == ["7", "1002"]
    assert status["Umask"] == ["0027"]
    assert status["NoNewPrivs"] == ["1"]
    bounding = 0x21 | capabilities.passable()[0] & 1 << 24
    wanted = {"CapBnd": bounding, "CapPrm": 0x21, "CapEff": 0x1, "CapInh": 0x20, "CapAmb": 0x20}
    assert {name: int(status[name][0], 16) for name in wanted} == wanted


def test_nothing_asked(root: Path) -> None:
    status = status_of(emit_all(config()), root)
    assert [int(status[name][0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")] == [
        0
    ] * 5
    assert status["Groups"] == [] and status["Umask"] == ["0022"] and status["NoNewPrivs"] == ["0"]


def test_all_that_can_be_had(root: Path) -> None:
    """A privileged container: every name at once, CAP_SYS_RESOURCE included where the host lacks it."""
    names = list(capabilities.NAMES)
    sets: Any = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), names)
    status = status_of(emit_all(config(capabilities=sets)), root)
    assert {int(status[name][0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {
        capabilities.passable()[0]
    }


def test_unmapped_user_in_an_unknown_namespace() -> None:
    """Where the maps are not known beforehand, the kernel says it; the label says what to look at."""
    program = init.begin()
    credentials.plan_user(config(user={"uid": 5, "gid": 0}), Host(0, 0, True, {}), program)
    outcome = init.run(program, NEWUSER)
    assert (
        outcome.failure == "set group id to 0, which must be mapped in its user namespace: invalid argument"
    )
    assert outcome.failures[0].path == "process.user.gid"


def test_stdio_owner(tmp_path: Path) -> None:
    """Pipes, sockets and written files go to the user, and his own terminal; what else the caller has there stays."""
    file = tmp_path / "file"
    file.write_text("x")
    null = os.stat("/dev/null")
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    master, slave = os.openpty()
    cases = [
        (0, os.open(file, os.O_RDONLY), 0, False),
        (1, os.open(file, os.O_RDWR), 1000, False),
        (0, os.open(tmp_path, os.O_RDONLY), 0, False),
        (2, os.open(tmp_path, os.O_RDONLY), 0, False),
        (1, os.open("/dev/null", os.O_RDWR), 0, False),
        (2, writer, 1000, False),
        (0, reader, 1000, False),
        (0, ours.detach(), 1000, False),
        (1, theirs.detach(), 1000, False),
        (0, os.dup(slave), 0, False),
        (2, os.dup(slave), 0, False),
        (1, slave, 1000, True),
    ]
    for number, fd, owner, terminal in cases:
        group = os.fstat(fd).st_gid
        os.fchown(fd, 0, -1) if fd in (reader, writer) else None
        given = config(user={"uid": 1000, "gid": 7}, terminal=terminal)
        program = init.begin()
        slot = program.inherit("stdio")
        for other in (0, 1, 2):
            attached = slot if terminal or other == number else program.inherit("null")
            program.call("dup3", attached, other, 0, step="attach stdio")
        credentials.plan_stdio_owner(given, HOST, program)
        program.call("exit_group", 0, step="exit")
        empty = os.open("/dev/null", os.O_RDWR)
        outcome = init.run(program, 0, {"stdio": fd, "null": empty})
        os.close(empty)
        assert outcome.failure == "" and (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (owner, group), number
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, 0, 0)
        os.close(fd)
    os.close(master)
    assert (os.stat("/dev/null").st_uid, os.stat("/dev/null").st_mode) == (null.st_uid, null.st_mode)


def test_probe_knows_the_capabilities() -> None:
    assert (probe().capabilities, probe().last_capability) == capabilities.passable()
