"""The memory of the process that waits for `start`, and the lowest limit that lets a container start."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from bench.contenders import Contender, turns

#: Fields of a measurement, in KiB.
FIELDS = ("RSS", "PSS", "private", "peak RSS", "cgroup peak")

_ROUNDS = 5
_STEP = 16  # KiB, the resolution of the lowest limit
_HIGHEST = 64 << 10  # KiB


def of_waiting_init(field: list[Contender]) -> dict[str, dict[str, float]]:
    """Median over a few containers, by contender and field, in KiB."""
    found: dict[str, dict[str, list[int]]] = {c.name: {name: [] for name in FIELDS} for c in field}
    for _, contender in turns(field, _ROUNDS):
        id = contender.new_id()
        pid_file = contender.bundle.path / "pid"
        contender.create(id, "--pid-file", str(pid_file))
        for name, size in look(int(pid_file.read_text()), f"{contender.cgroup}/{id}").items():
            found[contender.name][name].append(size)
        contender.delete(id)
    return {name: {f: statistics.median(sizes) for f, sizes in one.items()} for name, one in found.items()}


def look(pid: int, cgroup: str) -> dict[str, int]:
    """KiB: what one process uses (proc(5), smaps_rollup and status), what its cgroup was charged at most."""
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    status = _fields(Path(f"/proc/{pid}/status"))
    return {
        "RSS": rollup["Rss"],
        "PSS": rollup["Pss"],
        "private": rollup["Private_Clean"] + rollup["Private_Dirty"],
        "peak RSS": status["VmHWM"],
        "cgroup peak": cgroup_peak(cgroup),
    }


def _fields(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            found[words[0].rstrip(":")] = int(words[1])
    return found


def cgroup_peak(cgroup: str) -> int:
    """The highest charge of a memory cgroup, v1 or v2, in KiB; all processes that were ever in it."""
    top = "/sys/fs/cgroup"
    for path in (f"{top}/memory/{cgroup}/memory.max_usage_in_bytes", f"{top}/{cgroup}/memory.peak"):
        if os.path.exists(path):
            return int(Path(path).read_text()) >> 10
    return -1


def lowest_limit(field: list[Contender]) -> dict[str, int]:
    """The lowest `memory.limit` in KiB under which `run` of `true` succeeds three times in a row."""
    return {contender.name: _search(contender) for contender in field}


def _search(contender: Contender) -> int:
    fails, works = 0, _HIGHEST
    while works - fails > _STEP:
        middle = (fails + works) // 2 // _STEP * _STEP
        if middle <= fails:
            break
        if all(_starts_under(contender, middle) for _ in range(3)):
            works = middle
        else:
            fails = middle
    return works


def _starts_under(contender: Contender, limit: int) -> bool:
    resources = contender.bundle.config["linux"]["resources"]
    resources["memory"] = {"limit": limit << 10}
    id = contender.new_id()
    contender.bundle.write(id)
    try:
        _, status = contender.call("run", "--bundle", str(contender.bundle.path), id, timeout=10)
    finally:
        del resources["memory"]
    contender.call("delete", "--force", id)
    contender.made.discard(id)
    return status == 0
