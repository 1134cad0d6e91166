"""exec: what the process is, and what of it the command line and a file change."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import footprint
from tests.support.bundle import CAPABILITIES, PATH, Bundle
from tests.support.payload import Testimony
from tests.support.runtime import Container, Runtime, wait_for

ANN = 1000
CAP_CHOWN, CAP_SYS_CHROOT = 0, 18


@pytest.fixture
def container(runtime: Runtime) -> Iterator[Container]:
    """A container whose first process waits."""
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        yield container


def process_file(container: Container, **process: Any) -> str:
    """A file for --process."""
    path = container.runtime.folder / "process.json"
    path.write_text(json.dumps({"cwd": "/", "env": [PATH], **process}))
    return str(path)


def processes_in(container: Container) -> list[int]:
    """Who is in the container's PID namespace, seen from the host."""
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "ns" / "pid") == namespace:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended, or is somebody else's
    return found


def no_second_process(container: Container) -> None:
    """Nobody but the first process is in the container."""

    def alone() -> bool:
        footprint.reap()  # whose runtime was killed is a child of this process
        return processes_in(container) == [container.pid]

    wait_for(alone, 5, "the end of all others")


def test_it_is_a_process_of_the_container(container: Container) -> None:
    """In its namespaces, with the identity, limits and environment of the first process, and nothing of the host's."""
    questions = (
        "pid",
        "ppid",
        "args",
        "env",
        "cwd",
        "ids",
        "caps",
        "nnp",
        "fds",
        "namespaces",
        "pdeathsig",
        "uname",
    )
    said = container.asks(*questions)
    assert said["pid"] > 1 and said["ppid"] == 0
    assert said["args"][0] == "testify"
    assert sorted(said["env"]) == sorted([PATH, "TERM=xterm", "HOME=/root"])
    assert said["cwd"] == "/"
    assert (said["ids"]["uid"], said["ids"]["gid"]) == ([0] * 3, [0] * 3)
    assert said["ids"]["groups"] == [] or os.geteuid()  # who may not change his own has them in there, too
    assert sorted(said["caps"]["effective"]) == sorted(said["caps"]["permitted"])
    assert said["caps"]["inheritable"] == said["caps"]["ambient"] == []
    assert len(said["caps"]["bounding"]) == len(CAPABILITIES)
    assert said["nnp"] == 1
    assert sorted(said["fds"]) == ["0", "1", "2"]
    assert said["pdeathsig"] == 0
    assert said["uname"]["hostname"] == "inside"
    for name, link in said["namespaces"].items():
        assert link == os.readlink(f"/proc/{container.pid}/ns/{name}"), name


def test_exit_status(container: Container) -> None:
    assert container.exec(["sh", "-c", "exit 7"]).status == 7
    assert container.exec(["sh", "-c", "kill -9 $$"]).status == 128 + 9
    assert container.exec(["true"]).status == 0


def test_stdio_is_the_callers(container: Container) -> None:
    read, write = os.pipe()
    os.write(write, b"a line\n")
    os.close(write)
    done = container.exec(["sh", "-c", "cat; echo to stderr >&2"], stdin=read)
    assert (done.out, done.err) == ("a line\n", "to stderr\n")


