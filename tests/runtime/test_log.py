"""`--log`, `--log-format`, `--debug`: what engines read (containerd, podman, docker, buildah)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.runtime import Runtime

TEXT = re.compile(r'^time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)" level=error msg="?.+$')


@pytest.fixture
def log(runtime: Runtime) -> Path:
    return runtime.folder / "log"


def test_json(runtime: Runtime, log: Path) -> None:
    """Exactly one line, one object (podman parses the whole file as one), and the same on stderr."""
    runtime.globals = ["--log", str(log), "--log-format", "json"]
    bundle = runtime.bundle()
    bundle.process["args"] = ["nosuch"]
    outcome = runtime.run(bundle)
    assert outcome.status == 1
    text = log.read_text()
    assert text.endswith("\n") and text.count("\n") == 1
    entry = json.loads(text)
    assert {"level", "msg", "time"} <= set(entry)
    assert entry["level"] == "error"
    assert 'exec: "nosuch": executable file not found in $PATH' in entry["msg"]
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", entry["time"])
    assert "executable file not found" in outcome.err and outcome.err.count("\n") == 1


def test_text(runtime: Runtime, log: Path) -> None:
    runtime.globals = ["--log", str(log)]
    runtime.verb("state", runtime.new_id()).fails("does not exist")
    assert TEXT.match(log.read_text()), log.read_text()


def test_text_is_the_default_on_stderr(runtime: Runtime) -> None:
    outcome = runtime.verb("state", runtime.new_id())
    assert TEXT.match(outcome.err), outcome.err


def test_log_is_appended(runtime: Runtime, log: Path) -> None:
    log.write_text("before\n")
    runtime.globals = [f"--log={log}", "--log-format=json"]
    runtime.verb("state", runtime.new_id())
    lines = log.read_text().splitlines()
    assert lines[0] == "before" and len(lines) == 2


def test_success_logs_nothing(runtime: Runtime, log: Path) -> None:
    runtime.globals = ["--log", str(log), "--log-format", "json"]
    runtime.ask(runtime.bundle(), "pid")
    assert not log.exists() or log.read_text() == ""


def test_quotes_and_newlines_stay_in_one_line(runtime: Runtime, log: Path) -> None:
    runtime.globals = ["--log", str(log), "--log-format", "json"]
    bundle = runtime.bundle()
    bundle.process["args"] = ['no "such"\nprogram\\ ü']
    outcome = runtime.run(bundle)
    assert outcome.err.count("\n") == 1
    assert 'no "such"' in json.loads(log.read_text())["msg"].replace('\\"', '"')


def test_log_that_cannot_be_opened(runtime: Runtime) -> None:
    runtime.globals = ["--log", "/no/such/place/log"]
    runtime.verb("list").fails("/no/such/place/log", "no such file or directory")


def test_unknown_format(runtime: Runtime) -> None:
    runtime.globals = ["--log-format", "xml"]
    runtime.verb("list").fails("log-format", "xml")


def test_debug(runtime: Runtime, log: Path) -> None:
    runtime.globals = ["--debug", "--log", str(log)]
    runtime.ask(runtime.bundle(), "pid")
    assert "level=debug" in log.read_text()


@pytest.mark.parametrize(
    "words",
    [["--root", "", "list"], ["--root", "/", "list"], ["--nosuch", "list"], ["nosuch"], ["list", "--nosuch"]],
)
def test_usage_errors(runtime: Runtime, words: list[str]) -> None:
    outcome = runtime.verb(*words)
    assert outcome.status != 0 and "Traceback" not in outcome.err + outcome.out
    assert outcome.err


def test_missing_value(runtime: Runtime) -> None:
    """podman looks for these words."""
    outcome = runtime.verb("create", "--bundle")
    assert outcome.status != 0
    assert (
        "requires an argument" in outcome.err + outcome.out
        or "needs an argument" in outcome.err + outcome.out
    )


def test_version(runtime: Runtime) -> None:
    lines = runtime.verb("--version").ok().out.splitlines()
    assert re.match(r"^\w+ version \d+\.\d+", lines[0])
    assert any(line.startswith("commit: ") for line in lines)
    assert any(re.match(r"^spec: \d+\.\d+\.\d+", line) for line in lines)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["run", "--help"], ["create", "-h"], []])
def test_help(runtime: Runtime, words: list[str]) -> None:
    outcome = runtime.verb(*words).ok()
    assert "USAGE" in outcome.out.upper() and "Traceback" not in outcome.out


def test_one_dash_and_equals(runtime: Runtime) -> None:
    """Go's flag habits: `-no-subreaper`, `--detach=true`, `--keep=false`."""
    bundle = runtime.bundle().ask("pid")
    assert runtime.run(bundle, "-no-subreaper", "--keep=false", "--no-new-keyring").ok().testimony["pid"] == 1
    id = runtime.new_id()
    runtime.verb("run", "-d=true", f"-bundle={runtime.put(runtime.bundle().sleeper(), id)}", id).ok()
    assert runtime.state_of(id)["status"] == "running"


@pytest.mark.needs_root
def test_rootless_flag_is_accepted(runtime: Runtime) -> None:
    runtime.globals = ["--rootless=false"]
    assert runtime.ask(runtime.bundle(), "pid")["pid"] == 1


@pytest.mark.needs_root
def test_spec(runtime: Runtime) -> None:
    """What `spec` writes runs, in the bundle it is written to."""
    bundle = runtime.bundle()
    bundle.write()
    runtime.verb("spec", "--bundle", str(bundle.path)).fails("config.json", "exists")
    (bundle.path / "config.json").unlink()
    runtime.verb("spec", "--bundle", str(bundle.path)).ok()
    config = json.loads((bundle.path / "config.json").read_text())
    assert config["process"]["terminal"] is True and config["process"]["args"] == ["sh"]
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert config["process"]["noNewPrivileges"] is True
    config["process"]["terminal"] = False
    config["process"]["args"] = ["testify", "pid"]
    config["process"]["env"].append("PATH=/bin")
    bundle.config = config
    assert runtime.ask(bundle, "pid", "caps")["pid"] == 1


@pytest.mark.needs_root
def test_spec_rootless(runtime: Runtime) -> None:
    user = runtime.as_user(1000, 1000)
    place = runtime.folder / "user-1000" / "bundle"
    place.mkdir()
    place.chmod(0o777)
    user.verb("spec", "--rootless", cwd=place).ok()
    config = json.loads((place / "config.json").read_text())
    kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
    assert "user" in kinds and "network" not in kinds
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    config["process"]["terminal"] = False
    config["process"]["env"].append("PATH=/bin")
    bundle = runtime.bundle()
    bundle.config = config
    assert user.run(bundle.ask("ids")).ok().testimony["ids"]["uid"] == [0, 0, 0]
