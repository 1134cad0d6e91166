"""Runs the verbs of a runtime and watches what comes out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import footprint, scratch
from tests.support.bundle import Bundle
from tests.support.patience import patient
from tests.support.payload import Testimony

_count = itertools.count(1)

#: PYRUNC_TEST_CGROUP_MANAGER=systemd: containers get their cgroups from systemd, unless a test is `cgroupfs`.
SYSTEMD = os.environ.get("PYRUNC_TEST_CGROUP_MANAGER") == "systemd"

#: What tells whose session this is: an ordinary user's runtime speaks with the systemd of that session.
_NAMES_OF_SESSION = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME", "USER")
SESSION = {name: os.environ[name] for name in _NAMES_OF_SESSION if os.geteuid() and name in os.environ}


def wait_for(what: Callable[[], Any], patience: float = 10, say: str = "it") -> Any:
    """The first true value of `what()`; fails after `patience` seconds."""
    patience = patient(patience)
    deadline = time.monotonic() + patience
    while not (value := what()):
        assert time.monotonic() < deadline, f"{say} did not happen within {patience} s"
        time.sleep(0.01)
    return value


class Outcome:
    """How one call of the runtime ended."""

    def __init__(self, command: Sequence[str], status: int, out: str, err: str) -> None:
        self.command = command
        self.status = status
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return (
            f"{' '.join(self.command)}\n  status {self.status}\n  stdout {self.out!r}\n  stderr {self.err!r}"
        )

    def ok(self) -> Outcome:
        """Assert success."""
        assert self.status == 0, repr(self)
        return self

    def fails(self, *words: str) -> Outcome:
        """Assert a non-zero status and exactly one clear line on stderr with each of `words` (any case)."""
        assert self.status != 0, f"should have failed:\n{self!r}"
        assert "Traceback" not in self.err and "a fault in pyrunc" not in self.err, repr(self)
        lines = [line for line in self.err.splitlines() if line.strip() and "level=warning" not in line]
        assert len(lines) == 1, f"one clear line expected:\n{self!r}"
        line = lines[0].replace('\\"', '"').lower()
        for word in words:
            assert word.lower() in line, f"{word!r} is not in the message:\n{self!r}"
        return self

    @property
    def testimony(self) -> Testimony:
        """What the payload said."""
        return Testimony(self.out)


class Running:
    """A call of the runtime that is still going on (a foreground run)."""

    def __init__(
        self, command: list[str], process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]
    ) -> None:
        self.command = command
        self.process = process
        self._out = out
        self._err = err

    @property
    def out(self) -> str:
        """Standard output so far."""
        return os.pread(self._out.fileno(), 1 << 22, 0).decode(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return os.pread(self._err.fileno(), 1 << 22, 0).decode(errors="replace")

    def says(self, text: str, patience: float = 10) -> None:
        """Wait until `text` is on standard output."""
        wait_for(
            lambda: text in self.out or (self.process.poll() is not None and text in self.out),
            patience,
            f"{text!r} on stdout (now {self.out!r}, stderr {self.err!r})",
        )

    def wait_reaping(self, patience: float = 30) -> None:
        """Wait for its end, and reap meanwhile: init of a PID namespace waits for what `exec` left to us there."""
        deadline = time.monotonic() + patient(patience)
        while self.process.poll() is None and time.monotonic() < deadline:
            footprint.reap()
            time.sleep(0.01)

    def wait(self, timeout: float = 20) -> Outcome:
        """Wait for its end."""
        timeout = patient(timeout)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"no end after {timeout} s: {' '.join(self.command)}\n{self.out}\n{self.err}"
            ) from None
        finally:
            footprint.own_children.discard(self.process.pid)
        return Outcome(self.command, status, self.out, self.err)


class Container:
    """One container by its id, with what its process wrote."""

    def __init__(self, runtime: Runtime, bundle: Bundle, id: str) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.id = id
        self._out = runtime.temporary()
        self._err = runtime.temporary()

    @property
    def out(self) -> str:
        """What the process (and the runtime) wrote on stdout."""
        return os.pread(self._out.fileno(), 1 << 22, 0).decode(errors="replace")

    @property
    def err(self) -> str:
        """What the process (and the runtime) wrote on stderr."""
        return os.pread(self._err.fileno(), 1 << 22, 0).decode(errors="replace")

    @property
    def testimony(self) -> Testimony:
        """What the payload said so far."""
        return Testimony(self.out)

    def create(self, *flags: str, **how: Any) -> Outcome:
        """`create`, with stdio kept for the container."""
        return self.runtime.into(self._out, self._err).verb(
            "create", "--bundle", self.runtime.put(self.bundle, self.id), *flags, self.id, **how
        )

    def start(self) -> Outcome:
        """`start`."""
        return self.runtime.verb("start", self.id)

    def run_detached(self, *flags: str, **how: Any) -> Outcome:
        """`run --detach`."""
        return self.runtime.into(self._out, self._err).verb(
            "run", "--detach", "--bundle", self.runtime.put(self.bundle, self.id), *flags, self.id, **how
        )

    def checkpoint(self, images: Path, *flags: str, **how: Any) -> Outcome:
        """`checkpoint`."""
        return self.runtime.verb(
            "checkpoint", "--image-path", str(images), *flags, self.id, timeout=60, **how
        )

    def restore(self, images: Path, *flags: str, **how: Any) -> Outcome:
        """`restore --detach`, with the same stdio as that of `create`."""
        where = ["--bundle", self.runtime.put(self.bundle, self.id), "--image-path", str(images)]
        into = self.runtime.into(self._out, self._err)
        return into.verb("restore", "--detach", *where, *flags, self.id, timeout=60, **how)

    def state(self) -> dict[str, Any]:
        """The JSON of `state`."""
        state: dict[str, Any] = json.loads(self.runtime.verb("state", self.id).ok().out)
        return state

    @property
    def status(self) -> str:
        """The status that `state` tells."""
        return str(self.state()["status"])

    @property
    def pid(self) -> int:
        """The pid of the first process, seen from the host."""
        return int(self.state()["pid"])

    @property
    def cgroup_name(self) -> str:
        """The last part of the path of its cgroup, if the test has not chosen another."""
        return f"test-{self.id}.scope" if "--systemd-cgroup" in self.runtime.globals else self.id

    def cgroup(self, controller: str = "", pid: int = 0) -> Path:
        """The directory of its cgroup, with the name of a v1 controller in the hierarchy of that.

        `pid`: the first process, for who asks so often that the runtime should not be asked for it each time.
        """
        lines = Path(f"/proc/{pid or self.pid}/cgroup").read_text().splitlines()
        (path,) = [
            path for _, names, path in (x.split(":", 2) for x in lines) if controller in names.split(",")
        ]
        return Path("/sys/fs/cgroup", controller, path.lstrip("/"))

    def exec(self, command: Sequence[str], *flags: str, **how: Any) -> Outcome:
        """`exec` of this command, to its end."""
        return self.runtime.verb("exec", *flags, self.id, *command, **how)

    def asks(self, *questions: str, flags: Sequence[str] = (), **how: Any) -> Testimony:
        """What testify answers in a process of its own in the container."""
        words = ["testify"]
        for number, question in enumerate(questions):
            words += (["--"] if number else []) + question.split()
        return self.exec(words, *flags, **how).ok().testimony

    def kill(self, *words: str) -> Outcome:
        """`kill`."""
        return self.runtime.verb("kill", self.id, *words)

    def delete(self, *flags: str) -> Outcome:
        """`delete`."""
        return self.runtime.verb("delete", *flags, self.id)

    def says(self, text: str) -> None:
        """Wait until the process has written `text`."""
        wait_for(lambda: text in self.out, 10, f"{text!r} on stdout of {self.id} ({self.out!r} {self.err!r})")

    def stops(self) -> None:
        """Wait until the process has ended."""
        wait_for(lambda: self.status == "stopped", 10, f"the end of {self.id}")


class Runtime:
    """The runtime under test with a `--root` of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.command = command
        self.folder = folder
        self.root = folder / "state"
        self.tag = f"pyrunc-test-{os.getpid()}-{next(_count)}"
        self.globals: list[str] = ["--systemd-cgroup"] if SYSTEMD else []
        self.prefix: list[str] = []
        self.env: dict[str, str] = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.env |= SESSION
        self.cwd: Path | str = folder
        self.auto_cgroup = SYSTEMD or os.geteuid() == 0
        self._ids: list[str] = []
        self._bundles = itertools.count(1)
        self._before = set(footprint.descendants())
        self._out: IO[bytes] | None = None
        self._err: IO[bytes] | None = None
        self.family: list[Runtime] = [self]
        self._files: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    # -- making things ---------------------------------------------------------------------------------

    def temporary(self) -> IO[bytes]:
        """A file without a name, closed at the end of the test."""
        file: IO[bytes] = tempfile.TemporaryFile()
        self._files.append(file)
        return file

    def new_id(self) -> str:
        """A fresh id; its container is deleted at the end of the test."""
        id = f"{self.tag}-{len(self._ids) + 1}"
        self._ids.append(id)
        return id

    def bundle(self) -> Bundle:
        """A fresh bundle."""
        return Bundle(self.folder / f"bundle-{next(self._bundles)}", self.tag)

    def container(self, bundle: Bundle) -> Container:
        """A container (not yet created) of this bundle."""
        return Container(self, bundle, self.new_id())

    def footprint(self, *bundles: Bundle) -> footprint.Footprint:
        """A snapshot; mount points made inside the root file systems of `bundles` do not count."""
        return footprint.Footprint(self.tag, self.folder, tuple(bundle.rootfs for bundle in bundles))

    def like(self) -> Runtime:
        """The same runtime and folder, to be given another prefix, user or environment."""
        twin = Runtime.__new__(Runtime)
        twin.__dict__ = dict(self.__dict__)
        twin.globals, twin.prefix, twin.env = list(self.globals), list(self.prefix), dict(self.env)
        self.family.append(twin)
        return twin

    def as_user(self, uid: int, gid: int, *around: str) -> Runtime:
        """The same runtime, called by an ordinary user with a run-time directory of its own."""
        twin = self.like()
        home = self.folder / f"user-{uid}"
        home.mkdir(exist_ok=True)
        os.chown(home, uid, gid)
        home.chmod(0o700)
        user = ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups", "--inh-caps=-all"]
        twin.prefix = [*around, *user, "--"]
        twin.env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "USER": "ann"}
        twin.root = home / "state"
        twin.auto_cgroup = False
        twin.globals = []  # this user has no session, so no systemd
        twin.cwd = home
        return twin

    def into(self, out: IO[bytes], err: IO[bytes]) -> Runtime:
        """The same runtime with these as stdout and stderr of its next calls."""
        twin = Runtime.__new__(Runtime)
        twin.__dict__ = dict(self.__dict__)
        twin._out, twin._err = out, err
        return twin

    def put(self, bundle: Bundle, id: str) -> str:
        """Write the bundle's configuration; its cgroup is named after the test, away from that of the caller."""
        if bundle.written:
            config = bundle.config
            if (
                self.auto_cgroup
                and isinstance(config.get("linux"), dict)
                and "cgroupsPath" not in config["linux"]
            ):
                config = {**config, "linux": {**config["linux"], "cgroupsPath": self.cgroups_path(id)}}
            (bundle.path / "config.json").write_text(json.dumps(config, indent=1))
        return str(bundle.path)

    def cgroups_path(self, id: str) -> str:
        """`linux.cgroupsPath` of a cgroup named after this id: a path, or a unit in systemd's default slice."""
        return f":test:{id}" if "--systemd-cgroup" in self.globals else f"/{id}"

    # -- calling ---------------------------------------------------------------------------------------

    def words(self, *words: str) -> list[str]:
        """The whole command line for these words after `--root`."""
        return [*self.prefix, *self.command, "--root", str(self.root), *self.globals, *words]

    def spawn(
        self, *words: str, stdin: Any = subprocess.DEVNULL, env: dict[str, str] | None = None, **how: Any
    ) -> Running:
        """Start a call and do not wait for it. `env` adds to the environment."""
        command = self.words(*words)
        out = self._out or self.temporary()
        err = self._err or self.temporary()
        how.setdefault("cwd", self.cwd)
        process = subprocess.Popen(
            command, stdin=stdin, stdout=out, stderr=err, env=self.env | (env or {}), **how
        )
        footprint.own_children.add(process.pid)
        self._processes.append(process)
        return Running(command, process, out, err)

    def verb(self, *words: str, timeout: float = 20, **how: Any) -> Outcome:
        """One call, to its end."""
        return self.spawn(*words, **how).wait(timeout)

    def run(self, bundle: Bundle, *flags: str, **how: Any) -> Outcome:
        """`run` in the foreground, to its end."""
        id = self.new_id()
        return self.verb("run", "--bundle", self.put(bundle, id), *flags, id, **how)

    def ask(self, bundle: Bundle, *questions: str) -> Testimony:
        """Run testify with these questions and give its answers."""
        return self.run(bundle.ask(*questions)).ok().testimony

    def state_of(self, id: str) -> dict[str, Any]:
        """The JSON of `state`."""
        state: dict[str, Any] = json.loads(self.verb("state", id).ok().out)
        return state

    @contextlib.contextmanager
    def running(self, bundle: Bundle, *flags: str, **how: Any) -> Iterator[Container]:
        """A container that has been started; deleted afterwards."""
        container = self.container(bundle)
        container.create(*flags, **how).ok()
        container.start().ok()
        try:
            yield container
        finally:
            container.delete("--force")
            footprint.reap()

    # -- the end ---------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove every trace, whatever the test left."""
        for twin in self.family:
            known = os.listdir(twin.root) if os.path.isdir(twin.root) else []
            for id in known:
                if id in self._ids:
                    twin.spawn("delete", "--force", id).wait_reaping()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            footprint.own_children.discard(process.pid)
        left = set(footprint.descendants()) - self._before
        footprint.end(left)
        for file in self._files:
            file.close()
        footprint.remove_cgroups(self.tag)
        scratch.unmount_below(self.folder)


__all__ = ["Container", "Outcome", "Running", "Runtime", "signal", "wait_for"]
