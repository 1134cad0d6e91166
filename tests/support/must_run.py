"""A pytest plugin: with PYRUNC_MUST_RUN=1 a test may be skipped only for what this host cannot do.

The reason of such a skip begins with "this host" or "the kernel"; any other ("docker is not installed", "needs root")
fails the run, because `make test` as root has installed everything, and a test that silently stopped running
protects nothing.
"""

from __future__ import annotations

import os

import pytest

ALLOWED = ("this host", "the kernel")
unwanted: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the skips that may not be. Expected failures are reported as skipped too, and are none."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED):
        unwanted.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run."""
    if unwanted and os.environ.get("PYRUNC_MUST_RUN") == "1" and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which."""
    if unwanted and os.environ.get("PYRUNC_MUST_RUN") == "1":
        terminalreporter.section("skipped, though PYRUNC_MUST_RUN=1", red=True)
        for line in unwanted:
            terminalreporter.write_line(line)
