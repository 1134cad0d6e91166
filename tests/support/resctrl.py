"""A file system that behaves like resctrl (Documentation/filesystems/resctrl.rst), for hosts without the hardware.

It is served through FUSE by a thread of the test. What it does as the kernel does: a new directory at the root or in
`mon_groups` is a group with its files; groups are limited in number; shares are checked and rounded, with the reason
of a refusal in info/last_cmd_status; a process is in one group, and in a monitoring group only below its own; a
removed group gives its processes back. What it cannot do: put the children of a process where the process is, and
limit anything. `writes` has all that was written, in order.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from pathlib import Path
from struct import Struct, pack

from pyrunc.kernel.native import syscall

_IN = Struct("<IIQQIIII")
_LOOKUP, _FORGET, _GETATTR, _MKDIR, _RMDIR, _OPEN, _READ, _WRITE = 1, 2, 3, 9, 11, 14, 15, 16
_RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _BATCH_FORGET = 18, 25, 26, 27, 28, 29, 42
_DIRECT_IO = 1
#: Sizes of the structures before the data of a request (linux/fuse.h).
_WRITE_IN, _MKDIR_IN = 40, 8

#: What `info` tells, without the reason of the last refusal.
_INFO = {
    "info/L3/cbm_mask": "fff",
    "info/L3/min_cbm_bits": "2",
    "info/L3/num_closids": "16",
    "info/MB/bandwidth_gran": "10",
    "info/MB/delay_linear": "1",
    "info/MB/min_bandwidth": "10",
    "info/MB/num_closids": "8",
    "info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes",
}


class Refused(Exception):
    """An errno, with what last_cmd_status says."""

    def __init__(self, number: int, why: str = "") -> None:
        self.number = number
        self.why = why


def _listed(files: dict[str, str], folder: str) -> dict[str, bool]:
    """What the directory `folder` of these files holds: name → whether that is a directory."""
    begin = f"{folder}/" if folder else ""
    rests = [path.removeprefix(begin) for path in files if path.startswith(begin)]
    return {rest.partition("/")[0]: "/" in rest for rest in rests}


class Resctrl:
    """The file system, mounted at `path`. `groups` is how many there may be, `monitors` how many that only measure."""

    def __init__(self, path: Path, *, groups: int = 4, monitors: int = 4) -> None:
        self.path = path
        self.limits = groups, monitors
        self.status = "ok"
        self.writes: list[tuple[str, str]] = []
        self.removed: list[str] = []
        self.tasks: dict[int, tuple[str, str]] = {}  # pid → its group, its monitoring group ("": none)
        self.shares: dict[str, dict[str, dict[str, int]]] = {"": self._full()}
        self.monitors: set[str] = set()
        #: What is measured, the same in every group: file below mon_data → text.
        self.measured = {
            f"mon_L3_0{cache}/{name}": "0"
            for cache in (0, 1)
            for name in ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")
        }
        self._names = [""]  # number of a node, less one → its path below the root
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        path.mkdir(exist_ok=True)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0"
        syscall("mount", b"resctrl", os.fsencode(path), b"fuse", 0, options.encode())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        self._thread.join(10)
        os.close(self._fd)

    def group(self, name: str, **shares: dict[str, int]) -> None:
        """Have a group that somebody has made before."""
        self.shares[name] = self._full() | shares

    @staticmethod
    def _full() -> dict[str, dict[str, int]]:
        return {"MB": {"0": 100, "1": 100}, "L3": {"0": 0xFFF, "1": 0xFFF}}

    # -- what is there ---------------------------------------------------------------------------------

    def _children(self, path: str) -> dict[str, bool] | None:
        """Name → whether it is a directory, of the directory `path`; None: there is no such directory."""
        parent, _, name = path.rpartition("/")
        files = {"schemata": False, "tasks": False, "mon_groups": True, "mon_data": True}
        if path == "":
            return files | {"info": True} | {group: True for group in self.shares if group}
        if path in self.shares:
            return files
        if path == "info":
            return {"last_cmd_status": False} | _listed(_INFO, "info")
        if path.startswith("info/"):
            return _listed(_INFO, path) or None
        group, place = self._measuring(path)
        if place is not None:
            return (_listed(self.measured, place) or None) if self._is_group(group) else None
        if name == "mon_groups" and parent in self.shares:
            above = f"{parent}/" if parent else ""
            return {each.rpartition("/")[2]: True for each in self.monitors if self._above(each) == above}
        return {"tasks": False, "mon_data": True} if path in self.monitors else None

    def _is_group(self, path: str) -> bool:
        return path in self.shares or path in self.monitors

    @staticmethod
    def _measuring(path: str) -> tuple[str, str | None]:
        """The group above a `mon_data` in the path, and what is below it; None: there is none."""
        words = path.split("/")
        if "mon_data" not in words:
            return "", None
        at = words.index("mon_data")
        return "/".join(words[:at]), "/".join(words[at + 1 :])

    @staticmethod
    def _above(monitor: str) -> str:
        """The group of a monitoring group, with a slash behind it if it is not the root."""
        return monitor.rpartition("mon_groups/")[0]

    def _content(self, path: str) -> str:
        parent, _, name = path.rpartition("/")
        if name == "schemata":
            lines = []
            for resource, shares in self.shares[parent].items():
                form = "{}={}" if resource == "MB" else "{}={:x}"
                lines.append(
                    f"{resource:>6}:" + ";".join(form.format(*each) for each in shares.items()) + "\n"
                )
            return "".join(lines)
        if name == "tasks":
            if parent in self.monitors:
                found = [pid for pid, (_, monitor) in self.tasks.items() if monitor == parent]
            else:
                found = [pid for pid, (group, _) in self.tasks.items() if group == parent]
            return "".join(f"{pid}\n" for pid in found if os.path.isdir(f"/proc/{pid}"))
        _, place = self._measuring(path)
        told = self.status if name == "last_cmd_status" else self.measured[place] if place else _INFO[path]
        return f"{told}\n"

    # -- what can be done ------------------------------------------------------------------------------

    def _make(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        if name in (self._children(parent) or {}):
            raise Refused(errno.EEXIST)
        if parent == "":
            if len(self.shares) == self.limits[0]:
                raise Refused(errno.ENOSPC, "Out of CLOSIDs")
            self.shares[name] = self._full()
        elif parent.rpartition("/")[2] == "mon_groups":
            if len(self.monitors) == self.limits[1]:
                raise Refused(errno.ENOSPC, "Out of RMIDs")
            self.monitors.add(path)
        else:
            raise Refused(errno.EPERM)

    def _remove(self, path: str) -> None:
        if path in self.monitors:
            self.monitors.remove(path)
            for pid, (group, monitor) in self.tasks.items():
                self.tasks[pid] = group, "" if monitor == path else monitor
        elif path in self.shares and path:
            del self.shares[path]
            self.monitors = {each for each in self.monitors if self._above(each) != f"{path}/"}
            self.tasks = {pid: place for pid, place in self.tasks.items() if place[0] != path}
        else:
            raise Refused(errno.EPERM)
        self.removed.append(path)

    def _written(self, path: str, text: str) -> None:
        self.writes.append((path, text))
        parent, _, name = path.rpartition("/")
        if name == "tasks":
            self._enter(parent, int(text))
        elif name == "schemata":
            self._set(parent, text)
        else:
            raise Refused(errno.EPERM)

    def _enter(self, place: str, pid: int) -> None:
        if not os.path.isdir(f"/proc/{pid}"):
            raise Refused(errno.ESRCH, f"No task {pid}")
        if place not in self.monitors:
            self.tasks[pid] = place, ""
            return
        group = self._above(place).rstrip("/")
        if self.tasks.get(pid, ("", ""))[0] != group:
            raise Refused(errno.EINVAL, "Can't move task to different control group")
        self.tasks[pid] = group, place

    def _set(self, group: str, text: str) -> None:
        staged: dict[tuple[str, str], int] = {}
        if not text.endswith("\n"):
            raise Refused(errno.EINVAL)
        for line in text[:-1].split("\n"):
            resource, _, rest = line.partition(":")
            if resource not in self.shares[group]:
                raise Refused(errno.EINVAL, f"Unknown or unsupported resource name '{resource}'")
            for part in rest.split(";"):
                domain, _, value = part.partition("=")
                if (resource, domain) in staged:
                    raise Refused(errno.EINVAL, f"Duplicate domain {domain}")
                if domain not in self.shares[group][resource]:
                    raise Refused(errno.EINVAL, "Missing '=' or non-numeric domain")
                staged[resource, domain] = self._share(resource, value)
        for (resource, domain), number in staged.items():
            self.shares[group][resource] = self.shares[group][resource] | {domain: number}

    @staticmethod
    def _share(resource: str, value: str) -> int:
        try:
            number = int(value, 10 if resource == "MB" else 16)
        except ValueError:
            raise Refused(errno.EINVAL, f"Non-hex character in the mask {value}") from None
        if resource == "MB":
            if not 10 <= number <= 100:
                raise Refused(errno.EINVAL, f"MB value {number} out of range [10,100]")
            return -(-number // 10) * 10
        if not 0 < number <= 0xFFF:
            raise Refused(errno.EINVAL, f"Mask out of range: {value}")
        return number

    # -- FUSE ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 1 << 18)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.EBADF):
                    return
                continue
            _, kind, unique, node, *_ = _IN.unpack_from(data)
            if kind in (_FORGET, _BATCH_FORGET):
                continue
            try:
                number, reply = 0, self._answer(kind, node, data[_IN.size :])
            except Refused as refused:
                number, reply = refused.number, b""
                self.status = refused.why or self.status
            try:
                os.write(self._fd, pack("<IiQ", 16 + len(reply), -number, unique) + reply)
            except OSError:
                pass  # the caller has gone

    def _answer(self, kind: int, node: int, body: bytes) -> bytes:
        path = self._names[node - 1] if node else ""
        if kind == _INIT:
            return pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, 0)
        if kind == _LOOKUP:
            return self._entry(path, body.rstrip(b"\0").decode())
        if kind == _GETATTR:
            return pack("<QII", 0, 0, 0) + self._attributes(path)
        if kind in (_MKDIR, _RMDIR):
            name = body[_MKDIR_IN if kind == _MKDIR else 0 :].rstrip(b"\0").decode()
            self.status = "ok"
            if kind == _RMDIR:
                self._remove(self._join(path, name))
                return b""
            self._make(self._join(path, name))
            return self._entry(path, name)
        if kind in (_OPEN, _OPENDIR):
            return pack("<QII", 0, _DIRECT_IO if kind == _OPEN else 0, 0)
        if kind == _READ:
            offset = int.from_bytes(body[8:16], "little")
            return self._content(path).encode()[offset:]
        if kind == _WRITE:
            self.status = "ok"
            self._written(path, body[_WRITE_IN:].decode())
            return pack("<II", len(body) - _WRITE_IN, 0)
        if kind == _READDIR:
            return self._listing(path, int.from_bytes(body[8:16], "little"))
        if kind in (_RELEASE, _RELEASEDIR, _FLUSH):
            return b""
        raise Refused(errno.ENOSYS)

    @staticmethod
    def _join(path: str, name: str) -> str:
        return f"{path}/{name}" if path else name

    def _number(self, path: str) -> int:
        if path not in self._names:
            self._names.append(path)
        return self._names.index(path) + 1

    def _attributes(self, path: str) -> bytes:
        folder = self._children(path) is not None
        if not folder:
            parent, _, name = path.rpartition("/")
            if name not in (self._children(parent) or {}):
                raise Refused(errno.ENOENT)
        mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
        return pack(
            "<QQQQQQIIIIIIIIII", self._number(path), 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
        )

    def _entry(self, parent: str, name: str) -> bytes:
        path = self._join(parent, name)
        attributes = self._attributes(path)
        return pack("<QQQQII", self._number(path), 0, 0, 0, 0, 0) + attributes

    def _listing(self, path: str, offset: int) -> bytes:
        if offset:
            return b""
        listed = b""
        for index, (name, folder) in enumerate((self._children(path) or {}).items(), 1):
            raw = name.encode()
            listed += pack("<QQII", 1, index, len(raw), 4 if folder else 8) + raw + bytes(-len(raw) % 8)
        return listed
