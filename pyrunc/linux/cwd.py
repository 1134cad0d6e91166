"""Working directory of the container process (config.md "Process: cwd").

The path is resolved inside the root and never through a magic link of procfs: `/proc/self/fd/7` as the
working directory is how CVE-2024-21626 got out. Afterwards getcwd(2) has to give a path below the root; the
kernel puts "(unreachable)" before any other.
"""

from __future__ import annotations

from errno import EACCES, EEXIST, ENOENT, EPERM

from pyrunc.kernel.constants import AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH
from pyrunc.kernel.paths import open_how
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.plan.program import EQ, GE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register

#: PATH_MAX: the longest path, and the largest answer of getcwd(2).
PATH_MAX: Final = 4096
OF: Final = "process.cwd"


def _cwd(config: Config) -> str:
    return config["process"]["cwd"]


def plan_create(config: Config, host: Host, program: Program) -> None:
    """Emit the creation (0755) of what is missing of the directory.

    To run after pivot_root(2), while init may write below `/`, and before the root is made read-only.
    """
    cwd = _cwd(config)
    parts = [part for part in cwd.split("/") if part not in ("", ".")]
    if not parts:
        return
    step = f'create cwd ("{cwd}") set in config.json'
    how = program.data(open_how(O_PATH | O_DIRECTORY))
    parent, child = program.register(), program.register()
    missing, done = program.label(), program.label()
    program.call("chdir", "/", step="go to /", of=OF)
    program.call(
        "openat2", AT_FDCWD, cwd, how, OPEN_HOW_SIZE, step=step, of=OF,
        into=child, tolerate=(ENOENT,), otherwise=missing,
    )  # fmt: skip
    program.call("close", child, step="close cwd", of=OF)
    program.jump(done)
    program.place(missing)
    program.call("openat", AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, step="open /", of=OF, into=parent)
    for count, part in enumerate(parts, 1):
        # Each prefix is resolved anew from the root, because a part may be a link that leads elsewhere inside.
        prefix = "/".join(parts[:count])
        there = program.label()
        program.call(
            "openat2", AT_FDCWD, prefix, how, OPEN_HOW_SIZE, step=step, of=OF,
            into=child, tolerate=(ENOENT,),
        )  # fmt: skip
        program.branch(child, GE, 0, there)
        if part != "..":
            program.call("mkdirat", parent, part, 0o755, step=step, of=OF, tolerate=(EEXIST,))
        program.call("openat2", AT_FDCWD, prefix, how, OPEN_HOW_SIZE, step=step, of=OF, into=child)
        program.place(there)
        program.call("close", parent, step="close a part of cwd", of=OF)
        program.set(parent, child)
    program.call("close", parent, step="close cwd", of=OF)
    program.place(done)
    program.release(parent, child)


def plan_enter_before_user(config: Config, host: Host, program: Program) -> Register:
    """Emit the first attempt, as root of the container, who may reach directories that the user may not.

    Returns the register for `plan_enter_after_user`: whether that has to try again. To run after
    pivot_root(2); leaves init in the directory, or in `/`.
    """
    again, fd = program.register(), program.register()
    refused, done = program.label(), program.label()
    step, how = _step(config), program.data(open_how(O_PATH | O_DIRECTORY))
    denied = (EACCES, EPERM)
    # RESOLVE_IN_ROOT takes AT_FDCWD as the root, here and in the second attempt.
    program.call("chdir", "/", step="go to /", of=OF)
    program.call(
        "openat2", AT_FDCWD, _cwd(config), how, OPEN_HOW_SIZE, step=step, of=OF,
        into=fd, tolerate=denied, otherwise=refused,
    )  # fmt: skip
    program.call("fchdir", fd, step=step, of=OF, tolerate=denied, otherwise=refused)
    program.call("close", fd, step="close cwd", of=OF)
    program.set(again, 0)
    program.jump(done)
    program.place(refused)
    program.set(again, 1)
    program.place(done)
    program.release(fd)
    return again


def plan_enter_after_user(config: Config, host: Host, program: Program, again: Register) -> None:
    """Emit the second attempt, as the user, where the first was refused, and the proof that it is inside."""
    entered = program.label()
    step = _step(config)
    program.branch(again, EQ, 0, entered)
    fd = program.register()
    how = program.data(open_how(O_PATH | O_DIRECTORY))
    program.call("openat2", AT_FDCWD, _cwd(config), how, OPEN_HOW_SIZE, step=step, of=OF, into=fd)
    program.call("fchdir", fd, step=step, of=OF)
    program.call("close", fd, step="close cwd", of=OF)
    program.place(entered)
    inside = program.label()
    answer = program.buffer(PATH_MAX)
    program.call("getcwd", answer, PATH_MAX, step=f"{step}: find out where it is", of=OF)
    program.load(fd, answer, 1)
    program.branch(fd, EQ, ord("/"), inside)
    program.fail(
        ENOENT, f"{step}: it is outside of the container's root: possible container breakout detected", OF
    )
    program.place(inside)
    program.release(fd, again)


def _step(config: Config) -> str:
    return f'chdir to cwd ("{_cwd(config)}") set in config.json failed'
