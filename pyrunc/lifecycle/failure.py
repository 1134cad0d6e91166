"""Wording a step that failed in init: what was attempted, the kernel's word, and what the step's room knows."""

from __future__ import annotations

import os

from pyrunc.errors import PyruncError
from pyrunc.store.store import CONFIG, HOOK_OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.spawn.conversation import StepFailed
    from pyrunc.store.store import Directory

#: Bytes of a hook's output that go into an error.
OUTPUT_LIMIT: Final = 8192


def open_output(directory: Directory) -> int:
    """A descriptor for the output of the hooks that init runs."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(HOOK_OUTPUT, flags, 0o600, dir_fd=directory.fd)


def read_output(directory: Directory) -> bytes:
    """What the hook that init ran last has printed."""
    try:
        descriptor = os.open(HOOK_OUTPUT, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.fd)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT))
    finally:
        os.close(descriptor)


def save_config(directory: Directory, raw: bytes) -> None:
    """Keep the configuration of create, which later edits of the bundle must not change (runtime.md)."""
    descriptor = os.open(
        CONFIG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory.fd
    )
    try:
        rest = memoryview(raw)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def saved_config(directory: Directory) -> Config:
    """The configuration of create."""
    from pyrunc.config.load import load_json, read

    config: Config = load_json(read(CONFIG, directory.fd), CONFIG)
    return config


def word(error: StepFailed, config: Config, directory: Directory, root: int = -1) -> PyruncError:
    """The error for the user.

    `root` is the container's root directory (O_PATH), for finding out why its program could not be executed.
    """
    if error.path.startswith("hooks."):
        from pyrunc.linux.hooks import explain_hook_failure

        if error.number:
            return PyruncError(error.message, code="hook-failed")
        return PyruncError(explain_hook_failure(error.step, read_output(directory)), code="hook-failed")
    if error.path.startswith("mounts"):
        from pyrunc.linux.mounts.explain import explain

        error.remedy = explain(error.path, config, error.number)
    elif error.path == "process.args" and root >= 0:
        from pyrunc.linux.exec_failure import explain_exec_failure
        from pyrunc.linux.executable import candidates

        process = config["process"]
        error.remedy = explain_exec_failure(root, candidates(process), error.number, process["cwd"])
    return error
