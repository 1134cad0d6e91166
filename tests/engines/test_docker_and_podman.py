"""What podman and docker have in common: one test for both, through `run` and its options."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.engines.cgroup import V2
from tests.engines.engine import IMAGE, DockerLike, asking
from tests.engines.terminal import size_arrives
from tests.support.runtime import wait_for


def limit(controller: str, v1: str, v2: str) -> str:
    """The file of a limit as a container sees it."""
    return f"/sys/fs/cgroup/{v2}" if V2 else f"/sys/fs/cgroup/{controller}/{v1}"


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_status(engine: DockerLike, status: int) -> None:
    assert engine.run([], "testify", "exit", str(status)).status == status


def test_output(engine: DockerLike) -> None:
    outcome = engine.run([], "sh", "-c", "echo good; echo bad >&2").ok()
    assert (outcome.out, outcome.err) == ("good\n", "bad\n")


def test_input(engine: DockerLike, folder: Path) -> None:
    (folder / "in").write_text("from outside\n")
    command = shlex.join(engine.command("run", "--rm", "-i", *engine.habits, IMAGE, "cat"))
    assert engine.execute(["sh", "-c", f"{command} < {folder}/in"]).ok().out == "from outside\n"


@pytest.mark.parametrize(
    ("word", "status"),
    [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126), ("/bin", 126)],
)
def test_not_a_program(engine: DockerLike, word: str, status: int) -> None:
    outcome = engine.run([], word)
    assert outcome.status == status, outcome
    assert word in outcome.err, outcome
    words = ("permission denied", "is a directory") if status == 126 else ("no such file", "not found")
    assert any(say in outcome.err for say in words), outcome


def test_terminal(engine: DockerLike) -> None:
    """The size of the window arrives, also when it changes; the shell has job control."""
    shell = engine.terminal("run", "--rm", "-it", *engine.habits, IMAGE, "sh")
    shell.until("# ")
    shell.type("tty; testify tty\n")
    shell.until('"ask":"tty"')
    shell.until("# ")
    assert "/dev/pts/0" in shell.seen or "/dev/console" in shell.seen
    assert '"isatty":[true,true,true]' in shell.seen
    size_arrives(shell, shell.rows, shell.columns)
    size_arrives(shell, 20, 50)
    assert "job control turned off" not in shell.seen
    shell.type("exit 5\n")
    assert shell.end().status == 5


def test_detached_stop_start_remove(engine: DockerLike) -> None:
    """`stop` sends SIGTERM; the same container can be started again."""
    engine.detached("one", [])
    assert engine.inspect("one", "{{.State.Status}}") == "running"
    pid = int(engine.inspect("one", "{{.State.Pid}}"))
    assert Path(f"/proc/{pid}/comm").read_text() == "testify\n"
    engine.call("stop", "--time", "8", "one").ok()
    assert engine.inspect("one", "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"
    engine.call("start", "one").ok()
    assert engine.inspect("one", "{{.State.Status}}") == "running"
    engine.call("kill", "one").ok()
    wait_for(
        lambda: engine.inspect("one", "{{.State.ExitCode}}") == "137", 10, "the status of a killed process"
    )
    engine.call("rm", "one").ok()
    assert engine.call("inspect", "one").status != 0


def test_remove_by_force(engine: DockerLike) -> None:
    engine.detached("one", [])
    engine.call("rm", "--force", "one").ok()


def test_create_without_start(engine: DockerLike) -> None:
    engine.call("create", "--name", "one", *engine.habits, IMAGE, "testify", "exit", "4").ok()
    assert engine.call("start", "--attach", "one").status == 4


def test_pid_1_and_names(engine: DockerLike) -> None:
    answers = engine.ask(["--hostname", "inside"], "pid", "uname", "namespaces")
    assert answers["pid"] == 1
    assert answers["uname"]["hostname"] == "inside"
    for name, inside in answers["namespaces"].items():
        shared = inside == os.readlink(f"/proc/self/ns/{name}")
        common = (
            {"time"} if engine.rootless else {"user", "time"}
        )  # an ordinary user's podman makes a user namespace
        assert shared == (name in common or (name == "cgroup" and shared)), (name, inside)


def test_process(engine: DockerLike) -> None:
    options = ["--user", "ann", "--workdir", "/home/ann", "--env", "FOO=bar", "--group-add", "4242"]
    answers = engine.ask(options, "ids", "cwd", "env", "caps", "fds")
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert 4242 in answers["ids"]["groups"]
    assert answers["cwd"] == "/home/ann"
    assert "FOO=bar" in answers["env"]
    assert answers["caps"]["effective"] == answers["caps"]["ambient"] == []
    assert set(answers["fds"]) == {"0", "1", "2"}


def test_read_only(engine: DockerLike) -> None:
    answers = engine.ask(
        ["--read-only", "--tmpfs", "/scratch"], "mkdir /x", "mkdir /scratch/x", "mkdir /proc/sys/x"
    )
    assert answers["mkdir /x"] == {"errno": "EROFS"}
    assert "errno" not in str(answers["mkdir /scratch/x"])


def test_tmpfs(engine: DockerLike) -> None:
    answers = engine.ask(["--tmpfs", "/t:size=1m,mode=1770,noexec"], "stat /t", "mounts")
    assert answers["stat /t"]["mode"] == 0o1770
    line = next(line for line in answers["mounts"].splitlines() if " /t " in line)
    assert "noexec" in line and "size=1024k" in line


def test_volumes(engine: DockerLike, folder: Path) -> None:
    (folder / "file").write_text("from the host")
    engine.may_write(folder)
    options = ["--volume", f"{folder}:/rw", "--volume", f"{folder}:/ro:ro", "--volume", f"{folder}/file:/one"]
    answers = engine.ask(options, "read /one", "mkdir /ro/x", "write /rw/new content")
    assert answers["read /one"] == "from the host"
    assert answers["mkdir /ro/x"] == {"errno": "EROFS"}
    assert (folder / "new").read_text() == "content"


def test_named_volume(engine: DockerLike) -> None:
    """It survives its container; podman and docker copy what the image has there."""
    engine.call("volume", "create", "kept").ok()
    engine.ask(["--volume", "kept:/etc"], "write /etc/new content")
    answers = engine.ask(["--volume", "kept:/else"], "read /else/new", "access /else/passwd")
    engine.call("volume", "rm", "kept").ok()
    assert answers["read /else/new"] == "content"
    assert answers["access /else/passwd"] == 0


def test_capabilities(engine: DockerLike) -> None:
    default = engine.ask([], "caps")["caps"]
    assert default["effective"] == default["permitted"] == default["bounding"]
    assert default["effective"] and default["ambient"] == []
    none = engine.ask(["--cap-drop", "ALL"], "caps")["caps"]
    assert not any(none.values())
    one = engine.ask(["--cap-drop", "ALL", "--cap-add", "CHOWN"], "caps")["caps"]
    assert one["effective"] == one["bounding"] == [0]
    chown = engine.ask(["--cap-drop", "CHOWN"], "caps")["caps"]
    assert set(default["effective"]) - set(chown["effective"]) == {0}


def test_no_new_privileges(engine: DockerLike) -> None:
    assert engine.ask([], "nnp")["nnp"] == 0
    assert engine.ask(["--security-opt", "no-new-privileges"], "nnp")["nnp"] == 1


def test_default_seccomp_profile(engine: DockerLike) -> None:
    questions = ("seccomp", "syscall userfaultfd 1", "syscall getpid")
    answers = engine.ask([], *questions)
    assert answers["seccomp"] == 2
    assert answers["syscall userfaultfd 1"] == {"errno": "EPERM"}
    assert answers["syscall getpid"] == 1
    free = engine.ask(["--security-opt", "seccomp=unconfined"], *questions)
    assert free["seccomp"] == 0
    assert free["syscall userfaultfd 1"] > 2


def test_own_seccomp_profile(engine: DockerLike, folder: Path) -> None:
    profile = folder / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sysinfo"],'
        ' "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}'
    )
    answers = engine.ask(
        ["--security-opt", f"seccomp={profile}"], "seccomp", "syscall sysinfo 0", "syscall getpid"
    )
    assert answers["seccomp"] == 2
    assert answers["syscall sysinfo 0"] == {"errno": "EOPNOTSUPP"}


def test_masked_and_read_only_paths(engine: DockerLike) -> None:
    answers = engine.ask([], "read /proc/timer_list", "ls /sys/firmware", "write /proc/sys/kernel/hostname x")
    assert answers["read /proc/timer_list"] == ""
    assert answers["ls /sys/firmware"] == []
    assert answers["write /proc/sys/kernel/hostname x"] == {"errno": "EROFS"}


@pytest.mark.needs_cgroups
def test_memory(engine: DockerLike) -> None:
    file = limit("memory", "memory.limit_in_bytes", "memory.max")
    assert engine.ask(["--memory", "64m"], f"read {file}")[f"read {file}"].strip() == str(64 << 20)
    engine.call("run", "--name", "eater", *engine.habits, "--memory", "16m", "--memory-swap", "16m", IMAGE,
                *asking("eat 64"))  # fmt: skip
    assert engine.inspect("eater", "{{.State.ExitCode}}") == "137"


@pytest.mark.needs_cgroups
def test_pids_limit(engine: DockerLike) -> None:
    file = limit("pids", "pids.max", "pids.max")
    answers = engine.ask(["--pids-limit", "20"], f"read {file}", "forks 40")
    assert answers[f"read {file}"].strip() == "20"
    assert answers["forks 40"]["errno"] == "EAGAIN"
    assert answers["forks 40"]["made"] <= 19


@pytest.mark.needs_cgroups
def test_cpu(engine: DockerLike) -> None:
    if V2:
        answers = engine.ask(["--cpus", "0.5", "--cpuset-cpus", "0"], "read /sys/fs/cgroup/cpu.max")
        assert answers["read /sys/fs/cgroup/cpu.max"].split() == ["50000", "100000"]
        return
    quota, cpus = "read /sys/fs/cgroup/cpu/cpu.cfs_quota_us", "read /sys/fs/cgroup/cpuset/cpuset.cpus"
    answers = engine.ask(["--cpus", "0.5", "--cpuset-cpus", "0"], quota, cpus)
    assert answers[quota].strip() == "50000"
    assert answers[cpus].strip() == "0"


def test_devices(engine: DockerLike) -> None:
    """The default ones work, another is there only when asked for, and others cannot be used."""
    answers = engine.ask([], "stat /dev/null", "open /dev/full r", "access /dev/mine", "mknod /dev/kmsg c 1 11",
                         "open /dev/kmsg r")  # fmt: skip
    assert answers["stat /dev/null"]["rdev"] == [1, 3]
    assert "errno" not in str(answers["open /dev/full r"])
    assert answers["access /dev/mine"] == {"errno": "ENOENT"}
    made = answers["mknod /dev/kmsg c 1 11"] == 0  # podman 5 gives no CAP_MKNOD
    assert answers["open /dev/kmsg r"] == {"errno": "EPERM" if made else "ENOENT"}
    mine = engine.ask(["--device", "/dev/full:/dev/mine:r"], "stat /dev/mine")["stat /dev/mine"]
    assert (mine["type"], mine["rdev"]) == ("char", [1, 7])


def test_limits_and_sysctl(engine: DockerLike) -> None:
    options = [
        *engine.limits,
        "--ulimit",
        "core=0:0",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=77",
        "--shm-size",
        "1m",
    ]
    start = "read /proc/sys/net/ipv4/ip_unprivileged_port_start"
    answers = engine.ask(options, "rlimits", start, "mounts")
    assert answers["rlimits"]["RLIMIT_CORE"] == [0, 0]
    assert answers[start].strip() == "77"
    assert "size=1024k" in next(line for line in answers["mounts"].splitlines() if " /dev/shm " in line)


def test_init(engine: DockerLike) -> None:
    helper = "/usr/bin/docker-init" if os.path.exists("/usr/bin/docker-init") else "/usr/bin/tini"
    options = ["--init", *(["--init-path", helper] if engine.name == "podman" else [])]
    answers = engine.ask(options, "ppid", "pid")
    assert answers["ppid"] == 1
    assert answers["pid"] > 1


@pytest.mark.parametrize("kind", ["pid", "ipc", "network"])
def test_namespace_of_another_container(engine: DockerLike, kind: str) -> None:
    options = ["--ipc", "shareable"] if kind == "ipc" else []
    engine.detached("one", options)
    name = {"network": "net"}.get(kind, kind)
    theirs = os.readlink(f"/proc/{engine.inspect('one', '{{.State.Pid}}')}/ns/{name}")
    habits = list(engine.habits)
    if kind == "network":
        at = habits.index("--network")
        del habits[at : at + 2]
    command = ["run", "--rm", *habits, f"--{kind}", "container:one", IMAGE, *asking("namespaces", "pid")]
    answers = engine.call(*command).ok().testimony
    assert answers["namespaces"][name] == theirs
    assert (answers["pid"] == 1) == (kind != "pid")


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
def test_namespace_of_the_host(engine: DockerLike, kind: str) -> None:
    answers = engine.ask([f"--{kind}", "host"], "namespaces")
    assert answers["namespaces"][kind] == os.readlink(f"/proc/self/ns/{kind}")


def test_containers_side_by_side(engine: DockerLike) -> None:
    for name in ("one", "two", "three"):
        engine.detached(name, [])
    pids = {engine.inspect(name, "{{.State.Pid}}") for name in ("one", "two", "three")}
    assert len(pids) == 3
    engine.call("stop", "--time", "8", "one", "two", "three").ok()
