"""The executable from outside: statuses, texts, logs; one line per failure and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import _cffi_backend
import pytest

from pyrunc import __version__
from pyrunc.cli import options, verbs
from tests.support.payload import REPOSITORY

PATHS = [str(REPOSITORY), str(Path(_cffi_backend.__file__).parent)]
ENTRY = f"import sys; sys.path[:0] = {PATHS!r}; from pyrunc.cli.main import run_main; run_main()"


def pyrunc(*words: str, **how: object) -> subprocess.CompletedProcess[str]:
    options: dict[str, object] = {
        "capture_output": True,
        "text": True,
        "timeout": 20,
        "stdin": subprocess.DEVNULL,
    }
    if "stdout" in how or "stderr" in how:
        options.pop("capture_output")
    options.update(how)
    return subprocess.run([sys.executable, "-I", "-S", "-c", ENTRY, *words], **options)  # type: ignore[call-overload,no-any-return]


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error of a failure."""
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"--root={tmp_path}/root"


def test_version_has_the_lines_that_engines_parse() -> None:
    for word in ("--version", "-v"):
        lines = pyrunc(word).stdout.splitlines()
        assert lines[0] == f"pyrunc version {__version__}"
        assert lines[1].startswith("commit: ")
        assert lines[2] == "spec: 1.3.0"


def test_help() -> None:
    for words in (["--help"], ["-h"], ["help"], []):
        done = pyrunc(*words)
        assert done.returncode == 0 and not done.stderr
        for command in verbs.commands():
            assert f"\n   {command.name} " in done.stdout
        for option in options.GLOBAL:
            assert f"--{option.name}" in done.stdout
    for command in verbs.commands():
        for words in ([command.name, "--help"], ["help", command.name], [command.name, "-h"]):
            done = pyrunc(*words)
            assert done.returncode == 0 and not done.stderr
            for option in command.options:
                assert (f"--{option.name}" in done.stdout) is not option.hidden
        assert max(map(len, done.stdout.splitlines())) <= 100


def test_usage_error_shows_the_help_and_one_line() -> None:
    done = pyrunc("state")
    assert failure(done).endswith('level=error msg="pyrunc: \\"state\\" requires exactly 1 argument(s)"')
    assert done.stdout.startswith("Incorrect Usage.\n\nNAME:\n   pyrunc state")
    done = pyrunc("--wrong", "state")
    assert "flag provided but not defined: -wrong" in failure(done)
    assert done.stdout.startswith(
        "Incorrect Usage. flag provided but not defined: -wrong\n\nNAME:\n   pyrunc - "
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nonsense"], 'pyrunc: unknown command \\"nonsense\\"'),
        (["help", "nonsense"], 'pyrunc: unknown command \\"nonsense\\"'),
        (["--root=/", "list"], "Option --root argument should not be set to /"),
        (["--root=//", "list"], "Option --root argument should not be set to /"),
        (["--root=/tmp/..", "list"], "Option --root argument should not be set to /"),
        (["--root=", "list"], "Option --root argument should not be empty"),
        (["--log-format=xml", "list"], "invalid log-format: xml"),
        (["--log-level=loud", "list"], "invalid log-level: loud"),
        (["--log=/nowhere/log", "list"], "open log file /nowhere/log: no such file or directory"),
        (["--rootless=perhaps", "create", "x"], "invalid rootless: perhaps"),
        (["--cgroup-manager=other", "create", "x"], "invalid cgroup-manager: other"),
    ],
)
def test_words_that_are_refused(words: list[str], text: str) -> None:
    assert text in failure(pyrunc(*words))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["state", "nope"], "container does not exist"),
        (["kill", "nope"], "container does not exist"),
        (["delete", "nope"], "container does not exist"),
        (["start", "nope"], "container does not exist"),
        (["state", ""], "container id cannot be empty"),
        (["state", ".."], "invalid container ID format"),
        (["state", "a/b"], "invalid container ID format"),
        (["state", "a\nb"], "invalid container ID format"),
        (["state", "x" * 300], "invalid container ID format: 300 characters, at most 255 are allowed"),
        (["state", "x" * 2000], "invalid container ID format: 2000 characters, at most 255"),
        (["kill", "nope", "BOGUS"], 'unknown signal \\"BOGUS\\"'),
        (["list", "--format=xml"], "invalid format option"),
    ],
)
def test_refusals_of_the_verbs(root: str, words: list[str], text: str) -> None:
    assert text in failure(pyrunc(root, *words))


