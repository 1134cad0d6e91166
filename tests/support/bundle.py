"""Makes bundles: a root file system with the payload and busybox, and a config.json to be changed by the test."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.support.payload import Testimony, busybox, testify

PATH = "PATH=/bin:/sbin:/usr/bin"
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

DEFAULT: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["testify", "pid"],
        "env": [PATH, "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "inside",
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
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
    },
}


def make_rootfs(path: Path) -> Path:
    """A root file system with testify, busybox and a few of its names."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "run", "var", "home", "area"):
        (path / name).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    for source, name in ((testify(), "testify"), (busybox(), "busybox")):
        shutil.copy(source, path / "bin" / name)
        (path / "bin" / name).chmod(0o755)
    for name in (
        "sh",
        "cat",
        "sleep",
        "true",
        "false",
        "mount",
        "echo",
        "ls",
        "stty",
        "readlink",
        "env",
        "grep",
        "touch",
    ):
        (path / "bin" / name).symlink_to("busybox")
    (path / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"
    )
    (path / "etc" / "group").write_text("root:x:0:\nann:x:1000:\n")
    return path


class Bundle:
    """A bundle directory. Change `config` freely; `write` (done by `Runtime` before each use) puts it down.

    Where the tests themselves run as an ordinary user, every bundle is rootless from the start.
    """

    def __init__(self, path: Path, tag: str) -> None:
        self.path = path
        self.tag = tag
        self.config: dict[str, Any] = copy.deepcopy(DEFAULT)
        self.written = True  # False: the test has written config.json itself
        path.mkdir(parents=True, exist_ok=True)
        self.rootfs = make_rootfs(path / "rootfs")
        if os.geteuid():
            self.rootless(os.geteuid(), os.getegid())

    @property
    def process(self) -> dict[str, Any]:
        """The `process` object."""
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        """The `linux` object."""
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def write(self) -> None:
        """Put config.json down, unless the test wrote its own."""
        if self.written:
            (self.path / "config.json").write_text(json.dumps(self.config, indent=1))

    def raw(self, text: str | bytes) -> None:
        """Let config.json be exactly this."""
        self.written = False
        raw = text.encode() if isinstance(text, str) else text
        (self.path / "config.json").write_bytes(raw)

    def ask(self, *questions: str) -> Bundle:
        """Run testify with these commands, each a line of words; quote nothing, words hold no blanks."""
        words = ["testify"]
        for number, question in enumerate(questions):
            words += (["--"] if number else []) + question.split()
        self.process["args"] = words
        return self

    def sleeper(self) -> Bundle:
        """Run a process that waits, and ends with SIGTERM."""
        return self.ask("sleep")

    def shell(self, script: str) -> Bundle:
        """Run a line of shell."""
        self.process["args"] = ["sh", "-c", script]
        return self

    def mount(self, destination: str, kind: str, source: str, *options: str, first: bool = False) -> Bundle:
        """Add a mount at the end (or the beginning) of the list."""
        entry = {"destination": destination, "type": kind, "source": source, "options": list(options)}
        mounts = self.config["mounts"]
        mounts.insert(0 if first else len(mounts), entry)
        return self

    def bind(self, source: Path | str, destination: str, *options: str) -> Bundle:
        """Add a bind mount."""
        return self.mount(destination, "bind", str(source), *(options or ("bind",)))

    def mount_of(self, destination: str) -> dict[str, Any]:
        """The first mount with this destination."""
        return next(m for m in self.config["mounts"] if m["destination"] == destination)

    def without_mount(self, *destinations: str) -> Bundle:
        """Take mounts out."""
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] not in destinations]
        return self

    def namespace(self, kind: str, path: str | None = None) -> Bundle:
        """Have a namespace of this kind, new or at `path`."""
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]
        self.linux["namespaces"].append({"type": kind, "path": path} if path else {"type": kind})
        return self

    def without_namespace(self, *kinds: str) -> Bundle:
        """Share these namespaces with the runtime; takes out what cannot be without them."""
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] not in kinds]
        if "pid" in kinds and os.geteuid():  # proc shows a pid namespace, and this one is not the user's
            self.mount_of("/proc").update(type="none", source="/proc", options=["rbind"])
        if "uts" in kinds:
            self.config.pop("hostname", None)
        return self

    def map_ids(self, host: int = 200000, size: int = 65536, container: int = 0) -> Bundle:
        """Have a new user namespace with one range of uids and gids; the root file system is left as it is."""
        self.namespace("user")
        mapping = [{"containerID": container, "hostID": host, "size": size}]
        self.linux["uidMappings"] = mapping
        self.linux["gidMappings"] = mapping
        return self

    def give_rootfs(self, uid: int, gid: int) -> Bundle:
        """Let this host id own the root file system."""
        for directory, names, files in os.walk(self.rootfs):
            for name in (*names, *files):
                os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)
        os.chown(self.rootfs, uid, gid)
        return self

    def rootless(self, uid: int, gid: int) -> Bundle:
        """What `spec --rootless` changes: own ids mapped, the host's network, /sys bound, no ids in options."""
        self.without_namespace("network").namespace("user")
        self.linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        self.linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
        self.without_mount("/sys")
        self.mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
        for mount in self.config["mounts"]:
            if "options" in mount:
                mount["options"] = [o for o in mount["options"] if not o.startswith(("uid=", "gid="))]
        return self

    def hook(self, kind: str, script: str, **more: Any) -> Bundle:
        """Add a hook that runs a line of the host's shell (for container-side hooks: the container's)."""
        entry = {"path": "/bin/sh", "args": ["sh", "-c", script], **more}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
        return self

    def seccomp(self, default: str = "SCMP_ACT_ALLOW", *rules: dict[str, Any], **more: Any) -> Bundle:
        """Have a seccomp profile for this architecture."""
        self.linux["seccomp"] = {
            "defaultAction": default,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": list(rules),
            **more,
        }
        return self

    @staticmethod
    def testimony(text: str) -> Testimony:
        """What testify said in `text`."""
        return Testimony(text)
