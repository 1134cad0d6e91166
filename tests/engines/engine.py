"""What the four engines have in common: a scratch folder, a client to call, and the traces of its containers."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.engines.daemon import Daemon
from tests.engines.ordinary_user import OrdinaryUser
from tests.engines.terminal import Terminal
from tests.support import criu, footprint, scratch
from tests.support.patience import patient
from tests.support.payload import Testimony
from tests.support.runtime import SESSION, SYSTEMD, Outcome, wait_for

#: Where Debian puts the engines; what an administrator has in /usr/local is not under test.
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"

#: The name under which every engine knows the image of the tests.
IMAGE = "localhost/pyrunc-test:1"


def forgets_what_ended_meanwhile() -> bool:
    """Whether a restarted containerd has no status of a task that ended while it was away.

    From 1.7 on it takes the shim of a task without processes for a leaked one, and ends it, whatever the runtime.
    """
    said = subprocess.run(
        [program("containerd"), "--version"], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r" v?(\d+)\.(\d+)\.", said)
    assert found, said
    return (int(found[1]), int(found[2])) >= (1, 7)


def program(name: str) -> str:
    """The path of an engine's program."""
    found = shutil.which(name, path=PROGRAMS)
    assert found, f"{name} is not installed: `make test` installs the engines"
    return found


def open_files() -> int:
    """A limit of open files that may be set everywhere: engines ask for more than some hosts may give."""
    return min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def processes() -> int:
    """A limit of processes that may be set everywhere."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return 10000 if most == resource.RLIM_INFINITY else min(10000, most)


def write_storage_conf(folder: Path) -> Path:
    """A storage.conf of containers/storage (podman, buildah) with everything below `folder`."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], check=True, capture_output=True, text=True
    ).stdout.strip()
    driver = "vfs" if kind == "overlayfs" else "overlay"  # overlayfs cannot have itself as upper layer
    path = folder / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "{driver}"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
        f'rootless_storage_path = "{folder}/graph"\n'
    )
    return path


