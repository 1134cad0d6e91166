"""Host and domain name, kernel parameters and personality, as pyrunc-init sets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.constants import AT_FDCWD
from pyrunc.linux import hostname, personality, procfs, sysctl
from tests.support import payload
from tests.support import program as init
from tests.support.process_steps import HOST

NEWUTS, NEWNET, NEWIPC = 0x04000000, 0x40000000, 0x08000000


def test_names_and_personality() -> None:
    program = init.begin()
    output = init.Output()
    output.attach(program)
    asked: Any = {"hostname": "inner", "domainname": "of.it", "linux": {"personality": {"domain": "LINUX32"}}}
    hostname.plan(asked, HOST, program)
    personality.plan(asked, HOST, program)
    program.call(
        "execve",
        str(payload.testify()),
        program.strings(["testify", "uname"]),
        program.strings([]),
        step="exec",
    )
    outcome = init.run(program, NEWUTS, {"out": output.fd})
    assert outcome.failure == ""
    assert all(word in output.text for word in ('"inner"', '"of.it"', '"i686"'))


def test_sysctl_is_written_in_its_namespace() -> None:
    program = init.begin()
    proc = procfs.plan_open(program)
    asked: Any = {"linux": {"sysctl": {"net.ipv4.ip_default_ttl": "77", "kernel/shmmax": "123456"}}}
    sysctl.plan(asked, HOST, program, proc)
    fd, size = program.register(), program.register()
    buffer = program.buffer(64)
    for name in ("net/ipv4/ip_default_ttl", "kernel/shmmax"):
        program.call("openat", AT_FDCWD, f"/proc/sys/{name}", 0, step="open", into=fd)
        program.call("read", fd, buffer, 64, step="read", into=size)
        program.call("write", program.inherit("out"), buffer, size, step="tell")
    program.call("exit_group", 0, step="exit")
    output = init.Output()
    outcome = init.run(program, NEWNET | NEWIPC, {"out": output.fd})
    assert (outcome.failure, output.text) == ("", "77\n123456\n")
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() != "77\n"


@pytest.mark.parametrize(
    "key,value,word",
    [
        ("net.ipv4.nosuch", "1", "no such file or directory"),
        ("net.ipv4.ip_default_ttl", "x", "invalid argument"),
    ],
)
def test_sysctl_that_fails(key: str, value: str, word: str) -> None:
    program = init.begin()
    proc = procfs.plan_open(program)
    asked: Any = {"linux": {"sysctl": {key: value}}}
    sysctl.plan(asked, HOST, program, proc)
    outcome = init.run(program, NEWNET)
    assert outcome.failure == f"set sysctl {key} to {value}: {word}"
    assert outcome.failures[0].path == f"linux.sysctl.{key}"
