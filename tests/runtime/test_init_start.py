"""`--init`: until the program runs, and who is held up or killed before."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrunc.plan.talk import NAME, NAME_BEFORE
from tests.runtime.test_seccomp import rule
from tests.runtime.test_seccomp_notify import notifying
from tests.support.init_process import child_of, children, status
from tests.support.runtime import Container, Running, Runtime, wait_for
from tests.support.seccomp_agent import Agent, agent


@contextmanager
def held_at(runtime: Runtime, folder: Path, call: str) -> Iterator[tuple[Agent, Container, Running]]:
    """A container with init, and a `start` of it that comes no further than `call` before the agent hears SIGUSR1."""
    with agent(folder / "agent", manner="hold") as judge:
        container = runtime.container(notifying(runtime, judge.path, call, nnp=True).ask("sleep"))
        container.create("--init").ok()
        yield judge, container, runtime.spawn("start", container.id)


def test_no_program_runs_beside_an_init_that_may_more(runtime: Runtime, tmp_path: Path) -> None:
    """It waits until init has given up its rights: here init is kept from it, by an agent that does not answer."""
    with held_at(runtime, tmp_path, "capset") as (_, container, starting):
        wait_for(lambda: children(container.pid), say="the child")
        time.sleep(0.3)
        assert status(child_of(container))["Name"] == NAME_BEFORE and not container.out
        container.kill("KILL").ok()
        starting.wait()
        container.stops()


def test_no_program_can_keep_start(runtime: Runtime, tmp_path: Path) -> None:
    """When the program begins, init has nothing to take from it, and `start` needs it no more: here init is stopped."""
    with held_at(runtime, tmp_path, "execve") as (judge, container, starting):
        wait_for(lambda: judge.messages and children(container.pid), say="the child")
        first = container.pid
        wait_for(lambda: len(os.listdir(f"/proc/{first}/fd")) == 5, say="the closing")
        held = sorted(os.readlink(f"/proc/{first}/fd/{number}") for number in os.listdir(f"/proc/{first}/fd"))
        assert [text.partition(":")[0] for text in held].count("pipe") == 2 and "socket" not in str(held)
        os.kill(first, signal.SIGSTOP)
        os.kill(judge.pid, signal.SIGUSR1)
        container.says("ready")
        starting.wait().ok()
        os.kill(first, signal.SIGCONT)
        wait_for(lambda: Path(f"/proc/{first}/comm").read_text() == f"{NAME}\n", say="its name")
        container.kill("TERM").ok()
        container.stops()


@pytest.mark.parametrize("init", [True, False])
def test_a_program_that_cannot_be_executed(runtime: Runtime, init: bool) -> None:
    """It is told at `start`, in the same words."""
    bundle = runtime.bundle()
    (bundle.rootfs / "bin" / "script").write_text("#!/no/such/interpreter\n")
    (bundle.rootfs / "bin" / "script").chmod(0o755)
    bundle.process["args"] = ["script"]
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create(*["--init"] * init).ok()
    container.start().fails("exec script: no such file or directory", "/no/such/interpreter")
    container.stops()
    container.delete().ok()
    before.assert_unchanged()


def test_a_program_that_is_killed_before(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("KILL_PROCESS", "execve"))
    container = runtime.container(bundle)
    container.create("--init").ok()
    container.start().fails("container init was killed before it could execute its program")
    container.stops()


def test_an_init_that_is_killed_before(runtime: Runtime) -> None:
    """In a hook of the container: it has no child yet that could tell."""
    container = runtime.container(runtime.bundle().hook("startContainer", "sleep 1000"))
    container.create("--init").ok()
    starting = runtime.spawn("start", container.id)
    wait_for(lambda: children(container.pid), say="the hook")
    container.kill("KILL").ok()
    starting.wait().fails("container init was killed before it could execute its program")
    container.stops()


def test_an_exec_that_is_killed_before(runtime: Runtime, tmp_path: Path) -> None:
    """The name of what joins tells whether it has executed its program, as in a container without an init."""
    with held_at(runtime, tmp_path, "execve") as (judge, container, starting):
        wait_for(lambda: judge.messages, say="the listener of the program")
        os.kill(judge.pid, signal.SIGUSR1)
        starting.wait().ok()
        ours = {container.pid, child_of(container)}
        joining = runtime.spawn("exec", container.id, "true")
        wait_for(lambda: len(judge.messages) == 2, say="the listener of what joins")
        (joined,) = set(json.loads(runtime.verb("ps", "-f", "json", container.id).ok().out)) - ours
        os.kill(joined, signal.SIGKILL)
        joining.wait().fails("the process was killed before it could execute its program")
        container.kill("KILL").ok()
        container.stops()


def test_a_killed_create_takes_no_foreign_init_along(runtime: Runtime, with_init: Any) -> None:
    """`delete --force` of what a killed `create` has left ends inits that wait, not one that runs."""
    container = with_init(runtime.bundle().sleeper())
    container.says("ready")
    state = json.loads((runtime.root / container.id / "state.json").read_text())
    state.update(id=runtime.new_id(), pid=0, start_time=0, ready=False, creator=[0, 0])
    (runtime.root / state["id"]).mkdir()
    (runtime.root / state["id"] / "state.json").write_text(json.dumps(state))
    runtime.verb("delete", "--force", state["id"])
    assert container.status == "running"
