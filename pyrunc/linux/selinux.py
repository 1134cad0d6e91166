"""SELinux labels (config.md "Linux process: selinuxLabel", config-linux.md "Mount Label"; selinux(8)).

`process.selinuxLabel` is bound to the next execve(2) of init and inherited by what init forks; where it is written,
and why there, is what `pyrunc.linux.apparmor` says of a profile. The keyring that init makes gets the same label, for
the container could not use its keys otherwise.

`linux.mountLabel` labels the file systems that are made for the container, by the mount option `context` (mount(8)). A
bind mount shows files of the host, whose labels are the host's matter; proc, sysfs and cgroup file systems have labels
by the policy; mqueue takes none while it is mounted, so that its root gets one afterwards. As runc.
"""

from __future__ import annotations

from errno import EACCES, EINVAL, EPERM

from pyrunc.config.annotations import MOUNT_CONTEXT_TYPE
from pyrunc.kernel.constants import O_CLOEXEC, O_DIRECTORY, O_RDONLY
from pyrunc.linux.lsm import SELINUX, VALUE_MAX, plan_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, Union

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

    Settings = Sequence[tuple[str, Union[str, None]]]

#: File systems that take no context of their own.
WITHOUT_CONTEXT: Final = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))
#: The mount options for labels. crun lets an annotation choose among them.
CONTEXTS: Final = ("context", "fscontext", "defcontext", "rootcontext")
#: fsconfig(2) takes values of at most 255 bytes.
CONTEXT_MAX: Final = 255
_PROCESS: Final = "process.selinuxLabel"
_MOUNTS: Final = "linux.mountLabel"


def check(config: Config, host: Host, report: Report) -> None:
    """Labels take SELinux; whether the policy knows them the kernel says when init uses them."""
    process = config["process"].get("selinuxLabel", "") if "process" in config else ""
    mounts = config.get("linux", {}).get("mountLabel", "")
    for where, label, limit in ((_PROCESS, process, VALUE_MAX), (_MOUNTS, mounts, CONTEXT_MAX)):
        if label and SELINUX not in host.security_modules:
            text = "a label is specified in the config, but SELinux is disabled or not supported on this host"
            report.error(where, text, "remove it, or enable SELinux and load a policy")
        elif len(label.encode("utf-8", "surrogateescape")) > limit:
            report.error(where, f"is longer than {limit} bytes", "the kernel takes no longer one")
    chosen = _chosen(config)
    if mounts and chosen not in CONTEXTS:
        text = f'"{chosen[:40]}" is no mount option for a label'
        report.error(f'annotations["{MOUNT_CONTEXT_TYPE}"]', text, f"use one of {', '.join(CONTEXTS)}")


def _chosen(config: Config) -> str:
    return (config.get("annotations") or {}).get(MOUNT_CONTEXT_TYPE) or "context"


def plan(config: Config, program: Program, proc: Register) -> None:
    """Emit asking for the label of the process, through the procfs in `proc`."""
    label = config["process"].get("selinuxLabel", "")
    if label:
        value = label.encode("utf-8", "surrogateescape")
        step = f"apply the SELinux label {label}"
        plan_attribute(program, proc, ("exec",), value, step=step, of=_PROCESS)


def plan_keys(config: Config, program: Program, proc: Register) -> None:
    """Emit labelling the keys that init makes from here on; execve(2) ends that."""
    label = config["process"].get("selinuxLabel", "")
    if label:
        value = label.encode("utf-8", "surrogateescape")
        step = f"label the session keyring {label}"
        plan_attribute(program, proc, ("keycreate",), value, step=step, of=_PROCESS)


def with_context(config: Config, kind: str, settings: Settings) -> list[tuple[str, str | None]]:
    """The settings of a new file system of type `kind`, with the label of linux.mountLabel if it takes one.

    One that the mount's own options give is left alone: the kernel takes no second one.
    """
    label = config.get("linux", {}).get("mountLabel", "")
    if not label or kind in WITHOUT_CONTEXT or any(name in CONTEXTS for name, _ in settings):
        return list(settings)
    return [*settings, (_chosen(config), label)]


def plan_relabel(config: Config, program: Program, kind: str, tree: Register, step: str, of: str) -> None:
    """Emit labelling the root of the file system in `tree`, where that is the only way."""
    label = config.get("linux", {}).get("mountLabel", "")
    if not label or kind != "mqueue":
        return
    step = f"{step}: label it {label}"
    root = program.register()
    flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
    program.call("openat", tree, ".", flags, 0, step=step, of=of, into=root)
    value = label.encode("utf-8", "surrogateescape")
    program.call(
        "fsetxattr", root, "security.selinux", program.string(value), len(value), 0, step=step, of=of
    )
    program.call("close", root, step="close it")
    program.release(root)


def explain(number: int) -> str:
    """What the kernel's errno leaves out (selinux_lsm_setattr() in security/selinux/hooks.c)."""
    if number == EINVAL:
        return "the loaded policy does not know this label"
    if number in (EACCES, EPERM):
        return "the policy does not allow it to the domain that pyrunc runs in; see the audit log"
    return ""
