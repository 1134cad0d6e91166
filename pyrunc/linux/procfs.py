"""A procfs of init's own, for writes below /proc that nobody can redirect (CVE-2019-19921, CVE-2025-52881)."""

from __future__ import annotations

from errno import EACCES, EPERM

from pyrunc.kernel.constants import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSMOUNT_CLOEXEC,
    FSOPEN_CLOEXEC,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.plan.program import Program, Register


def plan_open(program: Program) -> Register:
    """Emit opening a procfs; the register with its descriptor.

    It is a new detached mount, in no namespace's tree. Where the kernel refuses one (a user namespace in
    which /proc is covered, mount_too_revealing() in fs/namespace.c), the host's /proc is taken. Must be
    emitted before anything of the image is mounted: until then `/proc` is the host's.
    """
    context, proc = program.register(), program.register()
    fallback, done = program.label(), program.label()
    program.call("fsopen", "proc", FSOPEN_CLOEXEC, step="open a private procfs", into=context)
    program.call(
        "fsconfig",
        context,
        FSCONFIG_CMD_CREATE,
        0,
        0,
        0,
        step="create a private procfs",
        tolerate=(EPERM, EACCES),
        otherwise=fallback,
    )
    program.call(
        "fsmount",
        context,
        FSMOUNT_CLOEXEC,
        0,
        step="mount a private procfs",
        into=proc,
        tolerate=(EPERM, EACCES),
        otherwise=fallback,
    )
    program.jump(done)
    program.place(fallback)
    program.call(
        "openat", AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, step="open the host's /proc", into=proc
    )
    program.place(done)
    program.call("close", context, step="close the procfs context")
    program.release(context)
    return proc
