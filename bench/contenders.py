"""The runtimes that take turns, each with its own --root, and the bundle that all run."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

#: What `runc spec` describes: the default of all three, with `true` in place of a shell.
CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "bench",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue",
            "type": "mqueue",
            "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


class Failed(Exception):
    """A runtime did not do what a measurement needs."""


class Bundle:
    """A bundle directory over the common root file system; `config` is fixed unless a measurement varies it."""

    def __init__(self, path: Path, rootfs: Path, cgroup: str) -> None:
        self.path = path
        self.cgroup = cgroup
        self.config = copy.deepcopy(CONFIG)
        self.config["root"]["path"] = str(rootfs)
        path.mkdir()

    def write(self, id: str) -> None:
        """Write config.json for this container (its cgroup is in it)."""
        self.config["linux"]["cgroupsPath"] = f"/{self.cgroup}/{id}"
        (self.path / "config.json").write_text(json.dumps(self.config))


def timed(argv: list[str], log_file: Path, timeout: float = 60) -> tuple[float, int]:
    """Seconds and exit status (128 + n after a signal) of one program; its output goes to the log."""
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
    end_or_kill = _Deadline(pid, timeout)
    _, status, _ = os.wait4(pid, 0)
    seconds = time.perf_counter() - begin
    end_or_kill.cancel()
    os.close(log)
    code = os.waitstatus_to_exitcode(status)
    return seconds, 128 - code if code < 0 else code


class Contender:
    """One runtime. Calls are made with posix_spawn and wait4, so that a call costs the caller little."""

    def __init__(self, name: str, program: str, folder: Path, rootfs: Path) -> None:
        self.name = name
        self.program = program
        self.root = folder / f"{name}-state"
        self.cgroup = f"{folder.name}-{name}"
        self.bundle = Bundle(folder / f"{name}-bundle", rootfs, self.cgroup)
        self.log = folder / f"{name}.log"
        self._numbers = itertools.count(1)
        self.made: set[str] = set()

    def new_id(self) -> str:
        """An id for a container; `clean` removes it whatever happens."""
        id = f"b{next(self._numbers)}"
        self.made.add(id)
        return id

    def version(self) -> str:
        """The first line of `--version`."""
        out = subprocess.run([self.program, "--version"], check=True, capture_output=True, text=True).stdout
        return out.splitlines()[0]

    def call(self, *words: str, timeout: float = 60) -> tuple[float, int]:
        """Seconds and exit status (128 + n after a signal) of one call; its output goes to the log."""
        return timed([self.program, "--root", str(self.root), *words], self.log, timeout)

    def must(self, *words: str) -> float:
        """Seconds of a call that has to succeed."""
        seconds, status = self.call(*words)
        if status:
            said = self.log.read_text(errors="replace").strip()
            raise Failed(f"{self.name} {' '.join(words)}: status {status}: {said}")
        return seconds

    def create(self, id: str, *flags: str) -> float:
        """Seconds of `create`."""
        self.bundle.write(id)
        return self.must("create", "--bundle", str(self.bundle.path), *flags, id)

    def delete(self, id: str) -> float:
        """Seconds of `delete --force` (a waiting container is killed first)."""
        seconds = self.must("delete", "--force", id)
        self.made.discard(id)
        return seconds

    def clean(self) -> None:
        """Remove every container and cgroup."""
        for id in sorted(self.made):
            self.call("delete", "--force", id)
        self.made.clear()
        for top in Path("/sys/fs/cgroup").iterdir() if os.path.isdir("/sys/fs/cgroup") else []:
            for path in (top / self.cgroup, top):
                if path.name == self.cgroup and path.is_dir():
                    _remove_cgroups(path)


class _Deadline:
    """Kills a process that does not end in time."""

    def __init__(self, pid: int, seconds: float) -> None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def cancel(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _remove_cgroups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def make_rootfs(path: Path) -> Path:
    """A root file system of busybox, with the mount points that the measurements need."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "mnt"):
        (path / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if not busybox:
        raise Failed("busybox is not installed (Debian: busybox-static)")
    shutil.copy(busybox, path / "bin" / "busybox")
    for name in ("true", "sleep", "sh"):
        (path / "bin" / name).symlink_to("busybox")
    return path


@contextlib.contextmanager
def field(pyrunc: str) -> Iterator[list[Contender]]:
    """pyrunc, runc and crun, ready; afterwards nothing of them is left."""
    folder = Path(tempfile.mkdtemp(prefix="pyrunc-bench-"))
    folder.chmod(0o755)
    contenders: list[Contender] = []
    try:
        rootfs = make_rootfs(folder / "rootfs")
        for name, program in (
            ("pyrunc", pyrunc),
            ("runc", shutil.which("runc")),
            ("crun", shutil.which("crun")),
        ):
            if not program:
                raise Failed(f"{name} is not installed")
            contenders.append(Contender(name, program, folder, rootfs))
        yield contenders
    finally:
        for contender in contenders:
            contender.clean()
        shutil.rmtree(folder, ignore_errors=True)


def turns(contenders: list[Contender], rounds: int) -> Iterator[tuple[int, Contender]]:
    """Each contender once per round; who begins changes, so that nobody always runs behind the same other."""
    for number in range(rounds):
        at = number % len(contenders)
        for contender in contenders[at:] + contenders[:at]:
            yield number, contender
