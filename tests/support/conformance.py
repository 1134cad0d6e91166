"""Reads specs/CONFORMANCE.md, and as a pytest plugin holds it true: what it says ran on this kind of host must run.

The host kind is "selinux" where that labels, else "v1" or "v2" by its cgroups. Where a row names this kind, and every
one of its tests was skipped, the run fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.linux.lsm import SELINUX, enabled

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DOCUMENT = REPOSITORY / "specs" / "CONFORMANCE.md"
KINDS = ("v1", "v2", "selinux", "all")
#: "runtime/process: args, env"
REFERENCE = re.compile(r"(\w+)/(\w+): (\w+(?:, \w+)*)")
PROPERTY = re.compile(r"`([^`]+)`")

#: Of this run, by (file, function): tests of which a case ran; tests of which one was skipped, and why.
ran: set[tuple[str, str]] = set()
skipped: dict[tuple[str, str], str] = {}


class Row:
    """One row: the section it stands in, its first cell, the tests it names as (file, function), its host kinds."""

    def __init__(self, section: str, line: str) -> None:
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        self.section = section
        self.line = line
        self.title = cells[0]
        self.columns = len(cells)
        self.tests_cell = cells[-2]
        self.kinds = cells[-1].split()
        self.tests = [
            (f"tests/{folder}/test_{file}.py", f"test_{name}")
            for folder, file, names in REFERENCE.findall(self.tests_cell)
            for name in names.split(", ")
        ]

    @property
    def property(self) -> str:
        """The property that the row is about, "" for a requirement."""
        match = PROPERTY.fullmatch(self.title)
        return match[1] if match else ""


PROMISED = pytest.StashKey[list[Row]]()


def rows() -> Iterator[Row]:
    """Every row of every table, without the heads."""
    section = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith(("| ---", "| Property |", "| Section |")):
            yield Row(section, line)


def host_kind() -> str:
    """The kind of this host in the words of the document."""
    if SELINUX in enabled():
        return "selinux"
    return "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"


def promised(kind: str) -> list[Row]:
    """The rows that are shown on hosts of this kind."""
    return [row for row in rows() if kind in row.kinds or "all" in row.kinds]


def pytest_configure(config: pytest.Config) -> None:
    """Read the document once a run."""
    ran.clear()
    skipped.clear()
    config.stash[PROMISED] = promised(host_kind())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember of each test whether any of its cases ran, and why one was skipped."""
    file, _, name = report.nodeid.partition("::")
    here = (file, name.partition("[")[0])
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped[here] = reason.removeprefix("Skipped: ")
    elif report.when == "call":
        ran.add(here)


def broken(config: pytest.Config) -> list[str]:
    """The rows that this run did not keep; only under PYRUNC_MUST_RUN=1 is there one."""
    if os.environ.get("PYRUNC_MUST_RUN") != "1" or hasattr(config, "workerinput"):
        return []
    found = []
    for row in config.stash[PROMISED]:
        # tests/unit has the same result everywhere, and does not run in the guest.
        here = {test for test in row.tests if not test[0].startswith("tests/unit/")}
        if here and here <= skipped.keys() - ran:
            found += [f"{row.title}: {file}::{name}: {skipped[file, name]}" for file, name in sorted(here)]
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run."""
    if broken(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which."""
    if found := broken(config):
        terminalreporter.section("skipped, though specs/CONFORMANCE.md says that they run here", red=True)
        for line in found:
            terminalreporter.write_line(line)
