"""The five capability sets of the container process (config.md "Linux process: capabilities"; capabilities(7)).

Order, and why:

1. The bounding set is dropped while init still has CAP_SETPCAP (`plan_before_user`).
2. PR_SET_KEEPCAPS, or the change from uid 0 to another would clear the permitted set.
3. The ids are changed (`pyrunc.linux.credentials`).
4. capset(2) gives effective, permitted and inheritable their final values, in one call.
5. The ambient set is raised last: the kernel keeps it within permitted and inheritable, and clears it when the ids
   change (`plan_after_user`).

A config without `capabilities`, or without one of the sets, gets empty ones, as with runc: who wants a
privilege has to name it.

Names. One that is no capability at all is a mistake in the config and refused. One that exists but cannot be
granted, by this kernel or to this runtime, is left out with a warning, as the spec wants.
"""

from __future__ import annotations

from struct import pack

from pyrunc.kernel.constants import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_KEEPCAPS,
)
from pyrunc.kernel.procfs import read
from pyrunc.linux.namespaces import has
from pyrunc.plan.program import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The capabilities in the order of their numbers (linux/capability.h).
NAMES: Final = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}

#: The header of capset(2) for 64-bit sets: _LINUX_CAPABILITY_VERSION_3, and pid 0 for oneself.
HEADER: Final = pack("<Ii", 0x2008_0522, 0)
_LOW: Final = 0xFFFF_FFFF


