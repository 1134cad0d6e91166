"""`--init`: the first process forwards signals, reaps orphans and ends as its child."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_seccomp import rule
from tests.support import footprint
from tests.support.init_process import child_of, children, status
from tests.support.runtime import Runtime, wait_for

#: Signals that are waited for in vain, and the two that the C library keeps for itself.
NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33}

# -- who is who --------------------------------------------------------------------------------------------


def test_the_program_is_the_child_of_init(runtime: Runtime, with_init: Any) -> None:
    bundle = runtime.bundle().ask("pid", "ppid", "sleep")
    before = runtime.footprint(bundle)
    file = runtime.folder / "pid"
    container = with_init(bundle, "--pid-file", str(file))
    container.says("ready")
    first = container.pid
    assert (container.testimony["pid"], container.testimony["ppid"]) == (2, 1)
    assert file.read_text() == str(first)
    assert os.readlink(f"/proc/{first}/exe").startswith("/memfd:pyrunc-init ")
    assert Path(f"/proc/{first}/comm").read_text() == "pyrunc-init\n"
    assert status(first)["NSpid"].split()[-1] == "1"
    file.unlink()
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    before.assert_unchanged()


def test_by_annotation(runtime: Runtime) -> None:
    for value, pid in (("true", 2), ("1", 2), ("false", 1), ("0", 1), ("", 1)):
        bundle = runtime.bundle()
        bundle.config["annotations"] = {"run.pyrunc.init": value}
        assert runtime.ask(bundle, "pid")["pid"] == pid
    bundle.config["annotations"] = {"run.pyrunc.init": "yes"}
    runtime.run(bundle).fails('annotations["run.pyrunc.init"]', "use true or false")


def test_the_process_is_what_it_is_without(runtime: Runtime) -> None:
    """Signals, identity, rights, session, descriptors."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
    bundle.ask(
        "signal-state", "ids", "caps", "nnp", "seccomp", "pdeathsig", "dumpable", "fds", "cwd", "rlimits"
    )
    without, within = (runtime.run(bundle, *flags).ok().testimony for flags in ((), ("--init",)))
    for said, pid in ((without, 1), (within, 2)):
        assert (said["ids"].pop("sid"), said["ids"].pop("pgid")) == (pid, pid), "it leads its session"
        said["fds"] = sorted(said["fds"])
    assert within == without
    assert within["signal-state"]["blocked"] == []
    assert within["fds"] == ["0", "1", "2"]


@pytest.mark.parametrize("init", [True, False])
def test_a_caller_that_ignores_the_end_of_children(runtime: Runtime, init: bool) -> None:
    """What is ignored stays so over execve(2), and a parent that ignores SIGCHLD never learns a status."""

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    bundle = runtime.bundle().ask("signal-state", "exit 4")
    assert runtime.run(bundle, *["--init"] * init, preexec_fn=ignore).status == 4


def test_exec_and_ps(runtime: Runtime, with_init: Any) -> None:
    """What joins is nobody's child in there; what it leaves behind is init's to reap."""
    container = with_init(runtime.bundle().sleeper())
    container.says("ready")
    outcome = runtime.verb("exec", container.id, "sh", "-c", "(sleep 0.1 &); echo $$")
    assert int(outcome.ok().out) > 2
    wait_for(lambda: children(container.pid) == [child_of(container)], say="the end of the orphan")
    assert json.loads(runtime.verb("ps", "-f", "json", container.id).ok().out) == sorted(
        [container.pid, child_of(container)]
    )


def test_rootless(runtime: Runtime) -> None:
    user = runtime.as_user(1000, 1000) if not os.geteuid() else runtime
    bundle = user.bundle().ask("pid", "signals")
    if not os.geteuid():
        bundle.rootless(1000, 1000)
    container = user.container(bundle)
    container.create("--init").ok()
    container.start().ok()
    container.says("ready")
    container.kill("USR1").ok()
    container.says(f'"signal","answer":{signal.SIGUSR1:d}}}')
    container.kill("TERM").ok()
    container.stops()
    assert container.testimony["pid"] == 2
    container.delete().ok()


# -- its end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 128, 143, 255])
def test_exit_status(runtime: Runtime, code: int) -> None:
    assert runtime.run(runtime.bundle().ask(f"exit {code}"), "--init").status == code


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 15, 31, 34, 64])
def test_the_signal_that_ended_it(runtime: Runtime, number: int) -> None:
    """128 + n, with a core dump (which sets another bit of the status) too; without an init pid 1 is deaf to most."""
    bundle = runtime.bundle().ask(f"raise {number}")
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 1 << 20, "hard": 1 << 20}]
    assert runtime.run(bundle, "--init").status == 128 + number


