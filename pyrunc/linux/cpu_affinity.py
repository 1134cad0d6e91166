"""CPU affinity (config.md "Linux process: execCPUAffinity"; sched_setaffinity(2), cpuset(7)).

Two subjects. Init may use every CPU that its cgroup leaves it, whatever CPUs the runtime was confined to: until Linux
6.2 entering a cpuset did that by itself, since then a process keeps what somebody once set (a shell's taskset(1), the
CPUAffinity= of an engine's unit). And `process.execCPUAffinity`, which is for processes that join a container
later; here its lists are checked and turned into masks.
"""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
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