def test_what_follows_the_id_is_the_command(container: Container) -> None:
    assert container.exec(["echo", "-d", "--cwd", "/tmp", "--help"]).ok().out == "-d --cwd /tmp --help\n"


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (["no-such-program"], [], ['exec: "no-such-program"', "executable file not found in $PATH"]),
        (["/etc/passwd"], [], ["permission denied"]),
        (["/no/such"], [], ["no such file or directory"]),
        ([], [], ["process args cannot be empty"]),
        (["true"], ["--cwd", "/no/such"], ["chdir to cwd", "no such file or directory"]),
        (["true"], ["--cwd", "relative"], ["process.cwd"]),
        (["true"], ["--env", "NOTHING"], ["process.env"]),
        (["true"], ["--user", "root"], ["uid", "number"]),
        (["true"], ["--user", "0x1"], ["uid", "number"]),
        (["true"], ["--user", "-1"], ["uid", "number"]),
        (["true"], ["--user", "1:"], ["gid", "number"]),
        (["true"], ["--user", "4294967295"], ["uid", "number"]),
        (["true"], ["--user", "4294967296"], ["uid", "number"]),
        (["true"], ["--additional-gids", "1,2"], ["gid", "number"]),
        (["true"], ["--cap", "CAP_EVERYTHING"], ["capability", "CAP_EVERYTHING"]),
        (["true"], ["--process", "/no/such"], ["/no/such", "no such file or directory"]),
        (["true"], ["--preserve-fds", "1"], ["preserved-fd 3"]),
        (["true"], ["--tty", "--detach"], ["console socket"]),
        (["true"], ["--console-socket", "/no/such"], ["console socket"]),
        (["true"], ["--pid-file", "/no/such/file"], ["pid file", "no such file or directory"]),
        (["true"], ["--pidfd-socket", "/no/such"], ["pidfd", "no such file or directory"]),
        (["true"], ["--cgroup", "no-such"], ["no-such", "no such file or directory"]),
        (["true"], ["--cgroup", "../elsewhere"], ["not a sub cgroup path"]),
        (["true"], ["--apparmor", "no-such-profile"], ["apparmor"]),
    ],
)  # fmt: skip
def test_what_cannot_be_done(
    container: Container, command: list[str], flags: list[str], words: list[str]
) -> None:
    """255, one line that says so, and no process is left behind."""
    done = container.exec(command, *flags).fails("exec failed: ", *words)
    assert done.status == 255
    assert done.out == ""
    no_second_process(container)


def test_unknown_container(runtime: Runtime) -> None:
    assert runtime.verb("exec", runtime.new_id(), "true").fails("exec failed", "does not exist").status == 255


def test_no_id_is_a_mistake_of_usage(runtime: Runtime) -> None:
    done = runtime.verb("exec")
    assert done.status == 1 and "requires a minimum of 1 argument" in done.err


def test_help(runtime: Runtime) -> None:
    assert "--ignore-paused" in runtime.verb("exec", "--help").ok().out


# -- options -----------------------------------------------------------------------------------------------


def test_cwd_and_env(container: Container) -> None:
    flags = ["--cwd", "/tmp", "-e", "A=1", "--env", "B=x=y", "-e", "A=2", "-e", "HOME=/elsewhere"]
    said = container.asks("cwd", "env", flags=flags)
    assert said["cwd"] == "/tmp"
    assert sorted(said["env"]) == sorted([PATH, "TERM=xterm", "A=2", "B=x=y", "HOME=/elsewhere"])


@pytest.mark.needs_root
def test_user(container: Container) -> None:
    """Numbers; the group stays where only the user is given; HOME is that user's; and capabilities go with root."""
    flags = ["--user", f"{ANN}:7", "--additional-gids", "8", "-g", "9"]
    said = container.asks("ids", "env", "caps", flags=flags)
    ids = said["ids"]
    assert (ids["uid"], ids["gid"], sorted(ids["groups"])) == ([ANN] * 3, [7] * 3, [8, 9])
    assert "HOME=/home/ann" in said["env"]
    assert said["caps"]["effective"] == said["caps"]["permitted"] == []
    assert container.asks("ids", flags=["-u", str(ANN)])["ids"]["gid"] == [0] * 3


def test_cap(container: Container) -> None:
    """In three sets; never inheritable, so not ambient either."""
    before = container.asks("caps")["caps"]
    said = container.asks("caps", flags=["--cap", "CAP_SYS_CHROOT", "-c", "CAP_CHOWN"])["caps"]
    for kind in ("bounding", "effective", "permitted"):
        assert said[kind] == sorted({*before[kind], CAP_CHOWN, CAP_SYS_CHROOT}), kind
    assert said["inheritable"] == said["ambient"] == []


