"""The room for kernel parameters: the allow-list, the separators, the writes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyrunc.linux import sysctl
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})
ALL = ("ipc", "network", "uts", "user")


def problems(parameters: dict[str, str], *kinds: str, **more: Any) -> list[str]:
    config: Any = {"linux": {"sysctl": parameters, "namespaces": [{"type": kind} for kind in kinds]}, **more}
    report = Report()
    sysctl.check(config, HOST, report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize(
    "key,kind",
    [
        ("kernel.msgmax", "ipc"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("fs/mqueue/msg_max", "ipc"),
        ("net.ipv4.ip_forward", "network"),
        ("net/ipv4/conf/eth0.1/mtu", "network"),
        ("kernel.domainname", "uts"),
        ("user.max_user_namespaces", "user"),
    ],
)
def test_needs_its_namespace(key: str, kind: str) -> None:
    assert problems({key: "1"}, kind) == []
    (text,) = problems({key: "1"}, *(other for other in ALL if other != kind))
    assert text.startswith(f"linux.sysctl.{key}: sysctl ")
    assert f"is not allowed in the host {kind} namespace" in text


@pytest.mark.parametrize(
    "key", ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.shmmaxx", "netx.y"]
)
def test_of_no_namespace(key: str) -> None:
    (text,) = problems({key: "1"}, *ALL)
    assert f'sysctl "{key}" is not in a separate kernel namespace' in text


@pytest.mark.parametrize(
    "key",
    ["net..x", "net/../kernel/core_pattern", "net.//.kernel", "", "net.", ".net", "net/./x", "../../etc/x"],
)
def test_no_way_out_by_the_path(key: str) -> None:
    (text,) = problems({key: "1"}, *ALL)
    assert "is not the name of a kernel parameter" in text


def test_conflicts() -> None:
    (text,) = problems({"kernel.hostname": "x"}, *ALL)
    assert 'conflicts with the OCI "hostname" field' in text
    (text,) = problems({"kernel.domainname": "x"}, *ALL, domainname="y")
    assert 'conflicts with the OCI "domainname" field' in text


def test_same_parameter_twice() -> None:
    (text,) = problems({"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"}, *ALL)
    assert "same kernel parameter as net.ipv4.ip_forward" in text


def test_own_network_namespace_by_its_path() -> None:
    config: Any = {
        "linux": {
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "namespaces": [{"type": "network", "path": f"/proc/{os.getpid()}/ns/net"}],
        }
    }
    report = Report()
    sysctl.check(config, HOST, report)
    assert "not allowed in the host network namespace" in str(report.problems[0])


@pytest.mark.parametrize(
    "key,path",
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/mtu", "net/ipv4/conf/eth0.1/mtu"),
        ("net.ipv4.conf.eth0/1.mtu", "net/ipv4/conf/eth0.1/mtu"),
        ("kernel/shmmax", "kernel/shmmax"),
    ],
)
def test_separators(key: str, path: str) -> None:
    assert sysctl.path_of(key) == path


def test_plan() -> None:
    program = Program()
    proc = program.register()
    config: Any = {"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}}
    sysctl.plan(config, HOST, program, proc)
    (opening, (directory, path, _, size)), (writing, (_, value, length)), (closing, _) = program.calls
    assert (opening, directory, path, size) == ("openat2", proc, "sys/net/ipv4/ip_forward", 24)
    assert (writing, value, length, closing) == ("write", b"1", 1, "close")
    assert program.texts[1] == ("set sysctl net.ipv4.ip_forward to 1", "linux.sysctl.net.ipv4.ip_forward")
