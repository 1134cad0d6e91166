"""The log: the forms that containerd, podman and conmon parse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyrunc.errors import PyruncError
from pyrunc.log import Log, one_line


def test_text_form_is_that_of_logrus(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(str(tmp_path / "log"))
    log.error('no "such" thing \\ \n')
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=error msg="no \\"such\\" thing \\\\ "\n', text
    )
    assert capfd.readouterr().err == 'no "such" thing \\ \n'


def test_without_a_file_the_entry_goes_to_stderr_once(capfd: pytest.CaptureFixture[str]) -> None:
    Log().error("wrong")
    assert capfd.readouterr().err.count("wrong") == 1
    Log("", "json").error("wrong", "a-code")
    assert json.loads(capfd.readouterr().err)["code"] == "a-code"


@pytest.mark.parametrize(
    ("form", "level", "written"),
    [
        ("text", "", ["error", "warning"]),
        ("json", "", ["error"]),  # podman parses the file as one object
        ("json", "warning", ["error", "warning"]),
        ("json", "debug", ["error", "warning", "debug"]),
        ("text", "error", ["error"]),
        ("text", "debug", ["error", "warning", "debug"]),
    ],
)
def test_what_is_written_at_which_level(tmp_path: Path, form: str, level: str, written: list[str]) -> None:
    log = Log(str(tmp_path / "log"), form, level)
    log.error("e")
    log.warning("w")
    log.debug("d")
    lines = (tmp_path / "log").read_text().splitlines()
    pattern = r'"level": "(\w+)"' if form == "json" else r"level=(\w+) "
    assert [re.findall(pattern, line)[0] for line in lines] == written


def test_one_line_escapes_what_a_terminal_obeys() -> None:
    assert one_line("a\x1b[31m\r\nb\x9b\x7f\udcff\ud800é\n") == "a\\x1b[31m\\r\\nb\\x9b\\x7f\\udcff\\ud800é"


def test_json_keeps_newlines_and_survives_any_text(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), "json")
    log.error("a\nb \udcff\ud800 \x00 é 𝄞")
    assert json.loads((tmp_path / "log").read_text())["msg"] == "a\nb \\udcff\\ud800 \x00 é 𝄞"


def test_the_file_is_appended_to_and_not_inherited(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = Log(str(path))
    assert not os.get_inheritable(log.fd)
    log.error("after")
    assert path.read_text().startswith("before\n")


def test_entries_of_many_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = (
        "from pyrunc.log import Log\n"
        f"log = Log({str(path)!r}, 'json')\n"
        "for n in range(200): log.error('x' * 300)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [worker.wait(30) for worker in workers] == [0] * 4
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(entries) == 800


def test_a_log_that_cannot_be_opened() -> None:
    with pytest.raises(PyruncError, match="open log file /nowhere/x: no such file or directory"):
        Log("/nowhere/x")


def test_a_log_that_cannot_be_written_does_not_hide_the_failure(capfd: pytest.CaptureFixture[str]) -> None:
    Log("/dev/full").error("the reason")
    assert capfd.readouterr().err == "the reason\n"
