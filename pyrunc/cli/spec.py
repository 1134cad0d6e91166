"""spec: a config.json to start from. The defaults are those that users of `runc spec` know."""

from __future__ import annotations

import os

from pyrunc import SPEC_VERSION
from pyrunc.config.writer import dumps
from pyrunc.errors import KernelError, PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

NAME = "config.json"


def write(bundle: str, rootless: bool) -> None:
    """Write config.json into the directory `bundle`. Raises PyruncError if there is one."""
    path = os.path.join(bundle, NAME)
    config = document(os.path.exists("/sys/fs/cgroup/cgroup.controllers"))
    if rootless:
        make_rootless(config, os.geteuid(), os.getegid())
    try:
        # O_EXCL also refuses a dangling symbolic link.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise PyruncError(f"File {NAME} exists. Remove it first", code="exists") from None
    except OSError as error:
        raise KernelError.of(f"write {path}", error) from None
    try:
        rest = (dumps(config, 4) + "\n").encode("ascii")
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        os.unlink(path)
        raise KernelError.of(f"write {path}", error) from None
    finally:
        os.close(file)


def document(cgroup_v2: bool) -> Json:
    """The configuration: a shell in a read-only root file system, with few capabilities."""
    namespaces = ["pid", "network", "ipc", "uts", "mount"]
    if cgroup_v2:
        namespaces.append("cgroup")
    return {
        "ociVersion": SPEC_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyrunc",
        "mounts": _mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in namespaces],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/interrupts",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/devices/virtual/powercap",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def make_rootless(config: Json, uid: int, gid: int) -> None:
    """Change `config` so that the ordinary user `uid`, group `gid`, can run it."""
    linux = config["linux"]
    # Without privileges a network namespace stays empty, and /sys can only be mounted with one of its own.
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    del linux["resources"]
    for mount in config["mounts"]:
        if mount["destination"] == "/sys":
            mount.update(type="none", source="/sys", options=["rbind", "nosuid", "noexec", "nodev", "ro"])
        elif "options" in mount:
            # Only one id is mapped, and it is neither of these.
            mount["options"] = [word for word in mount["options"] if not word.startswith(("uid=", "gid="))]


def _process() -> Json:
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        # Not inheritable and so not ambient: nothing gains them by an execve of its own (CVE-2022-29162).
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts() -> list[Json]:
    closed = ["nosuid", "noexec", "nodev"]
    return [
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
            "options": [*closed, "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": closed},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*closed, "ro"]},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*closed, "relatime", "ro"],
        },
    ]
