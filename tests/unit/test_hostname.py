"""The room for host and domain name: what it refuses and what it emits."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.linux import hostname
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})
UTS = {"namespaces": [{"type": "uts"}]}


def problems(config: Any) -> list[str]:
    report = Report()
    hostname.check(config, HOST, report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_needs_uts_namespace(key: str) -> None:
    (text,) = problems({key: "x", "linux": {"namespaces": [{"type": "pid"}]}})
    assert text.startswith(f"{key}: unable to set {key} without a private UTS namespace")
    assert problems({key: "x", "linux": UTS}) == []
    assert problems({key: "x", "linux": {"namespaces": [{"type": "uts", "path": "/proc/1/ns/uts"}]}}) == []
    assert problems({key: "", "linux": {}}) == []


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_length_is_in_bytes(key: str) -> None:
    assert problems({key: "é" * 32, "linux": UTS}) == []
    (text,) = problems({key: "é" * 33, "linux": UTS})
    assert "66 bytes" in text and "64" in text


def test_plan() -> None:
    program = Program()
    hostname.plan({"hostname": "héé", "domainname": "d", "linux": UTS}, HOST, program)  # type: ignore[typeddict-item]
    assert [(name, args[-1]) for name, args in program.calls] == [("sethostname", 5), ("setdomainname", 1)]
    assert program.texts == [("set host name to héé", "hostname"), ("set domain name to d", "domainname")]


def test_empty_names_are_left() -> None:
    program = Program()
    hostname.plan({"hostname": "", "linux": UTS}, HOST, program)  # type: ignore[typeddict-item]
    assert len(program) == 0
