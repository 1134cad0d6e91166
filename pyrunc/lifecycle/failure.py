"""Wording a step that failed in init: what was attempted, the kernel's word, and what the step's room knows."""

from __future__ import annotations

import os
from errno import E2BIG, EDQUOT, ENOMEM

from pyrunc.errors import KernelError, PyruncError
from pyrunc.spawn.conversation import NO_STEP
from pyrunc.store.store import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.container import Container
    from pyrunc.spawn.conversation import InitEnded, StepFailed
    from pyrunc.store.store import Directory


def saved_config(directory: Directory) -> Config:
    """The configuration of create, with what `update` has changed since."""
    from pyrunc.config.load import load_json, read

    try:
        raw = read(CONFIG, directory.fd)
    except OSError as error:
        raise KernelError.of(f"read {directory.path}/{CONFIG}", error) from None
    config: Config = load_json(raw, f"{directory.path}/{CONFIG}")
    return config


def word(error: StepFailed, config: Config, root: int = -1) -> PyruncError:
    """The error for the user.

    `root` is the container's root directory (O_PATH), for finding out why its program could not be executed.
    """
    if error.path.startswith("hooks."):
        from pyrunc.linux.hooks import explain_hook_failure

        if error.number:
            return PyruncError(error.message, code="hook-failed")
        return PyruncError(explain_hook_failure(error.step, error.output), code="hook-failed")
    if error.path == "process.args" and root >= 0:
        from pyrunc.linux.exec_failure import explain_exec_failure
        from pyrunc.linux.executable import candidates

        process = config["process"]
        error.remedy = explain_exec_failure(root, candidates(process), error.number, process["cwd"])
    else:
        error.remedy = _of_room(error, config) or error.remedy
    if not error.remedy:
        profile = config.get("linux", {}).get("seccomp")
        if profile:
            from pyrunc.linux.seccomp.notify import explain as explain_notify

            error.remedy = explain_notify(profile, error.number, error.path)
    # Init's own arguments are few: for them it can only be memory that is missing (cgroup v2 counts its stack).
    if not error.remedy and (error.number == ENOMEM or (error.index == NO_STEP and error.number == E2BIG)):
        error.remedy = "is the memory limit too low?"
    return error


def _of_room(error: StepFailed, config: Config) -> str:
    """What the room whose step failed says to do; "" for nothing."""
    if error.path.startswith("mounts"):
        from pyrunc.linux.mounts.explain import explain

        return explain(error.path, config, error.number)
    if error.path.startswith("linux.devices"):
        from pyrunc.linux import devices

        return devices.explain(error.step, error.number)
    if error.path == "linux.cgroupsPath":
        from pyrunc.linux.cgroups import entry

        return entry.explain(error.number)
    if error.path == "process.apparmorProfile":
        from pyrunc.linux import apparmor

        return apparmor.explain(error.number)
    if error.path == "process.selinuxLabel":
        from pyrunc.linux import selinux

        return selinux.explain(error.number)
    if error.path.startswith(("process.rlimits", "process.oomScoreAdj")):
        from pyrunc.linux import limits

        return limits.explain(error.path, config)
    if error.path == "linux.memoryPolicy":
        from pyrunc.linux import memory_policy

        return memory_policy.explain(config, error.number)
    if error.number == EDQUOT and error.step == "join a new session keyring":
        return "raise kernel.keys.maxkeys, or keep the caller's keyring with --no-new-keyring"
    return ""


def why_init_ended(error: InitEnded, container: Container) -> PyruncError:
    """Say why init ended without a word: the OOM killer, a signal, or its exit status."""
    if container.prepared.manager.oom_kills() > 0:
        return PyruncError(
            "container init was OOM-killed (memory limit too low?)",
            remedy="raise linux.resources.memory.limit",
            code="oom",
        )
    init = container.init
    if init is None:
        return error
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(init.pid, 0)[1])
    except ChildProcessError:
        return error
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return PyruncError(f"{error.message}: {how}", code="init-ended")
