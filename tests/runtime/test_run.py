"""`run`: exit statuses, signals, detached, kept, pid files, descriptors passed on."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.runtime import Runtime, wait_for


@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
def test_exit_status(runtime: Runtime, status: int) -> None:
    bundle = runtime.bundle().ask(f"exit {status}")
    before = runtime.footprint(bundle)
    outcome = runtime.run(bundle)
    assert (outcome.status, outcome.err) == (status, "")
    before.assert_unchanged()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_killed_by_a_signal(runtime: Runtime, number: int) -> None:
    """128 + n. Without a PID namespace, since pid 1 of one is deaf to signals from inside."""
    bundle = runtime.bundle().without_namespace("pid").ask(f"raise {int(number)}")
    assert runtime.run(bundle).status == 128 + number


def test_killed_from_outside(runtime: Runtime) -> None:
    id = runtime.new_id()
    going = runtime.spawn("run", "--bundle", runtime.put(runtime.bundle().sleeper(), id), id)
    going.says("ready")
    runtime.verb("kill", id, "KILL").ok()
    assert going.wait().status == 137


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15, 34])
def test_signals_are_forwarded(runtime: Runtime, number: int) -> None:
    id = runtime.new_id()
    going = runtime.spawn("run", "--bundle", runtime.put(runtime.bundle().ask("signals"), id), id)
    going.says("ready")
    going.process.send_signal(number)
    going.says(f'"signal","answer":{number}')
    if number != 15:
        going.process.send_signal(15)
    assert going.wait().status == 0


def test_stdin_stdout_stderr(runtime: Runtime) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"hello\n")
    os.close(writer)
    outcome = runtime.run(runtime.bundle().shell("cat; echo problem >&2; exit 4"), stdin=reader)
    os.close(reader)
    assert (outcome.status, outcome.out, outcome.err) == (4, "hello\n", "problem\n")


def test_large_output(runtime: Runtime) -> None:
    outcome = runtime.run(
        runtime.bundle().shell(
            "i=0; while [ $i -lt 3000 ]; do echo $i-aaaaaaaaaaaaaaaaaaaaaaaaaa; i=$((i+1)); done"
        )
    )
    assert outcome.ok().out.count("\n") == 3000


def test_child_of_init_left_in_the_pid_namespace(runtime: Runtime) -> None:
    """When pid 1 ends, so does the rest; run does not wait for anything else."""
    started = time.monotonic()
    assert runtime.run(runtime.bundle().shell("sleep 100 & exit 5")).status == 5
    assert time.monotonic() - started < 10


def test_detached(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.run_detached().ok()
    container.says("ready")
    assert container.status == "running"
    container.kill("TERM").ok()
    container.stops()
    assert container.state()["status"] == "stopped"  # only delete removes it
    container.delete().ok()


def test_short_flags(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    runtime.verb("run", "-d", "-b", runtime.put(container.bundle, container.id), container.id).ok()
    assert container.status == "running"
    runtime.verb("delete", "-f", container.id).ok()


def test_bundle_is_the_current_directory(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("pid")
    id = runtime.new_id()
    runtime.put(bundle, id)
    assert runtime.verb("run", id, cwd=bundle.path).ok().testimony["pid"] == 1


def test_keep(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().ask("exit 7"))
    assert (
        runtime.verb(
            "run", "--keep", "--bundle", runtime.put(container.bundle, container.id), container.id
        ).status
        == 7
    )
    assert container.status == "stopped"
    container.delete().ok()


@pytest.mark.parametrize("verb", ["create", "run"])
def test_pid_file(runtime: Runtime, verb: str) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    file = runtime.folder / "pid"
    (container.create if verb == "create" else container.run_detached)("--pid-file", str(file)).ok()
    assert file.read_text() == str(container.pid)
    assert [p.name for p in runtime.folder.iterdir() if "pid" in p.name] == ["pid"]


def test_pid_file_that_cannot_be_written(runtime: Runtime) -> None:
    """The container is undone, and no half-made file stays."""
    folder = runtime.folder / "pids"
    (folder / "taken").mkdir(parents=True)
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    runtime.container(bundle).create("--pid-file", str(folder / "taken")).fails("write the pid file")
    assert [entry.name for entry in folder.iterdir()] == ["taken"]
    before.assert_unchanged()


def test_pid_file_relative_to_the_caller(runtime: Runtime) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    here = runtime.folder / "here"
    here.mkdir()
    container.create("--pid-file", "my.pid", cwd=here).ok()
    assert (here / "my.pid").read_text() == str(container.pid)


def test_preserve_fds(runtime: Runtime, folder: Path) -> None:
    """Descriptors 3 to 4 reach the process, nothing else does."""
    for name in ("three", "four", "five"):
        (folder / name).write_text(name)
    descriptors = [os.open(folder / name, os.O_RDONLY) for name in ("three", "four", "five")]

    def arrange() -> None:
        copies = [os.dup2(fd, 40 + i) for i, fd in enumerate(descriptors)]
        for i, fd in enumerate(copies):
            os.dup2(fd, 3 + i)

    bundle = runtime.bundle().ask("readfd 3", "readfd 4", "fds")
    outcome = runtime.run(bundle, "--preserve-fds", "2", preexec_fn=arrange, close_fds=False)
    for fd in descriptors:
        os.close(fd)
    said = outcome.ok().testimony
    assert (said["readfd 3"], said["readfd 4"]) == ("three", "four")
    assert sorted(said["fds"]) == ["0", "1", "2", "3", "4"]


def test_preserved_fd_that_is_not_open(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    before = runtime.footprint(bundle)
    runtime.run(bundle, "--preserve-fds", "3").fails("preserve", "fd")
    before.assert_unchanged()


def test_preserved_fd_that_is_the_runtimes_own(runtime: Runtime) -> None:
    """Descriptor 3 is not given, but the runtime's log may have that number: the container must not get it."""
    twin = runtime.like()
    twin.globals = [*runtime.globals, "--log", str(runtime.folder / "log")]
    bundle = runtime.bundle().ask("fds")
    before = twin.footprint(bundle)
    for count in range(1, 5):
        twin.run(bundle, "--preserve-fds", str(count)).fails("preserved-fd", "bad file descriptor")
    (runtime.folder / "log").unlink()
    before.assert_unchanged()


