"""`--init`: what the first process is allowed, and what it holds; never more than the program."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.numbers import SYSCALLS
from tests.runtime.test_descriptors import given
from tests.runtime.test_labels import confined, profile, with_apparmor
from tests.runtime.test_seccomp import rule
from tests.support.init_process import child_of, status
from tests.support.runtime import Runtime

__all__ = ["profile"]  # a fixture
KILL = 1 << 5


@pytest.mark.needs_root
@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("uid", [0, 1000])
def test_its_rights(runtime: Runtime, with_init: Any, uid: int, nnp: bool) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl")).ask("sleep")
    bundle.process.update(noNewPrivileges=nnp, user={"uid": uid, "gid": uid, "additionalGids": [7]})
    container = with_init(bundle)
    container.says("ready")
    mine, its = status(container.pid), status(child_of(container))
    for name in ("Uid", "Gid", "Groups", "CapBnd"):
        assert mine[name] == its[name], name
    assert int(mine["CapPrm"], 16) == int(mine["CapEff"], 16) == (0 if uid else KILL)
    assert int(mine["CapInh"], 16) == int(mine["CapAmb"], 16) == 0
    assert (mine["NoNewPrivs"], its["NoNewPrivs"]) == ("1", str(int(nnp)))
    if "Seccomp_filters" in mine:
        assert (mine["Seccomp_filters"], its["Seccomp_filters"]) == ("2", "1")
    # The owner of its files in /proc, and who may look at them, are as for any program.
    assert os.stat(f"/proc/{container.pid}/fd").st_uid == uid
    assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
    footprint_of = int(mine["VmRSS"].split()[0])
    assert footprint_of <= 64, f"{footprint_of} kB"


@pytest.mark.needs_root
def test_no_capability_that_the_program_has_not(runtime: Runtime, with_init: Any) -> None:
    """What is not in the bounding set root loses as its program is executed."""
    bundle = runtime.bundle().ask("sleep")
    bundle.process["capabilities"] = {"effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}
    container = with_init(bundle)
    container.says("ready")
    assert [int(status(pid)["CapPrm"], 16) for pid in (container.pid, child_of(container))] == [0, 0]


@pytest.mark.needs_root
@pytest.mark.parametrize("kept", [["CAP_KILL"], []])
def test_a_program_that_changes_its_user(runtime: Runtime, with_init: Any, kept: list[str]) -> None:
    """As with gosu: init keeps CAP_KILL for it, if the process has it, and nothing else."""
    bundle = runtime.bundle().ask(f"syscall {SYSCALLS['setresuid']} 1000 1000 1000", "signals")
    bundle.process["capabilities"] = {
        kind: ["CAP_SETUID", "CAP_SETGID", *kept] for kind in ("bounding", "effective", "permitted")
    }
    container = with_init(bundle)
    container.says("ready")
    assert status(child_of(container))["Uid"].split() == ["1000"] * 4
    assert (
        int(status(container.pid)["CapPrm"], 16)
        == int(status(container.pid)["CapEff"], 16)
        == (KILL if kept else 0)
    )
    container.kill("USR1").ok()
    if kept:
        container.says(f'"signal","answer":{signal.SIGUSR1:d}}}')
    else:
        container.kill("TERM").ok()
        assert container.status == "running"
        assert "answer" not in container.out.partition("ready")[2]


@with_apparmor
@pytest.mark.needs_root
def test_its_profile(runtime: Runtime, with_init: Any, profile: str) -> None:
    """The process's, so that one may signal the other."""
    container = with_init(confined(runtime, profile).ask("sleep"))
    container.says("ready")
    for pid in (container.pid, child_of(container)):
        assert Path(f"/proc/{pid}/attr/current").read_text() == f"{profile} (enforce)\n"
    container.kill("TERM").ok()
    container.stops()


def test_the_log_of_pid_1(runtime: Runtime) -> None:
    """Images write to /proc/1/fd/1, also as another user than root."""
    bundle = runtime.bundle().shell("echo told >/proc/1/fd/1")
    if not os.geteuid():
        bundle.process["user"] = {"uid": 1000, "gid": 1000}
    assert runtime.run(bundle, "--init").ok().out == "told\n"


def test_nothing_of_the_host_is_left_in_it(runtime: Runtime, with_init: Any) -> None:
    """Neither paths of the host, nor what hooks are given, in any page that a process of the container could read."""
    secret = "TOKEN=of-a-hook-of-the-host"
    source = runtime.folder / "a-directory-of-the-host"
    source.mkdir()
    bundle = runtime.bundle().ask("sleep").bind(source, "/area")
    bundle.hook("createContainer", "true", env=[secret])
    bundle.process["env"] += ["OF_THE_PROCESS=1"]
    container = with_init(bundle)
    container.says("ready")
    memory = memory_of(container.pid)
    assert b"pyrunc-init" in memory, "the search finds what is there"
    for text in (secret, str(source), str(bundle.rootfs), "OF_THE_PROCESS", "testify"):
        assert text.encode() not in memory, text


def memory_of(pid: int) -> bytes:
    """Everything readable in the address space of a process."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()  # type: ignore[union-attr]
            if "r" in rights and not line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                memory.seek(int(first, 16))
                found += memory.read(int(last, 16) - int(first, 16))
    return found


def test_preserved_descriptors_are_the_programs(runtime: Runtime, with_init: Any, folder: Path) -> None:
    bundle = runtime.bundle().ask("fds", "readfd 3", "sleep")
    how = {"preexec_fn": given(folder, "three"), "close_fds": False}
    container = with_init(bundle, "--preserve-fds", "1", **how)
    container.says("ready")
    assert sorted(container.testimony["fds"]) == ["0", "1", "2", "3"]
    assert container.testimony["readfd 3"] == "three"
    assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]


# -- what it cannot have -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rt_sigtimedwait", "wait4", "kill", "close_range", "prctl"])
@pytest.mark.parametrize("nnp", [True, False])
def test_a_filter_that_does_not_let_it_work(runtime: Runtime, name: str, nnp: bool) -> None:
    """Told by name: at `create`, if the filter is there by then."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", name))
    bundle.process["noNewPrivileges"] = nnp
    container = runtime.container(bundle.sleeper())
    before = runtime.footprint(bundle)
    outcome = container.create("--init")
    if nnp:
        outcome.ok()
        outcome = container.start()
    outcome.fails(f"seccomp filter allows {name}, which the container's init needs")
    if nnp:
        container.stops()
        container.delete().ok()
    before.assert_unchanged()


@pytest.mark.parametrize("name", ["capset", "seccomp"])
def test_a_filter_that_refuses_only_to_give_up_rights(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", name))
    assert runtime.run(bundle.ask("exit 4"), "--init").status == 4


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "SCHED_DEADLINE", "runtime": 1 << 20, "deadline": 1 << 24, "period": 1 << 24},
        {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
    ],
)
def test_a_policy_that_no_child_has(runtime: Runtime, scheduler: dict[str, Any]) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = scheduler
    runtime.run(bundle, "--init").fails("process.scheduler", "do without --init")


@pytest.mark.needs_root
def test_a_limit_of_one_process(runtime: Runtime) -> None:
    """Nobody else fits in beside init: an error of `start`, and nothing is left."""
    bundle = runtime.bundle()
    bundle.linux["resources"] = {"pids": {"limit": 1}}
    before = runtime.footprint(bundle)
    runtime.run(bundle, "--init").fails("start the process beside its init: resource temporarily unavailable")
    before.assert_unchanged()
