"""The program of the container: looked up like execvp(3) does, inside the container, before `start`.

config.md "Process: args". The look-up is unrolled into one attempt per directory of PATH and made with the
credentials of the container process, so that a missing program is an error of `create`. What goes wrong at
execve(2) itself is explained by `pyrunc.linux.exec_failure`.
"""

from __future__ import annotations

from errno import EACCES, ENOENT, ENOSYS, ENOTDIR, EPERM

from pyrunc.kernel.constants import AT_EACCESS, AT_FDCWD, STATX_MODE, STATX_TYPE
from pyrunc.kernel.structs import STATX_AT_MODE, STATX_SIZE
from pyrunc.linux.environment import value_of
from pyrunc.plan.program import ANY, BITS, EQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Process
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Label, Program, Register

#: Where programs are looked for when the environment has no PATH, as with crun.
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF: Final = "process.args"

_X_OK: Final = 1
# Bits of st_mode that every type of file but a regular one has at least one of.
_NOT_REGULAR: Final = 0o070000


def candidates(process: Process) -> list[str]:
    """The paths to try, in order, for the first of `process.args`.

    A name with a slash is a path. Else each directory of PATH is tried; an empty one means the working
    directory (execvp(3)).
    """
    name = process["args"][0]
    if "/" in name:
        return [name]
    if not name:
        return []
    path = value_of(process.get("env") or (), "PATH")
    directories = (DEFAULT_PATH if path is None else path).split(":")
    found = [f"{directory.rstrip('/')}/{name}" if directory else f"./{name}" for directory in directories]
    return list(dict.fromkeys(found))


def plan_find(config: Config, host: Host, program: Program, filtered: bool = False) -> Register:
    """Emit the look-up. The register returned holds the address of the path found, for `plan_exec`.

    To run after the change of user and of the working directory. `filtered`: a seccomp filter is loaded
    before, which may refuse the calls of the look-up. Errors have runc's texts.
    """
    process = config["process"]
    name = process["args"][0]
    shown = f'exec: "{name}"'
    attempt = _Attempt(program, filtered)
    if "/" in name:
        absent, denied = program.label(), program.label()
        attempt.plan(name, absent, denied)
        program.place(absent)
        program.fail(attempt.result, f"{shown}: stat {name}", OF)
        program.place(denied)
        program.fail(EACCES, shown, OF)
    else:
        # As execvp(3): a file that may not be executed is passed over, but remembered if nothing better comes.
        worst, missing = program.register(), program.label()
        program.set(worst, 0)
        for path in candidates(process):
            absent, denied = program.label(), program.label()
            attempt.plan(path, absent, denied)
            program.place(denied)
            program.set(worst, EACCES)
            program.place(absent)
        program.branch(worst, EQ, 0, missing)
        program.fail(EACCES, shown, OF)
        program.place(missing)
        program.fail(0, f"{shown}: executable file not found in $PATH", OF)
        program.release(worst)
    program.place(attempt.done)
    program.release(attempt.mode, attempt.result)
    return attempt.found


class _Attempt:
    """The steps that try one path; on success they put its address into `found` and go to `done`."""

    def __init__(self, program: Program, filtered: bool) -> None:
        self.program = program
        self.filtered = filtered
        self.status = program.buffer(STATX_SIZE)
        self.found, self.mode, self.result = program.register(), program.register(), program.register()
        self.done = program.label()

    def plan(self, path: str, absent: Label, denied: Label) -> None:
        """Emit them. Goes to `absent` if there is no such file, with the errno negated in `result`."""
        program = self.program
        refused, hit = program.label(), program.label()
        failed = program.label() if self.filtered else absent
        program.call(
            "statx", AT_FDCWD, path, 0, STATX_TYPE | STATX_MODE, self.status, step=f"look for {path}", of=OF,
            into=self.result, tolerate=ANY, otherwise=failed,
        )  # fmt: skip
        program.load(self.mode, self.status + STATX_AT_MODE, 2)
        program.branch(self.mode, BITS, _NOT_REGULAR, denied, f"{path} is no regular file")
        program.call(
            "faccessat2", AT_FDCWD, path, _X_OK, AT_EACCESS, step=f"may {path} be executed?", of=OF,
            into=self.result, tolerate=ANY, otherwise=refused,
        )  # fmt: skip
        program.place(hit)
        program.set(self.found, path)
        program.jump(self.done)
        program.place(refused)
        program.branch(self.result, EQ, -EACCES, denied, f"{path} may not be executed")
        # A seccomp profile older than this one call refuses it with another errno: ask the bits.
        program.branch(self.mode, BITS, 0o111, hit)
        program.jump(denied)
        if self.filtered:
            program.place(failed)
            self._plan_blind(path, absent, denied, hit)

    def _plan_blind(self, path: str, absent: Label, denied: Label, hit: Label) -> None:
        """Emit the same without statx(2), where a seccomp profile refuses it; execve has the last word then."""
        program, result = self.program, self.result
        blind = program.label()
        program.branch(result, EQ, -EPERM, blind)
        program.branch(result, EQ, -ENOSYS, blind)
        program.jump(absent)
        program.place(blind)
        step = f"may {path} be executed?"
        program.call(
            "faccessat2", AT_FDCWD, path, _X_OK, AT_EACCESS, step=step, of=OF, into=result, tolerate=ANY
        )
        program.branch(result, EQ, -ENOENT, absent)
        program.branch(result, EQ, -ENOTDIR, absent)
        program.branch(result, EQ, -EACCES, denied)
        program.jump(hit)


def plan_exec(config: Config, program: Program, found: Register, envp: int) -> None:
    """Emit the execve(2) that ends init. `found` is from `plan_find`, `envp` from `environment.plan`."""
    args = config["process"]["args"]
    program.call("execve", found, program.strings(args), envp, step=f"exec {args[0]}", of=OF)