class Sets:
    """The five sets as masks, bit n for capability n."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, config: Config) -> None:
        wanted = config.get("process", {}).get("capabilities") or {}
        self.bounding = mask(wanted.get("bounding"))
        self.effective = mask(wanted.get("effective"))
        self.inheritable = mask(wanted.get("inheritable"))
        self.permitted = mask(wanted.get("permitted"))
        self.ambient = mask(wanted.get("ambient"))

    def limit(self, available: int) -> None:
        """Take out what capset(2) and prctl(2) would refuse with EPERM for the whole set."""
        self.bounding &= available
        self.permitted &= available
        self.effective &= self.permitted
        # The kernel lets nothing into the inheritable set that has left the bounding set.
        self.inheritable &= self.bounding
        self.ambient &= self.permitted & self.inheritable


def mask(names: list[str] | None) -> int:
    """The mask of a list of names; unknown ones count as nothing."""
    value = 0
    for name in names or ():
        number = NUMBERS.get(name)
        if number is not None:
            value |= 1 << number
    return value


def names_of(value: int) -> list[str]:
    """The names in a mask."""
    return [name for number, name in enumerate(NAMES) if value >> number & 1]


def available(config: Config, host: Host) -> int:
    """The capabilities that init can have: all of the kernel's own in a user namespace, else the runtime's."""
    kernel = (1 << host.last_capability + 1) - 1
    return kernel if has(config, "user") else kernel & host.capabilities


def check(config: Config, host: Host, report: Report) -> None:
    """Refuse names that are no capabilities, warn of those that cannot be granted."""
    wanted = config.get("process", {}).get("capabilities") or {}
    path = "process.capabilities"
    for kind, names in (
        ("bounding", wanted.get("bounding")),
        ("effective", wanted.get("effective")),
        ("inheritable", wanted.get("inheritable")),
        ("permitted", wanted.get("permitted")),
        ("ambient", wanted.get("ambient")),
    ):
        for index, name in enumerate(names or ()):
            if name not in NUMBERS:
                report.error(f"{path}.{kind}[{index}]", f'unknown capability "{name}"', _suggestion(name))
    asked, given = Sets(config), Sets(config)
    given.limit(available(config, host))
    everything = asked.bounding | asked.permitted
    missing = everything & ~available(config, host)
    if missing:
        text = f"cannot grant {', '.join(names_of(missing))}: this kernel or the runtime's own sets lack it"
        report.warn(path, text, "the container runs without")
    for kind, lost, why in (
        ("effective", asked.effective & ~given.effective, "is not in permitted"),
        ("inheritable", asked.inheritable & ~given.inheritable, "is not in bounding"),
        ("ambient", asked.ambient & ~given.ambient, "is not in both permitted and inheritable"),
    ):
        if lost & ~missing:
            text = f"cannot grant {', '.join(names_of(lost & ~missing))}: {why}"
            report.warn(f"{path}.{kind}", text, "the container runs without")


def _suggestion(name: str) -> str:
    upper = name.upper()
    for guess in (upper, f"CAP_{upper}"):
        if guess in NUMBERS:
            return f"write {guess}"
    return "see capabilities(7) for the names"


def plan_before_user(config: Config, host: Host, program: Program) -> None:
    """Emit the drop of the bounding set, and keep the permitted set over the change of ids."""
    of = "process.capabilities.bounding"
    sets = Sets(config)
    sets.limit(available(config, host))
    for number in range(host.last_capability + 1):
        if not sets.bounding >> number & 1:
            name = NAMES[number] if number < len(NAMES) else f"capability {number}"
            program.call(
                "prctl", PR_CAPBSET_DROP, number, 0, 0, 0, step=f"drop {name} from the bounding set", of=of
            )
    program.call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0, step="keep capabilities over the change of user")


def plan_between(config: Config, host: Host, program: Program) -> None:
    """Emit giving up what is not in the final sets, but for CAP_SYS_ADMIN, with which a filter is loaded.

    For a process that is going to show itself to the container before it has loaded its filter. After the change of
    ids, before `plan_after_user`.
    """
    sets = Sets(config)
    sets.limit(available(config, host))
    kept = sets.permitted | 1 << NUMBERS["CAP_SYS_ADMIN"] & available(config, host)
    data = pack("<6I", kept & _LOW, kept & _LOW, 0, kept >> 32, kept >> 32, 0)
    step = f"keep {_shown(kept)} of the capabilities until the seccomp filter is loaded"
    program.call("capset", program.data(HEADER), program.data(data), step=step, of="process.capabilities")


def plan_after_user(config: Config, host: Host, program: Program) -> None:
    """Emit the final effective, permitted, inheritable and ambient sets."""
    of = "process.capabilities"
    sets = Sets(config)
    sets.limit(available(config, host))
    program.call("prctl", PR_SET_KEEPCAPS, 0, 0, 0, 0, step="let a later change of user drop capabilities")
    # What the runtime's caller had as ambient must not reach the container, whatever the config says.
    program.call(
        "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, step="clear ambient capabilities"
    )
    effective, permitted, inheritable = sets.effective, sets.permitted, sets.inheritable
    data = pack(
        "<6I",
        effective & _LOW,
        permitted & _LOW,
        inheritable & _LOW,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    program.call(
        "capset",
        program.data(HEADER),
        program.data(data),
        step=f"set capabilities to effective {_shown(effective)}, permitted {_shown(permitted)}, "
        f"inheritable {_shown(inheritable)}",
        of=of,
    )
    for name in names_of(sets.ambient):
        program.call(
            "prctl",
            PR_CAP_AMBIENT,
            PR_CAP_AMBIENT_RAISE,
            NUMBERS[name],
            0,
            0,
            step=f"add {name} to the ambient set",
            of=f"{of}.ambient",
        )


def plan_only(name: str, config: Config, host: Host, program: Program) -> None:
    """Emit giving up every capability but `name`, and that too where the process does not have it after its execve(2).

    That leaves root those of the bounding set (capabilities(7)), others the ambient ones. Where a filter of the
    container refuses capset(2) those from before are left.
    """
    sets = Sets(config)
    sets.limit(available(config, host))
    user = config["process"].get("user") or {}
    of_process = sets.ambient if user.get("uid", 0) else sets.permitted & sets.bounding
    kept = of_process & 1 << NUMBERS[name]
    data = pack("<6I", kept & _LOW, kept & _LOW, 0, kept >> 32, kept >> 32, 0)
    step = f"keep {_shown(kept)} of the capabilities"
    program.call(
        "capset", program.data(HEADER), program.data(data), step=step, of="process.capabilities", tolerate=ANY
    )


def _shown(value: int) -> str:
    return f"{value:#x}" if value else "none"


def passable() -> tuple[int, int]:
    """(capabilities the runtime can pass on, number of the kernel's last capability), from /proc/self/status.

    What can be passed on is in both the permitted and the bounding set of the runtime.
    """
    status = read("/proc/self/status")
    permitted, bounding = (
        int(status.partition(f"{name}:")[2].split(None, 1)[0], 16) for name in ("CapPrm", "CapBnd")
    )
    return permitted & bounding, int(read("/proc/sys/kernel/cap_last_cap"))
