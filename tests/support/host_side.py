"""What the runtime itself does to cgroups and resctrl for a container, as text: for golden tests.

It is the code that does it which runs here, with its system calls written down at the border: on a tree of ordinary
files with the names that a kernel gives them, where a directory that is made has such files at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux import intel_rdt
from pyrunc.linux.cgroups.devices import program_v2
from pyrunc.linux.cgroups.layout import Hierarchy, Layout
from pyrunc.linux.cgroups.manager import choose

#: The files of a cgroup and what stands in them; of cgroup v1 those of one controller. Not all, but what bundles need.
V2 = {
    "cgroup.controllers": "",
    "cgroup.events": "frozen 0",
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "cgroup.type": "domain",
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "cpuset.cpus": "",
    "cpuset.cpus.effective": "0",
    "cpuset.mems": "",
    "cpuset.mems.effective": "0",
    "hugetlb.2MB.max": "max",
    "hugetlb.2MB.rsvd.max": "max",
    "io.bfq.weight": "100",
    "io.max": "",
    "io.weight": "100",
    "memory.high": "max",
    "memory.low": "0",
    "memory.max": "max",
    "memory.swap.max": "max",
    "pids.max": "max",
    "rdma.max": "",
}
V1: dict[str, dict[str, str]] = {
    "cpu": {"cpu.shares": "", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
    "cpuset": {"cpuset.cpus": "0-3", "cpuset.mems": "0"},
    "memory": {
        "memory.limit_in_bytes": "",
        "memory.memsw.limit_in_bytes": "",
        "memory.oom_control": "",
        "memory.swappiness": "",
    },
    "devices": {"devices.allow": "", "devices.deny": "", "devices.list": "a *:* rwm"},
    "freezer": {"freezer.state": "THAWED"},
    "pids": {"pids.max": "max"},
    "net_cls": {"net_cls.classid": ""},
    "net_prio": {"net_prio.ifpriomap": ""},
}
RESCTRL = {"schemata": "", "tasks": ""}
_mkdir = os.mkdir
#: The first process of the container.
PID = 4242


def listing(config: Any, layout: Layout, rootless: bool, scratch: Path, patch: pytest.MonkeyPatch) -> str:
    """A line for each directory that is made, and for each write with the file, before init enters."""
    top = scratch / "sys"
    patched = [_moved(each, top) for each in (*layout.v1, *([layout.v2] if layout.v2 else []))]
    moved = Layout(tuple(patched[: len(layout.v1)]), patched[-1] if layout.v2 else None)
    kernel = _Kernel(top, moved)
    for hierarchy in patched:
        kernel.make(f"{hierarchy.mount}{os.path.dirname(hierarchy.own)}".rstrip("/"))
        if hierarchy is moved.v2:
            kernel.fill(hierarchy.mount, "cgroup.controllers", " ".join(hierarchy.controllers))
    resctrl = f"{top}/fs/resctrl"
    kernel.make(resctrl)
    with kernel.written_down(patch):
        kernel.title("make the cgroup [linux.cgroupsPath]")
        manager = choose(config, "golden", moved, rootless)
        manager.create()
        kernel.title("limit it [linux.resources]")
        manager.apply(config["linux"].get("resources") or {})
        if wanted := config["linux"].get("intelRdt"):
            kernel.title("make the group of resctrl [linux.intelRdt]")
            group = intel_rdt.choose(wanted, "golden", resctrl)
            group.create()
            kernel.title("bring init into it [linux.intelRdt]")
            group.enter(PID)
    return "the runtime, on the host:\n" + "".join(f"  {line}\n" for line in kernel.lines)


def _moved(hierarchy: Hierarchy, top: Path) -> Hierarchy:
    return Hierarchy(f"{top}{hierarchy.mount.removeprefix('/sys')}", hierarchy.controllers, hierarchy.own)


class _Kernel:
    """What there is below `top`, and the calls that change it."""

    def __init__(self, top: Path, layout: Layout) -> None:
        self.lines: list[str] = []
        self._top = str(top)
        self._layout = layout
        self._open: dict[int, str] = {}
        self._title = ""

    def title(self, text: str) -> None:
        """The next lines are about this."""
        self._title = text

    def make(self, path: str) -> None:
        """Have this directory, with its files, and those above."""
        if os.path.isdir(path):
            return
        self.make(os.path.dirname(path))
        _mkdir(path)
        self._furnish(path)

    def fill(self, directory: str, name: str, text: str) -> None:
        """What stands in a file."""
        Path(directory, name).write_text(text)

    def _furnish(self, path: str) -> None:
        for name, text in self._files(path).items():
            self.fill(path, name, text)
        if os.path.dirname(path) in (f"{self._top}/fs", f"{self._top}/fs/resctrl"):
            _mkdir(f"{path}/mon_groups")

    def _files(self, path: str) -> dict[str, str]:
        if path.startswith(f"{self._top}/fs/resctrl"):
            return RESCTRL
        for hierarchy in self._layout.v1:
            if f"{path}/".startswith(f"{hierarchy.mount}/"):
                files = {"cgroup.procs": "", "tasks": ""}
                for controller in hierarchy.controllers:
                    files |= V1.get(controller, {})
                return files
        return V2 if self._layout.v2 and path.startswith(self._layout.v2.mount) else {}

    @contextmanager
    def written_down(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """While the block runs, what is done is written down."""
        opens, write = os.open, os.write

        def making(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            _mkdir(path, mode, dir_fd=dir_fd)
            self._tell(f'mkdir("{self._shown(path)}", 0o{mode:o})')
            self._furnish(path)

        def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            descriptor = opens(path, flags, mode, dir_fd=dir_fd)
            self._open[descriptor] = path
            return descriptor

        def writing(descriptor: int, data: bytes) -> int:
            path = self._open[descriptor]
            self._tell(f'write("{self._shown(path)}", {data!r})'.replace(", b'", ", '"))
            if os.path.basename(path) == "cgroup.subtree_control":
                self._hand_down(os.path.dirname(path), data.decode())
            os.ftruncate(descriptor, 0)  # a write to a file of a kernel replaces what was there
            return write(descriptor, data)

        def giving(path: Any, uid: int, gid: int, **_: Any) -> None:
            self._tell(f'chown("{self._shown(path)}", {uid}, {gid})')

        def attaching(path: str, code: bytes, fresh: bool, ours: bool = False) -> None:
            self._tell(f'attach("{self._shown(path)}", device program of {len(code) // 8} instructions)')

        with patch.context() as patched:
            patched.setattr(os, "mkdir", making)
            patched.setattr(os, "open", opening)
            patched.setattr(os, "write", writing)
            patched.setattr(os, "chown", giving)
            patched.setattr(program_v2, "attach", attaching)  # bpf(2) takes no ordinary directory
            yield

    def _hand_down(self, directory: str, change: str) -> None:
        """The cgroups below have these controllers from now on."""
        names = change.replace("+", "")
        for entry in os.scandir(directory):
            if entry.is_dir():
                self.fill(entry.path, "cgroup.controllers", names)

    def _shown(self, path: str) -> str:
        return "/sys" + path.removeprefix(self._top)

    def _tell(self, line: str) -> None:
        if self._title:
            self.lines.append(self._title)
            self._title = ""
        self.lines.append(f"  {line}")
