"""Annotations with a meaning: those of `config.annotations` that change what pyrunc does.

This is the one list: rooms take the names from here, `features` announces it as potentiallyUnsafeConfigAnnotations
(features.md), and docs/annotations.md tells it to people. All other annotations are carried in `state` and do nothing;
of some of another runtime, which the container was made for, a warning says so.
All but `INIT` and `SECCOMP_STRICT` reach beyond the container, so an engine must not take them from somebody whom it
does not trust.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from pyrunc.config.spec import Config, Seccomp
    from pyrunc.validate.report import Report

CRIU_CONFIG: Final = "org.criu.config"
HOOKS_STDOUT: Final = "run.oci.hooks.stdout"
HOOKS_STDERR: Final = "run.oci.hooks.stderr"
INIT: Final = "run.pyrunc.init"
KEEP_GROUPS: Final = "run.oci.keep_original_groups"
MOUNT_CONTEXT_TYPE: Final = "run.oci.mount_context_type"
PIDFD_RECEIVER: Final = "run.oci.pidfd_receiver"
SECCOMP_RECEIVER: Final = "run.oci.seccomp.receiver"
SECCOMP_STRICT: Final = "run.oci.seccomp_fail_unknown_syscall"
#: A prefix: what follows is the name of the property.
SYSTEMD_PROPERTY: Final = "org.systemd.property."

#: Name (one that ends with a dot: every name that begins so) → what it does.
MEANINGS: Final[Mapping[str, str]] = {
    SYSTEMD_PROPERTY: "a property of the container's systemd unit, as GVariant text (systemd cgroup manager only)",
    CRIU_CONFIG: "a file with settings for criu, instead of the host's; empty: none of either",
    HOOKS_STDERR: "a file to which the hooks' standard error is appended",
    HOOKS_STDOUT: "a file to which the hooks' standard output is appended",
    KEEP_GROUPS: "`1` or `true`: the process keeps the groups of pyrunc's caller; additionalGids is left out",
    MOUNT_CONTEXT_TYPE: "the mount option for linux.mountLabel: context, fscontext, defcontext or rootcontext",
    PIDFD_RECEIVER: "a unix stream socket that is sent a pidfd of the container's process, as with --pidfd-socket",
    SECCOMP_RECEIVER: "the socket of the seccomp agent, where linux.seccomp has no listenerPath",
    SECCOMP_STRICT: "all but `0`: a name in linux.seccomp that is no system call's is an error",
    INIT: "`1` or `true`: the container has an init of its own, as with --init (docs/init.md)",
}

#: crun's that would change the container, and do not here: name → what to do instead. Not those that engines set for
#: every container, nor those that say how an image was built (`module.wasm.*`).
WITHOUT: Final[Mapping[str, str]] = {
    "run.oci.delegate-cgroup": "have a cgroup namespace and a writable mount of source cgroup at /sys/fs/cgroup",
    "run.oci.handler": "use a program in the image that does it",
    "run.oci.seccomp.plugins": "use linux.seccomp.listenerPath and an agent",
    "run.oci.seccomp_bpf_data": "say it in linux.seccomp",
    "run.oci.systemd.force_cgroup_v1": "mount the hierarchy on the host and bind it into the container",
    "run.oci.systemd.subgroup": "use linux.cgroupsPath",
}

#: Their values name files.
_PATHS: Final = (CRIU_CONFIG, HOOKS_STDERR, HOOKS_STDOUT, PIDFD_RECEIVER, SECCOMP_RECEIVER)


def check(config: Config, report: Report) -> None:
    """Paths that can be. One that is found to be none when poststop hooks are due stands in the way of `delete`."""
    annotations = config.get("annotations") or {}
    for name in _PATHS:
        if "\0" in annotations.get(name, ""):
            from pyrunc.validate.report import member

            report.error(member("annotations", name), "has a NUL in it", "give the path of a file")
    for name, instead in WITHOUT.items():
        if annotations.get(name):  # empty says no to what crun would do, as CRI-O says it
            from pyrunc.validate.report import member

            report.warn(member("annotations", name), "is crun's, and does nothing here", instead)


def wants_init(annotations: Mapping[str, str] | None) -> bool:
    """Whether the container is to have an init of its own."""
    return (annotations or {}).get(INIT) in ("1", "true")


def with_init(config: Config) -> Config:
    """`config` with the annotation that asks for an init of its own."""
    return {**config, "annotations": {**(config.get("annotations") or {}), INIT: "true"}}


def keeps_groups(config: Config) -> bool:
    """Whether the process is to keep the caller's supplementary groups."""
    return (config.get("annotations") or {}).get(KEEP_GROUPS) in ("1", "true")


def seccomp_agent(profile: Seccomp, annotations: Mapping[str, str] | None) -> str:
    """The socket of the seccomp agent, relative to the bundle; "" for none."""
    return profile.get("listenerPath") or (annotations or {}).get(SECCOMP_RECEIVER, "")


def refuses_unknown_calls(config: Config) -> bool:
    """Whether a name that is no system call's refuses a seccomp profile, whatever it would do."""
    return (config.get("annotations") or {}).get(SECCOMP_STRICT, "0") != "0"


def hook_files(annotations: Mapping[str, str] | None, bundle: str) -> tuple[str, str]:
    """Where the hooks' stdout and stderr are appended to; relative to the bundle. "" where they are kept for errors."""
    if not annotations:
        return "", ""
    out, err = annotations.get(HOOKS_STDOUT), annotations.get(HOOKS_STDERR)
    return (out and os.path.join(bundle, out)) or "", (err and os.path.join(bundle, err)) or ""
