"""The configuration that `pyrunc spec` writes: a shell in a container that may do little."""

from __future__ import annotations

from pyrunc import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config, Mount, Namespace

#: What a shell's user needs to log in, to end own processes, to serve on a low port.
CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def example(rootless: bool, euid: int, egid: int, cgroup_v2: bool) -> Config:
    """The example configuration, for the caller `euid`:`egid` who is (not) `rootless`.

    Rootless: a user namespace with the caller's one id, the host's network (a network namespace of one's own would have
    no way out), /sys bound (sysfs belongs to the network namespace's owner), no cgroup limits. On cgroup v2 a cgroup
    namespace hides the host's tree.
    """
    kinds = ["pid", "ipc", "uts", "mount"]
    kinds += ["user"] if rootless else ["network"]
    kinds += ["cgroup"] if cgroup_v2 else []
    namespaces: list[Namespace] = [{"type": kind} for kind in kinds]  # type: ignore[typeddict-item]
    config: Config = {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": [*CAPABILITIES],
                "effective": [*CAPABILITIES],
                "permitted": [*CAPABILITIES],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyrunc",
        "mounts": _mounts(rootless),
        "linux": {"namespaces": namespaces, "maskedPaths": [*MASKED], "readonlyPaths": [*READONLY]},
    }
    if rootless:
        config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": euid, "size": 1}]
        config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": egid, "size": 1}]
    else:
        config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return config


def _mounts(rootless: bool) -> list[Mount]:
    safe = ["nosuid", "noexec", "nodev"]
    # Group 5 is tty by custom; with one mapped id there is no group 5.
    tty = [] if rootless else ["gid=5"]
    sys: Mount = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*safe, "ro"]}
    if rootless:
        sys = {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", *safe, "ro"]}
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
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*safe, "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": [*safe]},
        sys,
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*safe, "relatime", "ro"],
        },
    ]