def test_no_new_privs(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper()
    bundle.process["noNewPrivileges"] = False
    with runtime.running(bundle) as container:
        assert container.asks("nnp")["nnp"] == 0
        assert container.asks("nnp", flags=["--no-new-privs"])["nnp"] == 1


def test_no_new_privs_can_be_taken_back(container: Container) -> None:
    assert container.asks("nnp", flags=["--no-new-privs=false"])["nnp"] == 0


def test_preserve_fds(container: Container) -> None:
    """As many as were asked for, from 3 on; not what else the caller has open."""
    with open(container.bundle.rootfs / "etc" / "passwd") as third, open("/dev/null") as fourth:

        def keep() -> None:
            os.dup2(third.fileno(), 3)
            os.dup2(fourth.fileno(), 4)

        flags = ["--preserve-fds", "1"]
        said = container.asks("fds", "readfd 3", flags=flags, preexec_fn=keep, close_fds=False)
    assert sorted(said["fds"]) == ["0", "1", "2", "3"]
    assert said["readfd 3"].startswith("root:x:0:0:")


# -- a file ------------------------------------------------------------------------------------------------


def test_process_file(container: Container) -> None:
    file = process_file(container, args=["testify", "cwd", "--", "env"], cwd="/tmp", env=[PATH, "ONLY=this"])
    said = container.exec([], "--process", file).ok().testimony
    assert said["cwd"] == "/tmp"
    assert sorted(said["env"]) == sorted([PATH, "ONLY=this", "HOME=/root"])


def test_a_pipe_is_a_process_file(container: Container) -> None:
    """As `--process <(…)` of a shell gives."""
    reader, writer = os.pipe()
    os.write(writer, json.dumps({"cwd": "/tmp", "args": ["testify", "cwd"]}).encode())
    os.close(writer)
    said = container.exec([], "--process", f"/dev/fd/{reader}", pass_fds=[reader]).ok().testimony
    os.close(reader)
    assert said["cwd"] == "/tmp"


def test_what_a_file_leaves_out_is_the_containers(container: Container) -> None:
    """Limits and capabilities; but not noNewPrivileges, which who means false leaves out."""
    file = process_file(container, args=["testify", "caps", "--", "rlimits", "--", "nnp"])
    said = container.exec([], "-p", file).ok().testimony
    assert said["rlimits"]["RLIMIT_NOFILE"] == [1024, 1024]
    assert len(said["caps"]["bounding"]) == len(CAPABILITIES)
    assert said["nnp"] == 0


def test_a_file_may_give_less(container: Container) -> None:
    file = process_file(
        container,
        args=["testify", "caps", "--", "rlimits"],
        capabilities={},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 30}],
    )
    said = container.exec([], "-p", file).ok().testimony
    assert all(said["caps"][kind] == [] for kind in ("bounding", "effective", "permitted"))
    assert said["rlimits"]["RLIMIT_NOFILE"] == [20, 30]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["process.json"]),
        ("[]", ["no JSON object"]),
        ('{"cwd": "/"}', ["process.args", "missing"]),
        ('{"cwd": "/", "args": []}', ["process.args", "at least one"]),
        ('{"args": ["true"]}', ["process.cwd"]),
        ('{"cwd": "/", "args": ["true"], "user": 5}', ["process.user"]),
        ('{"cwd": "/", "args": ["true"], "env": "A=b"}', ["process.env"]),
        ('{"cwd": "/", "args": ["true"], "cwd": "/tmp"}', ["cwd", "more than once"]),
        ('{"cwd": "/", "args": ["true"], "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]}', ["soft"]),
        ('{"cwd": "/", "args": ["true"], "oomScoreAdj": 1001}', ["oomScoreAdj"]),
        ('{"cwd": "/", "args": ["true"], "scheduler": {"policy": "SCHED_RR"}}', ["process.scheduler"]),
        ('{"cwd": "/", "args": ["true"], "execCPUAffinity": {"final": "x"}}', ["execCPUAffinity.final"]),
        ('{"cwd": "/", "args": ["true"], "capabilities": {"bounding": ["CHOWN"]}}', ["CHOWN"]),
    ],
)  # fmt: skip
def test_a_bad_file(container: Container, text: str, words: list[str]) -> None:
    path = container.runtime.folder / "process.json"
    path.write_text(text)
    assert container.exec([], "--process", str(path)).fails("exec failed", *words).status == 255
    no_second_process(container)


