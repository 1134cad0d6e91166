"""Resource limits and OOM score of the container process, set by the runtime from outside.

config.md "POSIX process: rlimits", "Linux process: oomScoreAdj"; prlimit(2), proc_pid_oom_score_adj(5). They are
set on init's pid by the runtime, whose CAP_SYS_RESOURCE counts where init's own, in a user namespace, does
not; and while init still has the ids of root, because another user's process can be changed only with that.
"""

from __future__ import annotations

import os
from struct import pack, unpack

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import AT_FDCWD, O_CLOEXEC, O_WRONLY
from pyrunc.kernel.native import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The limits of getrlimit(2) by the number of asm-generic/resource.h.
RLIMITS: Final = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
#: RLIM_INFINITY, which is also how "unlimited" is written in config.json.
INFINITY: Final = (1 << 64) - 1
_SCORE: Final = "process.oomScoreAdj"


def check(config: Config, host: Host, report: Report) -> None:
    """Each type once (config.md: an error), no soft limit above its hard one; an OOM score that the kernel takes."""
    process = config.get("process")
    if not process:
        return
    seen: set[str] = set()
    for index, limit in enumerate(process.get("rlimits") or ()):
        where = f"process.rlimits[{index}]"
        kind, soft, hard = limit["type"], limit["soft"], limit["hard"]
        if kind in seen:
            report.error(f"{where}.type", f"{kind} is given twice", "give each type once")
        seen.add(kind)
        if soft > hard:
            report.error(
                f"{where}.soft", f"{soft} is above the hard limit {hard}", "lower soft or raise hard"
            )
    score = process.get("oomScoreAdj")
    if score is not None and not -1000 <= score <= 1000:
        report.error("process.oomScoreAdj", f"{score} is out of range", "give a number from -1000 to 1000")


def apply_rlimits(config: Config, pid: int) -> None:
    """Give the process its limits with prlimit(2). Raises KernelError."""
    for limit in config.get("process", {}).get("rlimits") or ():
        kind, soft, hard = limit["type"], limit["soft"], limit["hard"]
        try:
            syscall("prlimit64", pid, RLIMITS[kind], pack("<QQ", soft, hard), None)
        except OSError as error:
            step = f"set {kind} to soft {_shown(soft)}, hard {_shown(hard)}"
            raise KernelError.of(step, error, remedy=_limit_remedy(kind, hard, pid)) from None


def _shown(value: int) -> str:
    return "unlimited" if value == INFINITY else str(value)


def _limit_remedy(kind: str, hard: int, pid: int) -> str:
    present = bytearray(16)
    try:
        syscall("prlimit64", pid, RLIMITS[kind], None, present)
    except OSError:
        return ""
    highest: int = unpack("<QQ", present)[1]
    if hard <= highest:
        return ""
    if kind == "RLIMIT_NOFILE":
        with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
            most = int(file.read())
        if hard > most:
            return f"fs.nr_open of this machine allows at most {most}"
    return f"more than the present hard limit {_shown(highest)} takes CAP_SYS_RESOURCE"


def apply_oom_score_adj(config: Config, pid: int) -> None:
    """Set the OOM score adjustment if the config gives one, 0 included; else leave it. Raises KernelError.

    As with the peers an unprivileged caller that asks for less than it has fails: callers clamp the value.
    """
    score = config.get("process", {}).get("oomScoreAdj")
    if score is None:
        return
    # The runtime's own view of the host's /proc, before the container can have changed anything in it.
    path = f"/proc/{pid}/oom_score_adj"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % score)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"set oomScoreAdj to {score}", error, remedy=_score_remedy(path)) from None


def _score_remedy(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            present = int(file.read())
    except OSError:
        return ""
    return f"it is {present} now, and less takes CAP_SYS_RESOURCE; raise process.oomScoreAdj or leave it out"


# -- of a process that joins a container: it sets them itself, as long as it has the runtime's privileges ----


def own_limits(config: Config) -> dict[str, tuple[int, int]]:
    """Kind → (soft, hard) that this process has, of those limits that the config sets. Raises KernelError."""
    found = {}
    for limit in config["process"].get("rlimits") or ():
        present = bytearray(16)
        try:
            syscall("prlimit64", 0, RLIMITS[limit["type"]], None, present)
        except OSError as error:
            raise KernelError.of(f"read {limit['type']}", error) from None
        soft, hard = unpack("<QQ", present)
        found[limit["type"]] = (soft, hard)
    return found


def plan_raise(config: Config, present: dict[str, tuple[int, int]], program: Program) -> None:
    """Emit raising hard limits, which takes the runtime's CAP_SYS_RESOURCE. `present`: from `own_limits`.

    And RLIMIT_NPROC as far as can be: that of the caller would keep the container's user from cloning the last process.
    """
    for index, limit in enumerate(config["process"].get("rlimits") or ()):
        kind, hard = limit["type"], limit["hard"]
        soft, highest = present[kind]
        before, top = (soft, highest), max(hard, highest)
        if kind == "RLIMIT_NPROC":
            soft = top
        if (soft, top) != before:
            step = f"set {kind} to soft {_shown(limit['soft'])}, hard {_shown(hard)}"
            raised = program.data(pack("<QQ", soft, top))
            program.call("prlimit64", 0, RLIMITS[kind], raised, 0, step=step, of=f"process.rlimits[{index}]")


def plan_rlimits(config: Config, program: Program) -> None:
    """Emit the limits themselves, which takes no privilege after `plan_raise`.

    By the last process that the runtime clones: RLIMIT_NPROC of a user who has as many processes as he may would let
    nothing more be cloned. And before a seccomp filter, which may refuse prlimit(2).
    """
    for index, limit in enumerate(config["process"].get("rlimits") or ()):
        kind, soft, hard = limit["type"], limit["soft"], limit["hard"]
        step = f"set {kind} to soft {_shown(soft)}, hard {_shown(hard)}"
        wanted = program.data(pack("<QQ", soft, hard))
        program.call("prlimit64", 0, RLIMITS[kind], wanted, 0, step=step, of=f"process.rlimits[{index}]")


def plan_oom_score_adj(config: Config, program: Program) -> None:
    """Emit writing the OOM score adjustment, in the host's /proc and with the runtime's privileges."""
    score = config["process"].get("oomScoreAdj")
    if score is None:
        return
    fd = program.register()
    step, of, text = f"set oomScoreAdj to {score}", _SCORE, str(score)
    path = "/proc/self/oom_score_adj"
    program.call("openat", AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0, step=step, of=of, into=fd)
    program.call("write", fd, text, len(text), step=step, of=of)
    program.call("close", fd, step="close its file")
    program.release(fd)


def explain(path: str, config: Config) -> str:
    """What is known of a limit, or of the score, that was refused to a process like this one."""
    if path == _SCORE:
        return _score_remedy("/proc/self/oom_score_adj")
    limit = (config["process"].get("rlimits") or ())[int(path[path.index("[") + 1 : -1])]
    return _limit_remedy(limit["type"], limit["hard"], 0)
