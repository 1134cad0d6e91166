"""Status, kill and delete, with real processes in the place of a container's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrunc.errors import NotFound, PyruncError
from pyrunc.lifecycle import liveness
from pyrunc.lifecycle.delete import delete
from pyrunc.lifecycle.kill import kill
from pyrunc.lifecycle.status import (
    ALLOWED,
    CREATED,
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    check_allowed,
    current,
)
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
from pyrunc.log import Log
from pyrunc.store.record import Record
from pyrunc.store.store import START_SOCKET, STATE, Store
from tests.support.cgroups import enter
from tests.support.runtime import wait_for

if TYPE_CHECKING:
    from pyrunc.linux.cgroups.manager import Manager

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


class Containers:
    """Records whose process is a child of this one: `sleep`, or what is asked for."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"{folder}/root")
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []
        self.managers: list[Manager] = []

    def process(self, *words: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            words or ("sleep", "100"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.children.append(child)
        return child

    def make(
        self, status: str = RUNNING, *, id: str = "one", words: tuple[str, ...] = (), **more: object
    ) -> Record:
        child = self.process(*words)
        started = liveness.start_time(child.pid)
        assert started
        record = Record(id, "/b", "/b/rootfs", pid=child.pid, start_time=started, ready=True, **more)  # type: ignore[arg-type]
        if status == STOPPED:
            self.end(child)
        with self.store.create(id) as directory:
            if status == CREATED:
                Path(directory.path, START_SOCKET).touch()
            directory.save(record)
        return record

    def cgroup(self) -> Manager:
        name = f"/pyrunc-test-{os.getpid()}-{time.monotonic_ns()}"
        manager = choose({"linux": {"cgroupsPath": name}}, "one", layout(), False)  # type: ignore[typeddict-item]
        manager.create()
        self.managers.append(manager)
        return manager

    def status(self, id: str = "one") -> str:
        with self.store.open(id) as directory:
            record = directory.load()
            assert record
            return current(directory, record)

    def log(self) -> Log:
        return Log(str(self.folder / "log"))

    def delete(self, force: bool = False, id: str = "one") -> None:
        delete(self.store, id, force, self.log())

    def logged(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    @staticmethod
    def end(child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait()

    def clean(self) -> None:
        for manager in self.managers:
            if manager.frozen():
                manager.thaw()
        for child in self.children:
            self.end(child)
        for manager in self.managers:
            manager.kill()
            manager.remove()


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(tmp_path)
    yield containers
    containers.clean()


# -- liveness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleep", "a) Z 1 1 (", ") X", "((", "x y\n"])
def test_the_stat_line_of_a_process_with_any_name(name: str) -> None:
    tail = " ".join(str(number) for number in range(4, 53))
    assert liveness.parse_stat(f"77 ({name}) S {tail}\n".encode()) == ("S", 22)


def test_a_process_that_names_itself_to_deceive(containers: Containers, tmp_path: Path) -> None:
    deceiver = tmp_path / ") Z 1 1 1 1"
    deceiver.write_bytes(Path("/bin/sleep").read_bytes())
    deceiver.chmod(0o755)
    child = containers.process(str(deceiver), "100")
    wait_for(lambda: b") Z" in Path(f"/proc/{child.pid}/comm").read_bytes())
    started = liveness.start_time(child.pid)
    assert started and liveness.is_alive(child.pid, started)


def test_a_pid_that_is_used_again_is_another_process(containers: Containers) -> None:
    child = containers.process()
    started = liveness.start_time(child.pid)
    assert started
    assert liveness.is_alive(child.pid, started)
    assert not liveness.is_alive(child.pid, started - 1)
    assert liveness.open_process(child.pid, started - 1) == -1


def test_a_zombie_has_ended(containers: Containers) -> None:
    child = containers.process()
    started = liveness.start_time(child.pid)
    assert started
    pidfd = liveness.open_process(child.pid, started)
    assert not liveness.wait_end(pidfd, 0.05)
    child.send_signal(signal.SIGKILL)
    assert liveness.wait_end(pidfd)
    found = liveness.stat_of(child.pid)
    assert found and found[0] == "Z"
    assert not liveness.is_alive(child.pid, started)
    os.close(pidfd)
    child.wait()
    assert liveness.stat_of(child.pid) is None and liveness.start_time(child.pid) is None
    assert liveness.open_process(child.pid, started) == -1


@pytest.mark.parametrize("pid", [0, -1])
def test_no_pid(pid: int) -> None:
    assert not liveness.is_alive(pid, 0)
    assert liveness.open_process(pid, 0) == -1


# -- status --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [CREATED, RUNNING, STOPPED])
def test_status(containers: Containers, status: str) -> None:
    containers.make(status)
    assert containers.status() == status


def test_status_while_it_is_created(containers: Containers) -> None:
    own = (os.getpid(), liveness.start_time(os.getpid()) or 0)
    with containers.store.create("one") as directory:
        record = Record("one", "/b", "/b/r", creator=own)
        assert current(directory, record) == CREATING
        record.creator = (own[0], own[1] - 1)
        assert current(directory, record) == STOPPED
        child = containers.process()
        record.pid, record.start_time = child.pid, liveness.start_time(child.pid) or 0
        assert current(directory, record) == CREATING
        record.ready = True
        assert current(directory, record) == RUNNING


@ROOT
def test_a_frozen_container_is_paused(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record())
    enter(manager, record.pid)
    assert containers.status() == RUNNING
    manager.freeze()
    assert containers.status() == PAUSED
    manager.thaw()
    assert containers.status() == RUNNING


@pytest.mark.parametrize("verb", ["start", "kill", "delete", "pause", "resume"])
@pytest.mark.parametrize("status", [CREATING, CREATED, RUNNING, PAUSED, STOPPED])
def test_verbs_by_status(verb: str, status: str) -> None:
    texts = {
        ("start", RUNNING): "cannot start an already running container",
        ("start", PAUSED): "cannot start a container in the paused state",
        ("start", STOPPED): "cannot start a container that has stopped",
        ("start", CREATING): "cannot start a container that is being created",
        ("kill", STOPPED): "container not running",
        ("kill", CREATING): "container not running: it is being created",
        ("delete", RUNNING): "cannot delete container one that is not stopped: running",
        ("delete", PAUSED): "cannot delete container one that is not stopped: paused",
        ("delete", CREATING): "cannot delete container one that is not stopped: creating",
        ("pause", STOPPED): "container not running",
        ("pause", PAUSED): "container not running: it is paused already",
        ("pause", CREATING): "container not running: it is being created",
        ("resume", CREATED): "container not paused: it waits to be started",
        ("resume", RUNNING): "container not paused",
        ("resume", STOPPED): "container not paused: it has stopped",
        ("resume", CREATING): "container not paused: it is being created",
    }
    if status in ALLOWED[verb]:
        assert (verb, status) not in texts
        check_allowed(verb, "one", status)
        return
    with pytest.raises(PyruncError) as caught:
        check_allowed(verb, "one", status)
    assert caught.value.message == texts[verb, status]


# -- kill ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [CREATED, RUNNING])
@pytest.mark.parametrize(("word", "number"), [("SIGTERM", 15), ("kill", 9), ("10", 10), ("RTMIN+3", 37)])
def test_kill(containers: Containers, status: str, word: str, number: int) -> None:
    containers.make(status)
    kill(containers.store, "one", word)
    assert containers.children[0].wait(5) == -number


def test_kill_of_a_stopped_container(containers: Containers) -> None:
    containers.make(STOPPED)
    with pytest.raises(PyruncError, match="^container not running$"):
        kill(containers.store, "one", "TERM")
    kill(containers.store, "one", "TERM", everyone=True)


def test_kill_never_hits_a_process_that_took_the_pid(containers: Containers) -> None:
    record = containers.make()
    with containers.store.open("one") as directory:
        record.start_time -= 1
        directory.save(record)
    with pytest.raises(PyruncError, match="container not running"):
        kill(containers.store, "one", "KILL")
    assert containers.children[0].poll() is None


def test_kill_does_not_wait_for_the_lock(containers: Containers) -> None:
    containers.make()
    with containers.store.open("one") as directory, directory.lock():
        kill(containers.store, "one", "KILL")
    assert containers.children[0].wait(5) == -9


def test_kill_of_unknown_and_of_unfinished(containers: Containers) -> None:
    with pytest.raises(NotFound, match="container does not exist"):
        kill(containers.store, "nope", "TERM")
    with pytest.raises(PyruncError, match='unknown signal "X"'):
        kill(containers.store, "nope", "X")
    containers.store.create("left").close()
    with pytest.raises(NotFound, match=r"container does not exist \(.*delete --force"):
        kill(containers.store, "left", "TERM")


@ROOT
@pytest.mark.parametrize("init_ended", [False, True])
def test_sigkill_without_a_pid_namespace_ends_all(containers: Containers, init_ended: bool) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record(), pid_namespace_private=False)
    other = containers.process()
    enter(manager, record.pid)
    enter(manager, other.pid)
    if init_ended:
        containers.end(containers.children[0])
    kill(containers.store, "one", "CONT", everyone=True)
    assert other.poll() is None
    kill(containers.store, "one", "KILL")
    assert other.wait(5) == -9


@ROOT
@pytest.mark.parametrize("private", [True, False])
def test_everyone_of_a_stopped_container(containers: Containers, private: bool) -> None:
    """With a PID namespace of its own all of its processes have ended; who is in its cgroup now is somebody else's."""
    manager = containers.cgroup()
    containers.make(STOPPED, cgroup=manager.record(), pid_namespace_private=private)
    other = containers.process()
    enter(manager, other.pid)
    for word in ("TERM", "KILL"):
        kill(containers.store, "one", word, everyone=True)
        if private:
            assert other.poll() is None
        else:
            assert other.wait(5) == -15


@ROOT
def test_everyone_when_the_first_process_has_left_the_cgroup(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record())
    other = containers.process()
    enter(manager, other.pid)
    kill(containers.store, "one", "TERM", everyone=True)
    assert other.wait(5) == -15 and containers.children[0].wait(5) == -15
    assert record.pid == containers.children[0].pid


@ROOT
def test_everyone_of_a_paused_container_stays_paused(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record())
    other = containers.process()
    enter(manager, record.pid)
    enter(manager, other.pid)
    manager.freeze()
    kill(containers.store, "one", "TERM", everyone=True)
    assert containers.status() == PAUSED and other.poll() is None
    manager.thaw()
    assert other.wait(5) == -15 and containers.children[0].wait(5) == -15


@ROOT
def test_sigkill_to_what_a_killed_create_left_hits_nobody(containers: Containers) -> None:
    """It never told of its init, so whoever is in the cgroup that it was about to make is somebody else's."""
    manager = containers.cgroup()
    other = containers.process()
    enter(manager, other.pid)
    record = Record("one", "/b", "/b/rootfs", cgroup=manager.record(), pid_namespace_private=False)
    with containers.store.create("one") as directory:
        directory.save(record)
    with pytest.raises(PyruncError, match="not running"):
        kill(containers.store, "one", "KILL")
    assert other.poll() is None


@ROOT
def test_sigkill_reaches_a_paused_container(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record())
    enter(manager, record.pid)
    manager.freeze()
    kill(containers.store, "one", "KILL")
    assert containers.children[0].wait(5) == -9


# -- delete --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [CREATED, STOPPED])
def test_delete(containers: Containers, status: str) -> None:
    containers.make(status)
    containers.delete()
    assert containers.store.ids() == []
    assert containers.children[0].wait(5) == -9
    with pytest.raises(NotFound, match="container does not exist"):
        containers.delete()


def test_delete_of_a_running_container(containers: Containers) -> None:
    containers.make()
    with pytest.raises(PyruncError, match="cannot delete container one that is not stopped: running"):
        containers.delete()
    assert containers.children[0].poll() is None and containers.status() == RUNNING
    containers.delete(force=True)
    assert containers.store.ids() == [] and containers.children[0].wait(5) == -9


def test_delete_by_force_of_nothing(containers: Containers) -> None:
    containers.delete(force=True)
    assert not os.path.exists(containers.store.root)


def test_what_an_interrupted_create_left(containers: Containers) -> None:
    containers.store.create("one").close()
    with pytest.raises(NotFound, match=r"left by an interrupted create.*delete --force"):
        containers.delete()
    containers.delete(force=True)
    assert containers.store.ids() == []


def test_delete_by_force_of_a_damaged_record(containers: Containers) -> None:
    containers.make(STOPPED)
    Path(containers.store.root, "one", STATE).write_text("{")
    with pytest.raises(PyruncError, match="is damaged"):
        containers.delete()
    containers.delete(force=True)
    assert containers.store.ids() == []
    assert "is damaged" in containers.logged()


def test_delete_by_force_leaves_somebodys_directory_alone(containers: Containers) -> None:
    foreign = Path(containers.store.root, "documents")
    foreign.mkdir(parents=True)
    (foreign / "letter").write_text("dear")
    with pytest.raises(PyruncError, match="is not the state of a container: it holds other files"):
        containers.delete(force=True, id="documents")
    assert (foreign / "letter").exists()


def test_delete_by_force_while_a_start_hangs(containers: Containers) -> None:
    """`start` holds the lock until its hook has ended: here, when the container's process has."""
    containers.make(CREATED)
    child = os.fork()
    if child == 0:
        with containers.store.open("one") as directory, directory.lock():
            Path(containers.folder, "held").touch()
            record = directory.load()
            assert record
            while liveness.is_alive(record.pid, record.start_time):
                time.sleep(0.01)
        os._exit(0)
    wait_for(lambda: Path(containers.folder, "held").exists())
    containers.delete(force=True)
    assert os.waitpid(child, 0)[1] == 0
    assert containers.store.ids() == []


def test_poststop_hooks_all_run_and_fail_softly(containers: Containers) -> None:
    seen = containers.folder / "seen"
    hooks = [
        {"path": "/bin/sh", "args": ["sh", "-c", "echo broken >&2; exit 3"]},
        {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {seen}"]},
    ]
    containers.make(STOPPED, hooks={"poststop": hooks})
    containers.delete()
    assert '"status": "stopped"' in seen.read_text() and '"pid": 0' in seen.read_text()
    assert "level=warning" in containers.logged() and "broken" in containers.logged()
    assert containers.store.ids() == []


@ROOT
def test_delete_removes_the_cgroup_and_what_still_runs_in_it(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record(), pid_namespace_private=False)
    other = containers.process()
    for pid in (record.pid, other.pid):
        enter(manager, pid)
    assert all(os.path.isdir(path) for path in manager.paths().values())
    containers.delete(force=True)
    assert other.wait(5) == -9
    assert not any(os.path.exists(path) for path in manager.paths().values())
    assert containers.store.ids() == []


@ROOT
def test_the_cgroup_of_another_container_is_left_alone(containers: Containers) -> None:
    """A create that was killed before it made its cgroup may name one that another container has."""
    manager = containers.cgroup()
    other = containers.process()
    enter(manager, other.pid)
    record = containers.make(STOPPED, cgroup=manager.record(), pid_namespace_private=False)
    with containers.store.open("one") as directory:
        record.ready, record.pid = False, 0
        directory.save(record)
    containers.delete(force=True)
    assert other.poll() is None and manager.pids() == [other.pid]
    assert containers.store.ids() == []


@ROOT
def test_delete_of_a_paused_container(containers: Containers) -> None:
    manager = containers.cgroup()
    record = containers.make(cgroup=manager.record())
    enter(manager, record.pid)
    manager.freeze()
    with pytest.raises(PyruncError, match="not stopped: paused"):
        containers.delete()
    containers.delete(force=True)
    assert containers.store.ids() == []
