"""The clocks of a new time namespace (config-linux.md "Time offsets"; time_namespaces(7)).

The kernel takes offsets only as long as no process is in the namespace. So init makes it with unshare(2), which
puts only later children there, writes the offsets, and then enters it itself.
"""

from __future__ import annotations

from pyrunc.kernel.constants import AT_FDCWD, CLONE_NEWTIME, O_CLOEXEC, O_RDONLY, O_WRONLY
from pyrunc.linux.namespaces import has, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

_OF: Final = "linux.timeOffsets"
_CLOCKS: Final = ("monotonic", "boottime")
_NANOSECONDS: Final = 1_000_000_000


def check(config: Config, host: Host, report: Report) -> None:
    """Offsets need a time namespace that is new; nanoseconds are less than a second."""
    if not _offsets(config):
        return
    if not has(config, "time"):
        report.error(_OF, "needs a time namespace", 'add {"type": "time"} to linux.namespaces')
    elif not is_new(config, "time"):
        report.error(
            _OF, "the clocks of a joined time namespace cannot be set", "remove it, or the namespace's path"
        )
    for clock, _, nanoseconds in _offsets(config):
        if nanoseconds >= _NANOSECONDS:
            report.error(f"{_OF}.{clock}.nanosecs", f"{nanoseconds} is a second or more", "use secs as well")


def plan(config: Config, host: Host, program: Program) -> None:
    """Emit making the time namespace, setting its clocks, and entering it. Needs the host's /proc."""
    if not _offsets(config):
        return
    text = "".join(f"{clock} {seconds} {rest}\n" for clock, seconds, rest in _offsets(config))
    program.call("unshare", CLONE_NEWTIME, step="create the time namespace", of="linux.namespaces")
    fd = program.register()
    step = f"set the clocks of the time namespace: {text.replace(chr(10), ', ').rstrip(', ')}"
    path = "/proc/self/timens_offsets"
    program.call("openat", AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0, step=step, of=_OF, into=fd)
    program.call("write", fd, text, len(text), step=step, of=_OF)
    program.call("close", fd, step="close its file")
    step = "enter the time namespace"
    path = "/proc/self/ns/time_for_children"
    program.call("openat", AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0, step=step, of="linux.namespaces", into=fd)
    program.call("setns", fd, CLONE_NEWTIME, step=step, of="linux.namespaces")
    program.call("close", fd, step="close its file")
    program.release(fd)


def _offsets(config: Config) -> list[tuple[str, int, int]]:
    """(clock, seconds, nanoseconds) of each clock that has an offset."""
    given = config.get("linux", {}).get("timeOffsets") or {}
    return [
        (clock, given[clock].get("secs", 0), given[clock].get("nanosecs", 0))
        for clock in _CLOCKS
        if clock in given
    ]
