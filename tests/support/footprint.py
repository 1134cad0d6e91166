"""What a runtime leaves on the host: processes, mounts, cgroups, namespaces, state, sockets, /dev/null.

The test process is a child subreaper (see tests/conftest.py), so whatever a runtime leaves behind becomes
its descendant: processes are told apart from those of other tests and other programs by descent alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.patience import patient

#: Popen objects of the tests reap their own children; everything else is reaped here.
own_children: set[int] = set()


def stat_of(pid: int) -> tuple[str, str, int, int] | None:
    """(command, state, ppid, start time) of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            raw = file.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, rest = raw[raw.index("(") + 1 : raw.rindex(")")], raw[raw.rindex(")") + 2 :].split()
    return name, rest[0], int(rest[1]), int(rest[19])


def all_pids() -> list[int]:
    """The pids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int | None = None) -> dict[int, tuple[str, str, int, int]]:
    """The processes below this one (or `root`), with what `stat_of` tells of each."""
    known = {pid: entry for pid in all_pids() if (entry := stat_of(pid)) is not None}
    found: dict[int, tuple[str, str, int, int]] = {}
    wave = {root or os.getpid()}
    while wave:
        wave = {pid for pid, entry in known.items() if entry[2] in wave and pid not in found}
        found.update({pid: known[pid] for pid in wave})
    return found


def reap() -> None:
    """Reap the orphans that this process inherited as a subreaper."""
    me = os.getpid()
    for pid, (_, state, parent, _) in descendants().items():
        if state == "Z" and parent == me and pid not in own_children:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def mounts(pid: int | str = "self") -> set[str]:
    """Each mount of this mount namespace, or of a process's, as "mountpoint root fstype source"."""
    found: set[str] = set()
    with open(f"/proc/{pid}/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            words = left.split()
            found.add(f"{words[4]} {words[3]} {' '.join(right.split()[:2])}")
    return found


def hierarchies() -> list[str]:
    """The mount points of all cgroup hierarchies of this host."""
    with open("/proc/self/mountinfo") as file:
        parts = [line.partition(" - ") for line in file]
    return [left.split()[4] for left, _, right in parts if right.split()[0] in ("cgroup", "cgroup2")]


def below(top: str) -> Iterator[str]:
    """Every directory below `top`, however deep (os.walk of older Pythons calls itself for each level)."""
    rest = [top]
    while rest:
        with contextlib.suppress(OSError):  # gone meanwhile, or deeper than a path can say
            inside = [entry.path for entry in os.scandir(rest.pop()) if entry.is_dir(follow_symlinks=False)]
            yield from inside
            rest += inside


def cgroups(tag: str) -> set[str]:
    """The directories of all cgroup hierarchies with `tag` in their path."""
    return {path for top in hierarchies() for path in below(top) if tag in path}


def namespaces(pids: list[int]) -> set[str]:
    """The distinct namespaces of these processes; one that a bind mount keeps alive shows among the mounts."""
    found: set[str] = set()
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/ns"):
                found.add(os.readlink(f"/proc/{pid}/ns/{name}"))
        except OSError:
            continue
    return found


def tree(top: Path, skip: tuple[Path, ...] = ()) -> set[str]:
    """Everything below `top` as "type path", without what is at or below `skip`."""
    found: set[str] = set()
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if Path(directory, name) not in skip]
        for name in (*names, *files):
            path = os.path.join(directory, name)
            if path.endswith(("/state", "/config.json")):
                continue  # the directory of `--root` itself may stay; config.json is written by the tests
            try:
                found.add(f"{stat.filemode(os.lstat(path).st_mode)[0]} {path}")
            except FileNotFoundError:
                continue
    return found


def null_device() -> tuple[int, int, int, int]:
    """Mode, owner, group and device number of the host's /dev/null."""
    st = os.stat("/dev/null")
    return st.st_mode, st.st_uid, st.st_gid, st.st_rdev


class Footprint:
    """A snapshot of what one test could leave behind.

    `tag` is in every id and cgroup name of the test; `scratch` holds its bundles and `--root` directories.
    Mounts elsewhere than in `scratch` count too, except where engines and other tests work.
    """

    elsewhere = ("/tmp/", "/var/tmp/", "/var/lib/", "/run/", "/mnt/", "/area/")

    def __init__(self, tag: str, scratch: Path, skip: tuple[Path, ...] = ()) -> None:
        self.tag = tag
        self.scratch = scratch
        self.skip = skip
        self.before = self.look()

    def look(self) -> dict[str, set[str]]:
        """What is there now, by kind."""
        reap()
        living = {pid: entry for pid, entry in descendants().items() if entry[1] != "Z"}
        mine = str(self.scratch)
        standing = {
            m for m in mounts() if m.startswith(mine) or not m.startswith(self.elsewhere) or self.tag in m
        }
        return {
            "processes": {f"{pid} {entry[0]} started {entry[3]}" for pid, entry in living.items()},
            "mounts": standing,
            "cgroups": cgroups(self.tag),
            "namespaces": namespaces([os.getpid(), *living]),
            "files": tree(self.scratch, self.skip) | self.default_state(),
            "/dev/null": {str(null_device())},
        }

    def default_state(self) -> set[str]:
        """State directories of this test where `--root` was not given."""
        found: set[str] = set()
        own = os.environ.get("XDG_RUNTIME_DIR", "/run") if os.geteuid() else "/run"
        for name in ("pyrunc", "runc", "crun"):
            top = f"{own}/{name}"
            if os.path.isdir(top):
                found.update(f"{top}/{id}" for id in os.listdir(top) if self.tag in id)
        return found

    def difference(self) -> list[str]:
        """What is new or gone, one line each."""
        now = self.look()
        lines = []
        for kind, before in self.before.items():
            lines += [f"{kind}: left behind: {item}" for item in sorted(now[kind] - before)]
            lines += [f"{kind}: gone: {item}" for item in sorted(before - now[kind])]
        return lines

    def assert_unchanged(self, patience: float = 2.0) -> None:
        """Fail with the list of what changed; dying processes get `patience` seconds to be gone."""
        deadline = time.monotonic() + patient(patience)
        while (lines := self.difference()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not lines, "the host is not as it was before:\n  " + "\n  ".join(lines)


def unmount(point: str) -> None:
    """Detach one mount (tests end with this what they mounted themselves)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(point), 2)


def become_subreaper() -> None:
    """Let orphans of this process's descendants become its own children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def end(pids: set[int]) -> None:
    """Kill these descendants of ours and reap them."""
    for pid in pids:
        if pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patient(5)
    while (
        pids & {pid for pid, entry in descendants().items() if entry[1] != "Z"}
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
        reap()  # the init of a PID namespace does not end before all there is reaped
    reap()


def remove_cgroups(tag: str) -> None:
    """Remove the cgroups of a test, deepest first."""
    for path in sorted(cgroups(tag), key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