class Engine(ABC):
    """One engine with its scratch folder.

    `tag` is in the names of its cgroups. `container_cgroup` tells the cgroups of containers from those that
    an engine keeps for itself, `container_id` its containers from those of others in one state directory.
    """

    name = ""
    container_cgroup = re.compile(r"[0-9a-f]{64}$")
    container_id = re.compile(r"^[0-9a-f]{64}$")

    #: What it makes on the host wherever its folders are: files, and folders, the inner ones first.
    elsewhere: tuple[str, ...] = ()

    def __init__(self, runtime: Path, image: Path, as_user: bool = False) -> None:
        """`as_user`: root's tests call it as an ordinary user."""
        self.runtime = runtime
        self.image = image
        self.folder = scratch.make(f"pyrunc-test-{self.name}")
        self.user = OrdinaryUser(self.folder) if as_user else None
        self.tag = self.folder.name.replace("_", "x")  # containerd's namespaces have no "_x"
        if SYSTEMD:  # the name of a slice, in which "-" would mean one within another
            self.tag = self.tag.replace("-", "_")
        self.daemon: Daemon | None = None
        self._absent = [path for path in self.elsewhere if not os.path.lexists(path)]
        programs = criu.folder()
        self.env = {
            "PATH": f"{programs}:{PROGRAMS}" if programs else PROGRAMS,
            "TERM": "xterm",
            **SESSION,
            "HOME": str(self.folder),
        }
        if self.user:
            self.env["XDG_RUNTIME_DIR"] = str(self.user.run_time)

    @property
    def rootless(self) -> bool:
        """Whether an ordinary user calls it."""
        return self.user is not None or os.geteuid() != 0

    @property
    def cgroup_parent(self) -> str:
        """Below which all its containers are: a slice of systemd, or a path; an ordinary user's is beside his own."""
        if SYSTEMD:
            return f"{self.tag}.slice"
        own = Path("/proc/self/cgroup").read_text().rpartition(":")[2].strip()
        return f"{os.path.dirname(own).rstrip('/')}/{self.tag}" if os.geteuid() else f"/{self.tag}"

    @property
    def default_state(self) -> Path:
        """Where the runtime keeps its state when it is not told: it is named after the program."""
        return Path(self.env.get("XDG_RUNTIME_DIR", "/run")) / self.runtime.name

    # -- to be said by each engine -----------------------------------------------------------------------

    @abstractmethod
    def command(self, *words: str) -> list[str]:
        """The command line of the client for these words."""

    @abstractmethod
    def start(self) -> None:
        """Start what runs in the background, import the image."""

    def answers(self) -> bool:
        """Whether its daemon serves the client."""
        return self.call("version").status == 0

    def start_daemon(self, command: list[str], log: str) -> None:
        """Start its daemon, which logs to this file of the scratch folder, and wait until it answers."""
        self.daemon = Daemon(command, self.env, self.folder / log)
        self.daemon.wait_until(self.answers)

    def restart(self, number: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End the daemon with this signal, do something, start it again."""
        assert self.daemon
        self.daemon.end(number)
        meanwhile()
        self.daemon.start_again()
        self.daemon.wait_until(self.answers)

    def stop(self) -> None:
        """Stop what runs in the background."""
        if self.daemon:
            self.daemon.stop()

    @abstractmethod
    def remove_containers(self) -> None:
        """Remove all containers, running or not."""

    @abstractmethod
    def state_directories(self) -> list[Path]:
        """Where the runtime keeps its state when this engine calls it."""

    def own_processes(self) -> set[int]:
        """The pids of its daemons, which may be others after a restart."""
        return {self.daemon.process.pid} if self.daemon else set()

    # -- calling -----------------------------------------------------------------------------------------

    def call(self, *words: str, timeout: float = 60) -> Outcome:
        """One call of the client, to its end."""
        return self.execute(self.command(*words), timeout)

    def execute(self, command: list[str], timeout: float = 60) -> Outcome:
        """Run a command line as its user in this engine's environment, to its end.

        Output goes to files: a process left behind with the output open must not make a test hang.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                done = subprocess.run(
                    self._by_user(command),
                    check=False,
                    env=self.env,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    timeout=patient(timeout),
                )
                status = done.returncode
            except subprocess.TimeoutExpired:
                status = -1
            text = [os.pread(file.fileno(), 1 << 22, 0).decode(errors="replace") for file in (out, err)]
        outcome = Outcome(command, status, *text)
        assert status != -1, f"no end after {timeout} s: {outcome!r}"
        return outcome

    def terminal(self, *words: str) -> Terminal:
        """Start the client on a terminal of its own."""
        return Terminal(self._by_user(self.command(*words)), self.env, self.folder)

    def _by_user(self, command: list[str]) -> list[str]:
        return [*self.user.around, *command] if self.user else command

    def may_write(self, path: Path) -> None:
        """Let the engine, and root of its containers, write a file, a folder or a socket of the test."""
        if self.user:
            self.user.gets(path)

    # -- traces ------------------------------------------------------------------------------------------

    def traces(self) -> set[str]:
        """What containers leave: processes, mounts, cgroups, the runtime's state."""
        footprint.reap()
        living = {pid: entry for pid, entry in footprint.descendants().items() if entry[1] != "Z"}
        own = self.own_processes()
        found = {f"process {pid} ({entry[0]})" for pid, entry in living.items() if pid not in own}
        # containers/storage binds its own directory on itself while it is in use.
        overlay = f"{self.folder}/graph/overlay "
        everywhere = footprint.mounts() | (self.user.mounts() if self.user else set())
        mounts = {mount for mount in everywhere if mount.startswith(f"{self.folder}/")}
        found |= {f"mount {mount}" for mount in mounts if not mount.startswith(overlay)}
        cgroups = footprint.cgroups(self.tag)
        found |= {f"cgroup {path}" for path in cgroups if self.container_cgroup.search(path)}
        for top in self.state_directories():
            if top.is_dir():
                found |= {f"state {top}/{name}" for name in os.listdir(top) if self.container_id.search(name)}
        return found

    def _stragglers(self) -> set[int]:
        """What has been left to us: shims, told by their arguments, and with them their containers."""
        found: set[int] = set()
        for pid in footprint.descendants():
            with contextlib.suppress(OSError):
                if os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found |= {pid, *footprint.descendants(pid)}
        return found

    @contextlib.contextmanager
    def watched(self, patience: float = 5) -> Iterator[None]:
        """Fail if what is done inside leaves a trace once its containers have been removed."""
        before = self.traces()
        try:
            yield
        finally:
            self.remove_containers()
        deadline = time.monotonic() + patient(patience)
        while (left := self.traces() - before) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"{self.name} and its runtime left behind:\n  " + "\n  ".join(sorted(left))

    def close(self) -> None:
        """End everything and remove the scratch folder, whatever state a failed test has left the engine in."""
        with contextlib.suppress(Exception):
            self.remove_containers()
        self.stop()
        footprint.end(self._stragglers())
        if self.user:
            footprint.end(self.user.processes())
        for path in self._absent:
            with contextlib.suppress(OSError):  # not made, or used by others by now
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        if SYSTEMD:  # a slice stays when its last unit goes
            user = ["--user"] if SESSION else []
            subprocess.run(["systemctl", *user, "stop", "--quiet", self.cgroup_parent], check=False)
        footprint.reap()
        footprint.remove_cgroups(self.tag)
        scratch.remove(self.folder)


class DockerLike(Engine):
    """An engine with the command line of docker."""

    #: Options of every `run` and `create` on the hosts of the tests.
    habits: tuple[str, ...] = ()

    #: What must be said with any `--ulimit`, since that replaces the defaults of the configuration.
    limits: tuple[str, ...] = ()

    def run(self, options: list[str], *words: str) -> Outcome:
        """`run --rm OPTIONS IMAGE WORDS` in the foreground."""
        return self.call("run", "--rm", *self.habits, *options, IMAGE, *words)

    def ask(self, options: list[str], *questions: str) -> Testimony:
        """What testify answers in a container with these options."""
        return self.run(options, *asking(*questions)).ok().testimony

    def detached(self, name: str, options: list[str], *words: str) -> None:
        """`run --detach` a container and wait until its process says that it is ready."""
        words = words or ("testify", "sleep")
        self.call("run", "--detach", "--name", name, *self.habits, *options, IMAGE, *words).ok()
        wait_for(lambda: "ready" in self.call("logs", name).out, 10, f"readiness of {name}")

    def inspect(self, name: str, template: str) -> str:
        """One fact about a container, chosen by a Go template."""
        return self.call("inspect", "--format", template, name).ok().out.strip()

    def remove_containers(self) -> None:
        """Remove all containers, running or not."""
        ids = self.call("ps", "--all", "--quiet").out.split()
        if ids:
            self.call("rm", "--force", *ids)


def asking(*questions: str) -> list[str]:
    """The words that put these questions to testify."""
    words = ["testify"]
    for number, question in enumerate(questions):
        words += (["--"] if number else []) + question.split()
    return words
