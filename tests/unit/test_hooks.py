"""Hooks in the runtime's namespaces, really run: state, output, failures, timeouts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux import hook_process
from pyrunc.linux.hooks import explain_hook_failure, run_hooks, run_poststop
from tests.support.footprint import alive


def shell(script: str, **more: Any) -> Any:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def failure(*entries: Any, kind: str = "createRuntime", state: bytes = b"{}") -> str:
    with pytest.raises(PyruncError) as caught:
        run_hooks(kind, entries, state)
    return str(caught.value)


def test_state_on_stdin_of_each(tmp_path: Path) -> None:
    state = b'{"id": "x"}' + b" " * 200000  # more than a pipe holds
    run_hooks("prestart", [shell(f"cat > {tmp_path}/1"), shell(f"cat > {tmp_path}/2")], state)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == state


def test_hook_cannot_change_the_state_of_the_next(tmp_path: Path) -> None:
    run_hooks("prestart", [shell("echo x 2>/dev/null >&0 || :"), shell(f"cat > {tmp_path}/2")], b"state")
    assert (tmp_path / "2").read_bytes() == b"state"


def test_hook_that_does_not_read() -> None:
    run_hooks("prestart", [shell("exec <&-; exit 0")], b" " * 1000000)


def test_environment_is_the_hooks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    bare = {"path": "/usr/bin/env"}
    text = failure(shell(f"env > {tmp_path}/env; exit 1", env=["A=1", "A=2", "B="]))
    assert text
    lines = set((tmp_path / "env").read_text().split())
    assert {"A=2", "B="} <= lines and "A=1" not in lines and "SECRET=1" not in lines
    run_hooks("prestart", [bare], b"")  # type: ignore[list-item]


def test_signals_are_at_their_default(tmp_path: Path) -> None:
    """Python ignores SIGPIPE; a hook must not inherit that."""
    run_hooks("prestart", [shell(f"grep SigIgn /proc/self/status > {tmp_path}/signals")], b"")
    assert int((tmp_path / "signals").read_text().split()[1], 16) & (1 << 12 | 1 << 24) == 0


def test_failure_text() -> None:
    text = failure(shell(":"), shell("echo out; echo err >&2; exit 3"))
    assert text == "error running createRuntime hook #1: exit status 3, stdout: out, stderr: err"


def test_killed_by_a_signal() -> None:
    assert (
        failure(shell("kill -9 $$"))
        == "error running createRuntime hook #0: signal: killed, stdout: , stderr: "
    )


def test_missing_hook() -> None:
    text = failure({"path": "/no/such"}, kind="poststart")
    assert text == "error running poststart hook #0: exec /no/such: no such file or directory"


def test_hooks_after_a_failure_do_not_run(tmp_path: Path) -> None:
    failure(shell("exit 1"), shell(f": > {tmp_path}/ran"))
    assert not (tmp_path / "ran").exists()


def test_poststop_goes_on(tmp_path: Path) -> None:
    warnings = run_poststop([shell("exit 1"), shell(f": > {tmp_path}/ran"), {"path": "/no"}], b"")
    assert (tmp_path / "ran").exists()
    assert [text.split(":")[0] for text in warnings] == [
        "error running poststop hook #0",
        "error running poststop hook #2",
    ]


def test_output_is_bounded() -> None:
    text = failure(shell("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 1"))
    assert len(text) < 2 * hook_process.KEPT
    assert "stdout: …" in text and "19999, stderr: " in text


def test_process_left_behind_does_not_hold_up() -> None:
    started = time.monotonic()
    run_hooks("prestart", [shell("sleep 5 &")], b"")
    assert time.monotonic() - started < 3


def test_timeout_kills_the_group(tmp_path: Path) -> None:
    started = time.monotonic()
    text = failure(shell(f"sleep 61 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait", timeout=1))
    assert text == "error running createRuntime hook #0: hook ran past specified timeout of 1.0s"
    assert 0.9 < time.monotonic() - started < 5
    for name in ("own", "child"):
        pid = int((tmp_path / name).read_text())
        for _ in range(100):
            if not alive(pid):
                break
            time.sleep(0.02)
        assert not alive(pid), name


def test_largest_timeout() -> None:
    run_hooks("prestart", [shell(":", timeout=2**63 - 1)], b"")


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    run_hooks("prestart", [shell(":")], b"")
    failure(shell("exit 1"))
    failure({"path": "/no"})
    failure(shell("sleep 9", timeout=1))
    assert os.listdir("/proc/self/fd") == before


def test_explanation() -> None:
    step = "error running createContainer hook #0"
    assert explain_hook_failure(step, (3 << 8, b"why\n")) == f"{step}: exit status 3, output: why"
    assert explain_hook_failure(step, (9, b"")) == f"{step}: signal: killed, output: "
    whole = f"{step}: exec /x"
    assert explain_hook_failure(whole, None) == whole
