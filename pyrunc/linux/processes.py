"""Which processes belong together where no cgroup tells: by their PID namespace, or by who started whom.

Both look at every process of /proc, one after the other: what starts or ends meanwhile may be missed.
"""

from __future__ import annotations

import os
from fcntl import ioctl

from pyrunc.kernel.constants import NS_GET_PARENT
from pyrunc.kernel.procfs import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def of_pid_namespace(first: int) -> list[int]:
    """The processes in the PID namespace of process `first`, and in those below it; [] if it has ended.

    A process whose namespace the caller may not see (ptrace(2), "access mode checking") is left out.
    """
    try:
        wanted = os.stat(f"/proc/{first}/ns/pid").st_ino
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid for pid in _all() if _is_in(pid, wanted)]


def _is_in(pid: int, wanted: int) -> bool:
    try:
        namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    while True:
        try:
            if os.fstat(namespace).st_ino == wanted:
                return True
            above = ioctl(namespace, NS_GET_PARENT)
        except PermissionError:  # none above, or none that is this process's own or below it (ioctl_nsfs(2))
            return False
        finally:
            os.close(namespace)
        namespace = above


def descendants(first: int) -> list[int]:
    """Process `first`, its children, theirs, and so on; [] if it has ended.

    One whose parent has ended before is no longer known to be among them, unless a subreaper has it (prctl(2)).
    """
    children: dict[int, list[int]] = {}
    for pid in _all():
        try:
            line = read(f"/proc/{pid}/stat")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # Behind the name, which may hold anything: the state, the parent.
        parent = int(line[line.rfind(")") + 2 :].split(None, 2)[1])
        children.setdefault(parent, []).append(pid)
        children.setdefault(pid, [])
    found = [first] if first in children else []
    for pid in found:
        found += children[pid]
    return found


def _all() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)
