"""From the values of config-linux.md, which follow cgroup v1, to those of cgroup v2. Pure functions."""

from __future__ import annotations

from math import ceil, log2

from pyrunc.errors import PyruncError


def cpu_weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for CPU shares (2 to 262144); 0 for 0, which means unset.

    A curve through 2→1, 1024→100 and 262144→10000, so that the default of one version is that of the other.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """io.weight (1 to 10000) for a weight of block I/O (10 to 1000), on a straight line."""
    return 1 + (weight - 10) * 9999 // 990


def swap_max(limit: int, swap: int) -> int | None:
    """memory.swap.max for a memory limit and one of memory with swap; -1 is "max", None leaves it alone."""
    if limit == -1 and swap == 0:
        return -1
    if swap == 0:
        return None
    if swap == -1:
        return -1
    if limit <= 0:
        raise PyruncError("linux.resources.memory.swap: is set without a memory limit", code="invalid-config")
    if swap < limit:
        raise PyruncError(
            f"linux.resources.memory.swap: {swap} is below the memory limit {limit}", code="invalid-config"
        )
    return swap - limit


def maximum(value: int) -> str:
    """A limit as cgroup v2 writes it: negative is "max"."""
    return "max" if value < 0 else str(value)
