"""What `make test-vm` makes of the results of its parts: nothing fails, or is skipped, in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.payload import REPOSITORY
from tests.vm import recipe, suite

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_one"/>
<testcase classname="tests.a" name="test_two"><{kind} message="{message}"/></testcase>
</testsuite></testsuites>"""


def verdict(folder: Path, kind: str, message: str, status: int = 0) -> int:
    """The exit status for one part with two tests, of which one passes."""
    result = folder / "part.xml"
    result.write_text(JUNIT.format(kind=kind, message=message))
    tally = suite.Tally("part", status, 1.0)
    suite._count(tally, result)
    assert tally.tests == 2
    return suite._verdict([tally])


def test_known_reason(tmp_path: Path) -> None:
    assert verdict(tmp_path, "skipped", "this host has no cgroup v1") == 0


@pytest.mark.parametrize("reason", ["this host has no systemd", "docker is not installed", ""])
def test_reason_that_is_not_true_of_the_guest(
    tmp_path: Path, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(tmp_path, "skipped", reason) != 0
    assert f"tests.a::test_two: {reason}" in capsys.readouterr().out


def test_failure_of_a_part(tmp_path: Path) -> None:
    assert verdict(tmp_path, "failure", "assert 0", status=1) == 1


def test_part_without_a_result(tmp_path: Path) -> None:
    """Killed at the deadline: pytest did not write its file."""
    (tmp_path / "part.xml").write_text("")
    tally = suite.Tally("part", 124, 1.0)
    suite._count(tally, tmp_path / "part.xml")
    assert suite._verdict([suite.Tally("other", 0, 1.0), tally]) == 124


def test_parts_name_files_that_exist() -> None:
    for part in suite.PARTS:
        for name in part.tests:
            assert (REPOSITORY / name.partition("::")[0]).exists(), name


def test_short_leaves_out_files_that_exist() -> None:
    runtime = suite.PARTS[0]
    left = {word.removeprefix("--ignore=") for word in runtime.command([], short=True)} - set(
        runtime.command([])
    )
    assert left == set(suite.ALIKE)
    assert all((REPOSITORY / name).exists() for name in suite.ALIKE)
    rootless = next(part for part in suite.PARTS if part.name == "rootless")
    assert "tests/runtime/test_terminal.py" in rootless.command([])
    assert "tests/runtime/test_terminal.py" not in rootless.command([], short=True)


def test_the_guest_has_what_the_tests_want() -> None:
    assert {"gcc", "runc", "podman", "docker.io", "apparmor", "systemd-sysv"} <= set(recipe.guest_packages())
    assert "qemu-system-x86" in recipe.emulator_packages()


def test_what_passes_at_the_second_try_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "part.xml"
    result.write_text(JUNIT.format(kind="failure", message="assert 0"))
    tally = suite.Tally("part", 0, 1.0, late=True)
    suite._count(tally, result)
    assert suite._verdict([tally]) == 0
    assert "passed alone:\n  tests.a::test_two" in capsys.readouterr().out
