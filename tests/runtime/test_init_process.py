"""`--init`: the first process forwards signals, reaps orphans and ends as its child; what it is allowed, and holds."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.plan.talk import NAME, NAME_BEFORE
from tests.runtime.test_descriptors import activated, given, listening
from tests.runtime.test_labels import confined, profile, with_apparmor
from tests.runtime.test_sd_notify import manager
from tests.runtime.test_seccomp import rule
from tests.runtime.test_seccomp_notify import notifying
from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Container, Running, Runtime, wait_for
from tests.support.seccomp_agent import Agent, agent
from tests.support.service_manager import ServiceManager
from tests.support.terminal import ConsoleSocket

__all__ = ["manager", "profile"]  # fixtures

#: Signals that are waited for in vain, and the two that the C library keeps for itself.
NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33}
KILL = 1 << 5


def status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child_of(container: Container) -> int:
    """The container's program."""
    return children(container.pid)[0]


@pytest.fixture
def with_init(runtime: Runtime) -> Iterator[Any]:
    """Make and start containers that have an init."""
    made: list[Container] = []

    def make(bundle: Bundle, *flags: str, **how: Any) -> Container:
        container = runtime.container(bundle)
        made.append(container)
        container.create("--init", *flags, **how).ok()
        container.start().ok()
        return container

    yield make
    for container in made:
        container.delete("--force")
    footprint.reap()


@contextmanager
def held_at(runtime: Runtime, folder: Path, call: str) -> Iterator[tuple[Agent, Container, Running]]:
    """A container with init, and a `start` of it that comes no further than `call` before the agent hears SIGUSR1."""
    with agent(folder / "agent", manner="hold") as judge:
        container = runtime.container(notifying(runtime, judge.path, call, nnp=True).ask("sleep"))
        container.create("--init").ok()
        yield judge, container, runtime.spawn("start", container.id)


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


# -- what it is allowed, and what it holds ------------------------------------------------------------------


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


@pytest.mark.needs_root
def test_no_capability_that_the_program_has_not(runtime: Runtime, with_init: Any) -> None:
    """What is not in the bounding set root loses as its program is executed."""
    bundle = runtime.bundle().ask("sleep")
    bundle.process["capabilities"] = {"effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}
    container = with_init(bundle)
    container.says("ready")
    assert [int(status(pid)["CapPrm"], 16) for pid in (container.pid, child_of(container))] == [0, 0]


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


# -- terminal, sockets, service manager ---------------------------------------------------------------------


def test_terminal(runtime: Runtime) -> None:
    """The program's session has it, and its keys; init is elsewhere."""
    bundle = runtime.bundle().ask("tty", "open /dev/tty rw", "signals")
    bundle.process["terminal"] = True
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--init", "--console-socket", str(socket.path)).ok()
        master = socket.receive()
        text = master.read("ready").replace("\r\n", "\n")
        said = bundle.testimony(text)
        assert said["tty"]["isatty"] == [True, True, True]
        assert said["tty"]["session"] == said["tty"]["sid"] == 2
        assert said["open /dev/tty rw"] == 0
        stat = Path(f"/proc/{container.pid}/stat").read_text().split()
        assert stat[6] == "0", "init has no controlling terminal"
        master.write("\x03")
        master.read('"signal","answer":2}')
        master.resize(50, 60)
        master.read('"signal","answer":28}')
        master.close()  # hang up: SIGHUP is for the leader of the session
        wait_for(lambda: container.kill("TERM").status == 0 and container.status == "stopped", say="its end")


def test_job_control(runtime: Runtime) -> None:
    """An interactive shell can put jobs into the foreground: nobody of another group has the terminal."""
    bundle = runtime.bundle()
    bundle.process.update(terminal=True, args=["sh", "-i"])
    container = runtime.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        container.run_detached("--init", "--console-socket", str(socket.path)).ok()
        master = socket.receive()
        master.write("sleep 1000\n")
        wait_for(lambda: in_foreground(child_of(container)) == children(child_of(container)), say="the job")
        master.write("\x1a")
        master.read("Stopped")
        master.write("kill %1; fg; echo $((6*7))\n")
        master.read("42")
        master.write("exit 5\n")
        master.read()
    assert "job control turned off" not in master.text
    container.stops()


def in_foreground(pid: int) -> list[int]:
    """The leader of the foreground group of the terminal of a process."""
    return [int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[5])]


@pytest.mark.parametrize("private", [True, False], ids=["own-pid-namespace", "hosts-pid-namespace"])
@pytest.mark.parametrize("detached", [True, False])
def test_socket_activation(runtime: Runtime, folder: Path, private: bool, detached: bool) -> None:
    """LISTEN_PID is the pid of the program, which need not be 2: hooks have had one before."""
    twin = activated(runtime, 1, "LISTEN_FDNAMES=web")
    bundle = twin.bundle().ask("pid", "env", "readfd 3", "nap 0.1")
    bundle.hook("startContainer", "true; exit 0")
    if not private:
        bundle.without_namespace("pid")
    how: dict[str, Any] = {"preexec_fn": given(folder, "three"), "close_fds": False}
    if detached:
        container = twin.container(bundle)
        container.create("--init", **how).ok()
        runtime.verb("start", container.id).ok()
        container.stops()
        said = container.testimony
    else:
        said = twin.run(bundle, "--init", **how).ok().testimony
    assert said["pid"] != 1 and said["readfd 3"] == "three"
    assert not private or said["pid"] > 2
    assert listening(said["env"]) == {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(said["pid"]),
        "LISTEN_FDNAMES": "web",
    }


def test_main_pid(runtime: Runtime, manager: ServiceManager) -> None:
    """The service manager is told of init: with that the container ends."""
    bundle = runtime.bundle().ask("notify READY=1", "sleep")
    container = runtime.container(bundle)
    words = ["run", "--init", "--detach", "--bundle", runtime.put(bundle, container.id), container.id]
    running = runtime.spawn(*words, env=manager.env)
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    assert manager.texts == [f"READY=1\nMAINPID={container.pid}"]
    container.kill("KILL").ok()


# -- what goes wrong ---------------------------------------------------------------------------------------


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


# -- other verbs -------------------------------------------------------------------------------------------


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
