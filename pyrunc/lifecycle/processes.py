"""ps: the processes of a container, as the host sees them. Takes no lock and never waits for the container."""

from __future__ import annotations

import os

from pyrunc.config.writer import dumps
from pyrunc.errors import PyruncError
from pyrunc.lifecycle.status import STOPPED, current, load
from pyrunc.linux.cgroups.manager import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import Final

    from pyrunc.store.record import Record
    from pyrunc.store.store import Store

#: The options of ps(1) where none are given, as with runc.
DEFAULT: Final = ("-ef",)


def ps(store: Store, container_id: str, form: str, options: Sequence[str]) -> str:
    """What is to be printed: a JSON array of pids, or what ps of the host, given `options`, tells of them."""
    if form not in ("table", "json"):
        raise PyruncError("invalid format option", remedy="use table or json", code="usage")
    with store.open(container_id) as directory:
        record = load(directory)
        found = processes(record, current(directory, record))
    if form == "json":
        return dumps(found) + "\n"
    return rows_of(_ps(options or DEFAULT), set(found))


def processes(record: Record, status: str) -> list[int]:
    """The pids, sorted, of the container's processes: all in its cgroup and below.

    Without a cgroup those in its PID namespace; without that either, its first process with all that descend from it,
    as far as that can be seen (`linux.processes`).
    """
    if not record.pid or (status == STOPPED and record.pid_namespace_private):
        return []  # not there yet, or not any more: who is in its cgroup is somebody else
    manager = restore(record.cgroup)
    if manager.paths():
        return sorted(manager.pids())
    if status == STOPPED:
        return []
    from pyrunc.linux.processes import descendants, of_pid_namespace

    return sorted((of_pid_namespace if record.pid_namespace_private else descendants)(record.pid))


def _ps(options: Sequence[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(["ps", *options], stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise PyruncError(
            'exec: "ps": executable file not found in $PATH',
            remedy="install procps, or use --format json",
            code="ps",
        ) from None
    complaint = os.fsdecode(done.stderr).strip()
    # 1 without a word: ps has found nobody who is as the options say.
    if done.returncode > 1 or done.returncode < 0 or (done.returncode and complaint):
        told = complaint.partition("\n")[0] or f"exit status {done.returncode}"
        raise PyruncError(f"ps {' '.join(options)}: {told}", code="ps")
    return os.fsdecode(done.stdout)


def rows_of(table: str, pids: Container[int]) -> str:
    """The header of `table`, written by ps(1), and those rows whose column PID holds one of `pids`.

    A row without a number there tells of a thread of the process above. Raises PyruncError where there is no such
    column.
    """
    header, _, rest = table.partition("\n")
    try:
        column = header.split().index("PID")
    except ValueError:
        raise PyruncError(
            "couldn't find PID field in ps output",
            remedy="choose a format that has it, such as -o pid,args",
            code="ps",
        ) from None
    kept, ours = [header], False
    for row in rest.split("\n"):  # not splitlines: names of processes may hold other ends of lines
        words = row.split(None, column + 1)
        if len(words) > column and words[column].isdecimal():
            ours = int(words[column]) in pids
        if ours and row:
            kept.append(row)
    return "\n".join(kept) + "\n"
