"""CPU affinity (config.md "Linux process: execCPUAffinity"; sched_setaffinity(2), cpuset(7)).

Two subjects. Init may use every CPU that its cgroup leaves it, whatever CPUs the runtime was confined to: until Linux
6.2 entering a cpuset did that by itself, since then a process keeps what somebody once set (a shell's taskset(1), the
CPUAffinity= of an engine's unit). And `process.execCPUAffinity`, for processes that join a container later
(`pyrunc.plan.exec`): `initial` is the runtime's own while it starts them, `final` theirs in the cgroup.
"""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM

from pyrunc.errors import KernelError
from pyrunc.kernel.native import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: One more than the highest CPU number that a kernel can be built for (NR_CPUS in arch/*/Kconfig).
CPUS_MAX: Final = 8192
#: The mask of every CPU; the kernel takes those that are there.
EVERY: Final = b"\xff" * (CPUS_MAX // 8)


def check(config: Config, host: Host, report: Report) -> None:
    """Both lists of `process.execCPUAffinity` must be lists of CPUs."""
    wanted = config["process"].get("execCPUAffinity") or {}
    for name, text in (("initial", wanted.get("initial")), ("final", wanted.get("final"))):
        if text:
            try:
                mask(text)
            except ValueError as error:
                where = f"process.execCPUAffinity.{name}"
                report.error(where, str(error), 'list CPUs as in "0-3,7"')


def mask(text: str) -> bytes:
    """The CPU mask of a list such as `0-3,7`, as sched_setaffinity(2) takes it.

    As runc, blanks around numbers and empty parts are passed over. Raises ValueError where no CPU is listed or a
    part is not understood.
    """
    bits = 0
    for first, last in ranges(text, CPUS_MAX):
        bits |= (1 << last + 1) - (1 << first)
    if not bits:
        raise ValueError(f'"{text}" lists no CPU')
    words = (bits.bit_length() + 63) // 64
    return bits.to_bytes(8 * words, "little")


def ranges(text: str, limit: int) -> list[tuple[int, int]]:
    """The (first, last) of each part of a list of numbers below `limit`. Raises ValueError."""
    found = []
    for part in map(str.strip, text.split(",")):
        if not part:
            continue
        low, dash, high = part.partition("-")
        first = _number(low, part, limit)
        last = _number(high, part, limit) if dash else first
        if last < first:
            raise ValueError(f'"{part}" is a range from high to low')
        found.append((first, last))
    return found


def _number(text: str, part: str, limit: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f'"{part}" is neither a number nor a range')
    # The length first: the conversion of very long texts is slow.
    if len(text.lstrip("0")) > len(str(limit)) or int(text) >= limit:
        raise ValueError(f'"{part[:40]}" is out of range, the highest possible number is {limit - 1}')
    return int(text)


def plan(program: Program) -> None:
    """Emit leaving the runtime's affinity behind. After init has entered its cgroup, whose cpuset still holds.

    A sandbox around pyrunc may forbid it; then that affinity is part of the sandbox.
    """
    every = program.data(EVERY)
    program.call(
        "sched_setaffinity",
        0,
        len(EVERY),
        every,
        step="allow every CPU of the cgroup",
        tolerate=(EPERM, ENOSYS, EINVAL),
    )


def plan_final(config: Config, program: Program) -> None:
    """Emit `execCPUAffinity.final` for a process that joins the container, or as `plan` does without it."""
    text = (config["process"].get("execCPUAffinity") or {}).get("final")
    if not text:
        plan(program)
        return
    cpus = mask(text)
    program.call(
        "sched_setaffinity",
        0,
        len(cpus),
        program.data(cpus),
        step=f"set the final CPU affinity to {text}",
        of="process.execCPUAffinity.final",
    )


class Initial:
    """While the block runs, this process has the affinity of `execCPUAffinity.initial`, which a child inherits.

    The specification wants it for the runtime's process before the transition to the container's cgroup; a child that
    clone3(2) puts into the cgroup makes no step before that. Raises KernelError.
    """

    __slots__ = ("_before", "_text")

    def __init__(self, config: Config) -> None:
        self._text = (config["process"].get("execCPUAffinity") or {}).get("initial", "")
        self._before = b""

    def __enter__(self) -> None:
        if not self._text:
            return
        before = bytearray(CPUS_MAX // 8)
        wanted = mask(self._text)
        step = f"set the initial CPU affinity to {self._text}"
        try:
            size = syscall("sched_getaffinity", 0, len(before), before)
            syscall("sched_setaffinity", 0, len(wanted), wanted)
        except OSError as error:
            remedy = "this process may use none of these CPUs" if error.errno == EINVAL else ""
            raise KernelError.of(step, error, remedy=remedy) from error
        self._before = bytes(before[:size])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before:
            syscall("sched_setaffinity", 0, len(self._before), self._before)
