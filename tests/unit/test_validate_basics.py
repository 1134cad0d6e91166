"""Versions, a missing process, and what is passed over."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.plan.host import Host
from pyrunc.validate import basics
from pyrunc.validate._accept import accept
from pyrunc.validate.report import Report

#: semver.org's grammar, as a regular expression of our own.
NUMBER = r"(?:0|[1-9][0-9]*)"
WORD = r"(?:0|[1-9][0-9]*|[0-9A-Za-z-]*[A-Za-z-][0-9A-Za-z-]*)"
SEMANTIC = re.compile(
    rf"({NUMBER})\.{NUMBER}\.{NUMBER}(?:-{WORD}(?:\.{WORD})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)
PROCESS = {"cwd": "/", "args": ["sh"]}


def found(config: dict[str, Any]) -> list[str]:
    whole: Any = {"ociVersion": "1.0.0", "root": {"path": "r"}, "process": PROCESS, **config}
    assert accept(whole)
    report = Report()
    basics.check(whole, host(), report)
    return [problem.path for problem in report.problems]


def host() -> Host:
    return object.__new__(Host)  # basics asks nothing of the host


@given(st.text("01a-+.", max_size=12) | st.from_regex(SEMANTIC))
def test_a_semantic_version(text: str) -> None:
    match = SEMANTIC.match(text)
    assert basics.version_major(text) == (match[1] if match else None)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.99.0", "1.0.0-rc5"])
def test_every_1_x_is_carried_out(version: str) -> None:
    assert found({"ociVersion": version}) == []


@pytest.mark.parametrize(
    "version", ["0.5.0-dev", "2.0.0", "10.0.0", "1.0", "", "v1.0.0", "1.0.0\n", "01.0.0", "١.0.0"]
)
def test_other_versions_are_refused(version: str) -> None:
    assert found({"ociVersion": version}) == ["ociVersion"]


def test_a_config_without_process() -> None:
    config: Any = {"ociVersion": "1.0.0", "root": {"path": "r"}}
    report = Report()
    basics.check(config, host(), report)
    assert [str(problem)[:19] for problem in report.problems] == ["process: is missing"]


def test_other_platforms_and_unknown_properties_are_ignored() -> None:
    """config.md "Extensibility": MUST NOT generate an error for an unknown property."""
    assert found({"linux": {}, "vm": {}, "unknown": 1}) == []