# -- detached ----------------------------------------------------------------------------------------------


def test_detached(container: Container) -> None:
    """Returns when the program runs; the pid file names it, and it lives on."""
    file = container.runtime.folder / "pid"
    container.exec(["sleep", "1000"], "--detach", "--pid-file", str(file)).ok()
    text = file.read_text()
    assert text.isdigit()
    assert Path(f"/proc/{text}/cmdline").read_bytes() == b"sleep\x001000\0"
    assert Path(f"/proc/{text}/cgroup").read_text() == Path(f"/proc/{container.pid}/cgroup").read_text()
    os.kill(int(text), signal.SIGKILL)


def test_detached_failure_is_told(container: Container) -> None:
    """Also what only execve finds out."""
    program = container.bundle.rootfs / "bin" / "not-a-program"
    program.write_text("neither ELF nor script")
    program.chmod(0o755)
    file = container.runtime.folder / "pid"
    flags = ["--detach", "--pid-file", str(file)]
    done = container.exec(["not-a-program"], *flags).fails("exec failed", "exec format error")
    assert done.status == 255
    assert not file.exists()
    no_second_process(container)


def test_a_signal_is_forwarded(container: Container) -> None:
    running = container.runtime.spawn("exec", container.id, "testify", "sleep")
    running.says("ready")
    running.process.send_signal(signal.SIGTERM)
    assert running.wait().status == 0
    no_second_process(container)


def test_the_end_of_the_runtime_is_not_that_of_the_process(container: Container) -> None:
    """As with runc: who has been started goes on when the exec that waits for it is killed."""
    running = container.runtime.spawn("exec", container.id, "testify", "pid", "--", "sleep")
    running.says("ready")
    inner = Testimony(running.out)["pid"]
    running.process.kill()
    running.process.wait()
    container.exec(["sh", "-c", f"kill -TERM {inner}"]).ok()
    no_second_process(container)


# -- what there is to join ---------------------------------------------------------------------------------


def test_created_container(runtime: Runtime) -> None:
    """As with runc: before `start` there is a whole container."""
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    assert container.asks("pid")["pid"] > 1
    assert container.status == "created"
    container.start().ok()
    container.says("ready")


def test_stopped_container(container: Container) -> None:
    container.kill("KILL").ok()
    container.stops()
    assert container.exec(["true"]).fails("cannot exec in a stopped container").status == 255


def test_the_bundle_is_not_looked_at(container: Container) -> None:
    """It may have changed, or gone, since create."""
    (container.bundle.path / "config.json").write_text("{}")
    assert container.asks("nnp")["nnp"] == 1
    (container.bundle.path / "config.json").unlink()
    assert container.asks("nnp")["nnp"] == 1


def paused(runtime: Runtime, bundle: Bundle) -> Container:
    container = runtime.container(bundle.sleeper())
    container.run_detached().ok()
    container.says("ready")
    runtime.verb("pause", container.id).ok()
    return container


@pytest.mark.needs_root
def test_paused_container(runtime: Runtime) -> None:
    container = paused(runtime, runtime.bundle())
    words = "cannot exec in a paused container (use --ignore-paused to override)"
    assert container.exec(["true"]).fails(words).status == 255
    running = runtime.spawn("exec", "--ignore-paused", container.id, "echo", "thawed")
    time.sleep(0.5)
    assert running.process.poll() is None and running.out == ""
    runtime.verb("resume", container.id).ok()
    assert running.wait().ok().out == "thawed\n"


@pytest.mark.needs_root
def test_waiting_for_a_paused_container_can_be_ended(runtime: Runtime) -> None:
    """And what was on its way in never runs."""
    container = paused(runtime, runtime.bundle())
    running = runtime.spawn("exec", "--ignore-paused", container.id, "touch", "/ran")
    time.sleep(0.5)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait(15).fails("interrupted by SIGTERM").status == 255
    runtime.verb("resume", container.id).ok()
    no_second_process(container)
    assert not (container.bundle.rootfs / "ran").exists()