def test_a_program_that_ends_at_once(runtime: Runtime, with_init: Any) -> None:
    """It has run, and `start` says so, however quick it was."""
    for _ in range(10):
        container = with_init(runtime.bundle().ask("raise 9"))
        container.stops()
        container.delete().ok()


@pytest.mark.needs_root
def test_a_program_that_ends_at_once_with_little_memory(runtime: Runtime) -> None:
    """Then the runtime looks for its end, and takes it for no failure."""
    bundle = runtime.bundle().ask("exit 4")
    bundle.linux["resources"] = {"memory": {"limit": 1 << 20}}
    assert runtime.run(bundle, "--init").status == 4


def test_everybody_ends_with_the_program(runtime: Runtime, with_init: Any) -> None:
    container = with_init(runtime.bundle().ask("orphan", "sleep"))
    container.says("ready")
    everyone = [container.pid, *children(container.pid), *children(child_of(container))]
    assert len(everyone) == 3
    container.kill("TERM").ok()
    container.stops()
    wait_for(lambda: not any(footprint.stat_of(pid) for pid in everyone[1:]), say="the end of all")


# -- signals -----------------------------------------------------------------------------------------------


def test_every_signal_is_forwarded(runtime: Runtime, with_init: Any) -> None:
    container = with_init(runtime.bundle().ask("signals"))
    container.says("ready")
    for number in range(1, 65):
        if number not in NOT_FORWARDED and number != signal.SIGTERM:
            container.kill(str(number)).ok()
            container.says(f'"signal","answer":{number}}}')
    container.kill("TERM").ok()
    container.stops()
    said = [answer for ask, answer in container.testimony.said if ask == "signal"]
    assert sorted(said) == sorted(set(range(1, 65)) - NOT_FORWARDED), "each once"


def test_default_actions_are_carried_out(runtime: Runtime) -> None:
    """The reason to have an init: a program that has no handler would not end as pid 1."""
    bundle = runtime.bundle().shell("echo up; exec sleep 1000")
    id = runtime.new_id()
    going = runtime.spawn("run", "--init", "--bundle", runtime.put(bundle, id), id)
    going.says("up")
    going.process.terminate()
    assert going.wait().status == 128 + signal.SIGTERM


def test_a_signal_from_inside(runtime: Runtime) -> None:
    """`kill 1` reaches the program; SIGKILL reaches nobody, as without an init."""
    script = "trap 'echo terminated; exit 3' TERM; kill -9 1; (sleep 0.1; kill 1) & wait; wait"
    outcome = runtime.run(runtime.bundle().shell(script), "--init")
    assert (outcome.status, outcome.out) == (3, "terminated\n")


# -- orphans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False], ids=["own-pid-namespace", "hosts-pid-namespace"])
def test_orphans_are_reaped(runtime: Runtime, with_init: Any, private: bool) -> None:
    """Many at once, for signals do not queue; those of hooks that ran before, too."""
    count = "1 2 3 4 5 6 7 8 9"
    script = f"for i in {count}; do (sh -c 'read line </area/end' &); done; echo up; exec sleep 1000"
    bundle = runtime.bundle().shell(script)
    os.mkfifo(bundle.rootfs / "area" / "end")
    bundle.hook("startContainer", "sleep 0 & exit 0")
    if not private:
        bundle.without_namespace("pid")
    container = with_init(bundle)
    container.says("up")
    wait_for(lambda: len(children(container.pid)) == 10, say="the adoption of the orphans")
    (bundle.rootfs / "area" / "end").write_text("x\n" * 9)
    wait_for(lambda: len(children(container.pid)) == 1, say="the end of the orphans")
    assert status(child_of(container))["Name"] == "sleep"


def test_without_a_pid_namespace_the_program_ends_with_init(runtime: Runtime) -> None:
    """Nothing else would end it where there is no cgroup either."""
    runtime.globals = ["--cgroup-manager", "disabled"]
    container = runtime.container(runtime.bundle().without_namespace("pid").ask("pdeathsig", "sleep"))
    container.create("--init").ok()
    container.start().ok()
    container.says("ready")
    assert container.testimony["pdeathsig"] == signal.SIGKILL
    child = child_of(container)
    container.kill("KILL").ok()
    wait_for(lambda: (footprint.stat_of(child) or ("", "Z"))[1] == "Z", say="the end of the program")
    container.delete().ok()
    footprint.reap()
