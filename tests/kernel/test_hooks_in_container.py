"""Hooks that init runs: really run by pyrunc-init."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.hook_process import KEPT
from pyrunc.linux.hooks import explain_hook_failure, plan_hooks, state_file
from tests.support import program as init
from tests.support.footprint import alive

NEWPID = 0x20000000
PROCESS: Any = {"args": ["x"], "cwd": "/", "env": ["OF=process"]}


def shell(script: str, **more: Any) -> Any:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


class Run:
    """The outcome of a program with these hooks, and what they wrote."""

    def __init__(
        self, *entries: Any, kind: str = "createContainer", state: bytes = b"{}", flags: int = 0
    ) -> None:
        self.program = init.begin()
        output = os.memfd_create("output")
        stdin = state_file(state)
        try:
            plan_hooks(
                self.program,
                kind,
                entries,
                state_fd=self.program.inherit("state"),
                output_fd=self.program.inherit("output"),
                process=PROCESS,
            )
            self.program.call("exit_group", 7, step="exit")
            self.outcome = init.run(self.program, flags, {"state": stdin, "output": output})
        finally:
            os.close(output)
            os.close(stdin)

    @property
    def failure(self) -> str:
        return explain_hook_failure(self.outcome.failure, self.outcome.failures[0].output)


def test_all_run_in_order_with_the_state(tmp_path: Path) -> None:
    state = b"state " * 30000
    run = Run(
        shell(f"cat > {tmp_path}/1"), shell(f"cat > {tmp_path}/2; ls {tmp_path} > {tmp_path}/3"), state=state
    )
    assert (run.outcome.failure, run.outcome.code) == ("", 7)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == state
    assert (tmp_path / "3").read_text().split() == ["1", "2", "3"]


def test_failure_stops_with_status_and_output(tmp_path: Path) -> None:
    run = Run(
        shell("echo of the first"), shell("echo out; echo err >&2; exit 3"), shell(f": > {tmp_path}/ran")
    )
    assert run.outcome.code == 1
    assert run.failure == "error running createContainer hook #1: exit status 3, output: out\nerr"
    assert run.outcome.failures[0].path == "hooks.createContainer[1]"
    assert not (tmp_path / "ran").exists()


def test_only_the_end_of_long_output_is_told() -> None:
    run = Run(shell("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 1"))
    assert "output: …" in run.failure and run.failure.endswith("19998\n19999")
    assert len(run.failure) < KEPT + 100


def test_signal() -> None:
    assert (
        Run(shell("kill -9 $$")).failure == "error running createContainer hook #0: signal: killed, output: "
    )


def test_missing_hook_is_named_by_the_child() -> None:
    run = Run({"path": "/no/such"}, kind="startContainer")
    assert run.failure == "error running startContainer hook #0: exec /no/such: no such file or directory"
    assert run.outcome.code == 1


@pytest.mark.parametrize("kind,env,expected", [
    ("createContainer", None, set()),
    ("startContainer", None, {"OF=process"}),
    ("startContainer", ["A=1", "A=2"], {"A=2"}),
])  # fmt: skip
def test_environment(tmp_path: Path, kind: str, env: list[str] | None, expected: set[str]) -> None:
    more = {} if env is None else {"env": env}
    run = Run(shell(f"/usr/bin/env > {tmp_path}/env", **more), kind=kind)
    assert run.outcome.code == 7
    assert (
        set((tmp_path / "env").read_text().split()) - {f"PWD={os.getcwd()}", "_=/usr/bin/env", "SHLVL=1"}
        == expected
    )


def test_descriptors(tmp_path: Path) -> None:
    run = Run(shell(f"ls /proc/self/fd > {tmp_path}/fds"))
    assert run.outcome.code == 7
    assert set((tmp_path / "fds").read_text().split()) <= {"0", "1", "2", "3"}  # 3: ls reads the folder


def test_within_its_timeout() -> None:
    started = time.monotonic()
    assert Run(shell("exit 0", timeout=30)).outcome.code == 7
    assert Run(shell("exit 2", timeout=30)).failure.endswith("#0: exit status 2, output: ")
    assert time.monotonic() - started < 5


def test_timeout_kills_the_group(tmp_path: Path) -> None:
    started = time.monotonic()
    run = Run(shell(f"sleep 62 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait", timeout=1))
    assert run.failure == "error running createContainer hook #0: hook ran past specified timeout of 1.0s"
    assert 0.9 < time.monotonic() - started < 5
    for name in ("own", "child"):  # PIDFD_SIGNAL_PROCESS_GROUP: Linux 6.9
        pid = int((tmp_path / name).read_text())
        for _ in range(100):
            if not alive(pid):
                break
            time.sleep(0.02)
        assert not alive(pid), name


def test_in_a_pid_namespace(tmp_path: Path) -> None:
    run = Run(shell(f"echo $PPID > {tmp_path}/parent", timeout=9), flags=NEWPID)
    assert run.outcome.code == 7
    assert (tmp_path / "parent").read_text() == "1\n"
