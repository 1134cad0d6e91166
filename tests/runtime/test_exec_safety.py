"""exec: what the container's processes can see and do while another one joins them (CVE-2016-9962 and its heirs).

The process on its way in is held where the runtime writes the pid file, which is a FIFO here: it is ready by then, in
all namespaces and in sight of the container, and has not executed its program.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrunc.errors import PyruncError
from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.lifecycle import exec as joining
from pyrunc.lifecycle.exec_request import ExecRequest
from pyrunc.lifecycle.exec_target import find
from pyrunc.lifecycle.liveness import wait_end
from pyrunc.lifecycle.start import open_root
from pyrunc.log import Log
from pyrunc.store.store import Store
from tests.runtime.test_seccomp import rule
from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.exec import pid_of, started
from tests.support.patience import patient
from tests.support.runtime import Container, Running, Runtime, wait_for

ALL = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SETUID"]
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def powerful(bundle: Bundle, *capabilities: str) -> Bundle:
    """The first process, and with it whoever joins, has these capabilities."""
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = list(capabilities)
    bundle.process["noNewPrivileges"] = False
    return bundle


@contextmanager
def held(container: Container, *flags: str) -> Iterator[tuple[Running, int]]:
    """An exec that waits before its last word: the call, and the pid of the joining process on the host."""
    gate = container.runtime.folder / ".gate"
    os.mkfifo(gate)
    file = container.runtime.folder / "gate"
    words = ["exec", "--pid-file", str(file), *flags, container.id, "testify", "caps", "--", "sleep"]
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")
    running = container.runtime.spawn(*words)

    def joining() -> int:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    inside = os.readlink(entry / "ns" / "pid") == namespace
                    if inside and (entry / "comm").read_text() == "pyrunc-init\n":
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found[0] if found else 0

    pid = wait_for(joining, say="a joining process in the container's PID namespace")
    opening = str(SYSCALLS["openat"])
    call = Path(f"/proc/{running.process.pid}/syscall")
    wait_for(lambda: call.read_text().split()[0] == opening, say="the runtime's waiting for a reader")
    try:
        yield running, pid
    finally:
        if running.process.poll() is None and gate.exists():
            reader = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
            wait_for(lambda: not gate.exists() or running.process.poll() is not None, say="the pid file")
            os.close(reader)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.needs_root
@pytest.mark.parametrize("filtered", ["", "seccomp", "seccomp with no_new_privs"])
def test_what_enters_is_the_process_and_no_more(runtime: Runtime, filtered: str) -> None:
    """Its ids, capabilities and filter, not dumpable, no descriptor but stdio and its end of the conversation."""
    bundle = powerful(runtime.bundle(), "CAP_KILL", "CAP_SYS_PTRACE")
    if filtered:
        bundle.seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
        bundle.process["noNewPrivileges"] = filtered.endswith("no_new_privs")
    container = started(runtime, bundle)
    with held(container, "--user", "0:7") as (_, pid):
        status = status_of(pid)
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 1 << 5 | 1 << 19
        assert int(status["CapBnd"], 16) == 1 << 5 | 1 << 19
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["Gid"].split() == ["7"] * 4
        assert status["Seccomp"] == ("2" if filtered else "0")
        assert status["NoNewPrivs"] == ("1" if filtered.endswith("no_new_privs") else "0")
        descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        others = [link for name, link in descriptors.items() if int(name) > 2]
        assert len(others) == 1 and others[0].startswith("socket:")
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:pyrunc-init")
        assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{container.pid}/cgroup").read_text()
        assert Path(f"/proc/{pid}/cwd").resolve() == Path(f"/proc/{container.pid}/root").resolve()
        assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["root without CAP_SYS_PTRACE", "root of a user namespace", "the same user"])
def test_nobody_in_the_container_looks_into_it(runtime: Runtime, kind: str) -> None:
    """A process that is not dumpable is closed to all but CAP_SYS_PTRACE where it was executed: on the host."""
    bundle = runtime.bundle()
    flags: list[str] = []
    if kind == "root of a user namespace":
        powerful(bundle.map_ids().give_rootfs(200000, 200000), *ALL)
    elif kind == "the same user":
        flags = ["--user", "1000:1000"]
    else:
        # Nor with CAP_SYS_ADMIN, which the kernel takes for CAP_PERFMON, to read of every process's memory.
        powerful(bundle, *[name for name in ALL if name not in ("CAP_SYS_PTRACE", "CAP_SYS_ADMIN")])
    container = started(runtime, bundle)
    with held(container, *flags) as (_, pid):
        inner = status_of(pid)["NSpid"].split()[-1]
        questions = [f"open /proc/{inner}/{name} r" for name in ("mem", "environ", "maps")]
        questions += [f"readlink /proc/{inner}/{name}" for name in ("exe", "root", "cwd", "fd/3")]
        said = container.asks(*questions, flags=flags)
        for question in questions:
            assert said[question] in ({"errno": "EACCES"}, {"errno": "EPERM"}), (question, said[question])
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0


@pytest.mark.needs_root
@pytest.mark.parametrize("filtered", [False, True], ids=["plain", "seccomp"])
def test_the_first_stage_is_not_in_the_pid_namespace(runtime: Runtime, filtered: bool) -> None:
    """A process of the container that looks as fast as it can sees nothing but processes with its own capabilities.

    To load a filter takes one more: whoever has CAP_SYS_PTRACE, and no user namespace, could take it from there.
    """
    script = "echo ready; while :; do grep -h CapPrm: /proc/[0-9]*/status 2>/dev/null; done"
    bundle = powerful(runtime.bundle(), "CAP_KILL").shell(script)
    if filtered:
        bundle.seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"), rule("ERRNO", "clone3", errnoRet=38))
    container = runtime.container(bundle)
    container.run_detached().ok()
    container.says("ready")
    for _ in range(30):
        container.exec(["true"]).ok()
    seen = {int(line.split()[1], 16) for line in container.out.splitlines()[1:-1]}
    assert seen == {1 << 5}


@pytest.mark.needs_root
def test_killed_by_the_container_on_its_way_in(runtime: Runtime) -> None:
    """An error of exec, and nothing is left."""
    container = started(runtime, powerful(runtime.bundle(), "CAP_KILL"))
    with held(container) as (running, pid):
        inner = status_of(pid)["NSpid"].split()[-1]
        container.exec(["sh", "-c", f"kill -9 {inner}"]).ok()
    assert running.wait().fails("exec failed", "the process ended before", "signal 9").status == 255
    assert not (runtime.folder / "gate").exists()


@pytest.mark.needs_root
def test_the_container_ends_meanwhile(runtime: Runtime) -> None:
    """Its last processes with it; the error says what has happened to the container."""
    container = started(runtime, runtime.bundle())
    with held(container) as (running, _):
        os.kill(container.pid, signal.SIGKILL)
    running.wait().fails("cannot exec in a stopped container")
    assert not (runtime.folder / "gate").exists()


@pytest.mark.needs_root
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_runtime(runtime: Runtime, end: int) -> None:
    """Until it has executed its program there is nobody else to answer for it."""
    container = started(runtime, runtime.bundle())
    with held(container) as (running, pid):
        running.process.send_signal(end)
        running.process.wait(patient(10))
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or not _lives(pid), say="its end")
    assert container.status == "running"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_killed_at_any_time(runtime: Runtime) -> None:
    """Either the program runs, or nothing is left."""
    container = started(runtime, runtime.bundle())
    pick = random.Random(20)
    for _ in range(25):
        running = runtime.spawn("exec", "-d", container.id, "sleep", "1000")
        time.sleep(pick.uniform(0, 0.15))
        running.process.kill()
        running.process.wait()

    def strangers() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    inside = (entry / "cgroup").read_text() == Path(
                        f"/proc/{container.pid}/cgroup"
                    ).read_text()
                    if inside and (entry / "comm").read_text() == "pyrunc-init\n":
                        found.append(entry.name)
                except OSError:
                    continue
        return found

    wait_for(lambda: not strangers(), say="the end of all who were on their way in")
    container.kill("KILL").ok()

    def stopped() -> bool:
        footprint.reap()  # the processes in the PID namespace are this one's children by now
        return container.status == "stopped"

    wait_for(stopped, say="the end of all")


@pytest.mark.needs_root
def test_a_working_directory_outside(runtime: Runtime) -> None:
    """CVE-2024-21626: a magic link of procfs is no working directory."""
    container = started(runtime, runtime.bundle())
    (container.bundle.rootfs / "link").symlink_to("/proc/self/fd/7")
    for path in ("/proc/self/fd/7", "/proc/self/fd/3", "/link", "/proc/1/cwd"):
        container.exec(["ls"], "--cwd", path).fails("exec failed", "chdir to cwd")


@pytest.mark.needs_root
def test_a_proc_of_the_image_is_not_asked(runtime: Runtime) -> None:
    """oomScoreAdj is written to the host's /proc (CVE-2025-52881), before the container's is anywhere."""
    bundle = runtime.bundle()
    bundle.without_mount("/proc")
    (bundle.rootfs / "proc" / "self").mkdir()
    (bundle.rootfs / "proc" / "self" / "oom_score_adj").touch()
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(name)
    bundle.process["oomScoreAdj"] = 77
    container = started(runtime, bundle)
    pid = pid_of(container)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "77\n"
    assert (bundle.rootfs / "proc" / "self" / "oom_score_adj").read_text() == ""


@pytest.mark.needs_root
def test_a_home_that_is_a_trap(runtime: Runtime) -> None:
    """/etc/passwd may have become a FIFO, a device, or a link that leads outside."""
    container = started(runtime, runtime.bundle())
    passwd = container.bundle.rootfs / "etc" / "passwd"
    passwd.unlink()
    os.mkfifo(passwd)
    assert "HOME=/" in container.asks("env")["env"]
    passwd.unlink()
    (runtime.folder / "outside").write_text("root:x:0:0:root:/outside:/bin/sh\n")
    passwd.symlink_to(f"../../../../../../../..{runtime.folder}/outside")
    assert "HOME=/" in container.asks("env")["env"]


@contextmanager
def another_process(pid: int) -> Iterator[None]:
    """A process of the host that has this pid, which nobody has."""
    made = 0
    deadline = time.monotonic() + patient(20)
    while made != pid:
        assert time.monotonic() < deadline
        LAST_PID.write_text(str(pid - 1))
        if (made := os.fork()) == 0:
            signal.pause()
            os._exit(0)
        if made != pid:
            os.kill(made, signal.SIGKILL)
            os.waitpid(made, 0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.needs_root
@pytest.mark.skipif(not LAST_PID.exists(), reason="this kernel lets nobody choose a pid")
@pytest.mark.parametrize("kinds", [("pid", "mount"), ()], ids=["namespaces", "a root only"])
def test_a_pid_that_means_another_process_by_now(
    runtime: Runtime, kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container ends after it was found, and its pid becomes that of a process of the host.

    By the number its root is found, and which namespaces are to be joined: here none.
    """
    bundle = runtime.bundle()
    bundle.linux["namespaces"] = [{"type": kind} for kind in kinds]
    bundle.config.pop("hostname")
    if not kinds:
        bundle.config["mounts"] = []
        for name in ("maskedPaths", "readonlyPaths"):
            bundle.linux.pop(name)
    container = started(runtime, bundle)
    escaped = runtime.folder / "escaped"
    words = ["touch", str(escaped)]
    request = ExecRequest(Store(str(runtime.root)), container.id, Log(), words=words, detach=True)
    found = find(request)
    container.kill("KILL").ok()
    assert wait_end(found.pidfd)

    def gone() -> bool:
        footprint.reap()
        return not Path(f"/proc/{found.record.pid}").exists()

    wait_for(gone, say="the end of the first process")
    with another_process(found.record.pid):
        os.close(found.root)
        found.root = open_root(found.record.pid)
        monkeypatch.setattr(joining, "find", lambda _: found)
        with pytest.raises(PyruncError, match="cannot exec in a stopped container"):
            joining.exec_process(request)
        time.sleep(0.2)
    assert not escaped.exists()