def test_deleting_an_unknown_id_by_force_is_fine(root: str) -> None:
    done = pyrunc(root, "delete", "--force", "nope")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_log_gets_exactly_one_object_and_stderr_one_line(root: str, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    line = failure(pyrunc(f"--log={log}", "--log-format=json", root, "state", "nope"))
    assert line == "container does not exist"
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"], entry["code"]) == ("error", "container does not exist", "not-found")
    time.strptime(entry["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert log.read_text().endswith("}\n")
    failure(pyrunc(f"--log={log}", "--log-format=json", root, "state", "nope"))
    assert len(log.read_text().splitlines()) == 2  # appended


def test_usage_errors_reach_the_log_file_too(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    pyrunc(f"--log={log}", "--log-format", "json", "state")
    assert json.loads(log.read_text())["code"] == "usage"
    log.unlink()
    pyrunc(f"--log={log}", "--log-format", "json", "--wrong")
    assert json.loads(log.read_text())["msg"] == "flag provided but not defined: -wrong"


def test_bytes_that_are_not_utf8_do_not_break_the_log(root: str, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    words = [f"--log={log}", "--log-format=json", root, "kill", "x", "A\udcff\x1b[2J"]
    line = failure(pyrunc(*words))
    assert line.isprintable()
    assert json.loads(log.read_text())["msg"].startswith("unknown signal")


def test_prefix_of_create_and_run(root: str, tmp_path: Path) -> None:
    assert "pyrunc create failed: open bundle" in failure(
        pyrunc(root, "create", f"--bundle={tmp_path}/none", "x")
    )
    assert "pyrunc run failed: open bundle" in failure(pyrunc(root, "run", f"--bundle={tmp_path}/none", "x"))


def test_a_closed_pipe_is_no_error(root: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = pyrunc("--help", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = pyrunc("--help", stdout=full, stderr=subprocess.PIPE)
    assert "write to standard output: no space left on device" in failure(done)


def test_closed_stdio_is_filled_before_anything_is_opened(tmp_path: Path) -> None:
    # Without it the log would become descriptor 0, and the container's stdin.
    out = tmp_path / "out"
    script = f"""
import os, sys; os.closerange(0, 3); sys.path[:0] = {PATHS!r}
from pyrunc.cli import main
def look(words):
    open({str(out)!r}, "w").write(str([(os.readlink(f"/proc/self/fd/{{n}}"), os.get_inheritable(n)) for n in range(3)]))
    return 0
main.main = look
main.run_main()
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True)
    assert out.read_text() == str([("/dev/null", True)] * 3)


def test_an_unforeseen_exception_is_one_line_with_its_place(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "import pyrunc.cli.verbs.query as query\n"
        "def broken(*args):\n    raise {what}\n"
        "[entry for entry in query.COMMANDS if entry.name == 'list'][0].call = broken\n"
        "from pyrunc.cli.main import run_main\nrun_main()\n"
    )

    def run(what: str, *words: str) -> subprocess.CompletedProcess[str]:
        code = script.replace("{what}", what)
        return subprocess.run([sys.executable, "-c", code, *words, "list"], capture_output=True, text=True)

    line = failure(run("ValueError('a\\nb')"))
    assert "unforeseen ValueError: a\\\\nb at <string>:4" in line or "unforeseen ValueError: a\\nb at" in line
    assert "unforeseen RecursionError" in failure(run("RecursionError('deep')"))
    assert "permission denied: /x" in failure(run("PermissionError(13, 'Permission denied', '/x')"))
    done = run("ValueError('x')", "--debug")
    assert len(done.stderr.splitlines()) == 2
    assert "level=debug" in done.stderr and "Traceback" in done.stderr
    assert run("KeyboardInterrupt").returncode == 130


def test_no_signal_leaves_a_traceback(root: str, tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ENTRY, f"--log={fifo}", root, "list"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.3)  # it waits for a reader of the log
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 130