def test_more_preserved_fds_than_init_can_be_given(runtime: Runtime) -> None:
    def arrange() -> None:
        for number in range(3, 303):
            os.dup2(0, number)

    bundle = runtime.bundle().ask("fds")
    outcome = runtime.run(bundle, "--preserve-fds", "300", preexec_fn=arrange, close_fds=False)
    outcome.fails("300 descriptors", "at most 200")
    many = runtime.run(bundle, "--preserve-fds", "200", preexec_fn=arrange, close_fds=False).ok()
    assert len(many.testimony["fds"]) == 203


def test_listen_fds(runtime: Runtime) -> None:
    """systemd's socket activation: LISTEN_FDS counts, LISTEN_PID is 1 inside."""
    with socket.socket(socket.AF_UNIX) as listener:

        def arrange() -> None:
            os.dup2(listener.fileno(), 40)
            os.dup2(40, 3)
            os.close(40)
            os.environb[b"LISTEN_PID"] = str(os.getpid()).encode()

        # The shell knows its own pid, which exec keeps: LISTEN_PID must name the runtime itself.
        twin = runtime.like()
        twin.prefix = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh"]
        outcome = twin.run(runtime.bundle().ask("env", "fds"), preexec_fn=arrange, close_fds=False)
    said = outcome.ok().testimony
    assert "LISTEN_FDS=1" in said["env"] and "LISTEN_PID=1" in said["env"]
    assert sorted(said["fds"]) == ["0", "1", "2", "3"]
    assert said["fds"]["3"].startswith("socket:")


def test_no_descriptor_leaks(runtime: Runtime) -> None:
    """The caller's open files are not the container's."""
    extra = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(extra, True)
    said = runtime.run(runtime.bundle().ask("fds"), close_fds=False).ok().testimony
    os.close(extra)
    assert sorted(said["fds"]) == ["0", "1", "2"]


def test_callers_environment_does_not_leak(runtime: Runtime) -> None:
    said = runtime.run(runtime.bundle().ask("env"), env={"SECRET": "x"}).ok().testimony
    assert not any(entry.startswith("SECRET") for entry in said["env"])


def test_empty_environment(runtime: Runtime) -> None:
    """The runtime works with no environment at all."""
    twin = runtime.like()
    twin.env = {}
    assert twin.ask(runtime.bundle(), "pid")["pid"] == 1


def test_signals_are_as_they_should_be(runtime: Runtime) -> None:
    """Nothing is blocked or ignored in the container because the runtime blocked or ignored it."""
    said = runtime.ask(runtime.bundle(), "signal-state")
    assert said["signal-state"]["blocked"] == []
    assert 13 not in said["signal-state"]["ignored"]


def test_parent_death_signal_is_clear(runtime: Runtime) -> None:
    assert runtime.ask(runtime.bundle(), "pdeathsig", "securebits") == {"pdeathsig": 0, "securebits": 0}


def test_foreground_run_leaves_nothing_when_its_caller_goes(runtime: Runtime) -> None:
    """SIGHUP reaches the process (a terminal that is closed), and all is cleaned up."""
    bundle = runtime.bundle().shell("trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done")
    before = runtime.footprint(bundle)
    id = runtime.new_id()
    going = runtime.spawn("run", "--bundle", runtime.put(bundle, id), id)
    going.says("ready")
    going.process.send_signal(signal.SIGHUP)
    assert going.wait().status == 9
    before.assert_unchanged()


def test_orphans_are_reaped_while_running(runtime: Runtime) -> None:
    """A foreground run is a subreaper: orphans of a container without PID namespace do not stay zombies."""
    bundle = (
        runtime.bundle()
        .without_namespace("pid")
        .shell("(sleep 0.05 & echo orphan $!); echo ready; exec sleep 5")
    )
    id = runtime.new_id()
    going = runtime.spawn("run", "--bundle", runtime.put(bundle, id), id)
    going.says("ready")
    orphan = int(going.out.split("orphan ")[1].split()[0])
    wait_for(lambda: footprint.stat_of(orphan) is None, say="the orphan reaped")
    runtime.verb("kill", id, "KILL").ok()
    assert going.wait().status == 137
