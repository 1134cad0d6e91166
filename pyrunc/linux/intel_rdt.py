"""Shares of the cache and of the memory bandwidth, and their monitoring (config-linux.md "IntelRdt").

The kernel offers them as the resctrl file system (Documentation/filesystems/resctrl.rst): a directory is a group,
`schemata` holds its shares, `tasks` takes processes, and `mon_groups` below it has groups that only measure.

    group = choose(intelRdt, container_id)    # nothing is touched yet; everything that can be refused is
    group.create(); … ; group.enter(pid)      # before the container's first process starts another
    remove(group.record())                    # when the container is deleted
"""

from __future__ import annotations

import os
from errno import ENOENT
from fcntl import LOCK_EX, flock

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel import procfs
from pyrunc.kernel.mountinfo import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from pyrunc.config.spec import Config, IntelRdt
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

    #: What takes a function that undoes one thing.
    Push = Callable[[Callable[[], object]], None]

#: The closID of the root group.
ROOT: Final = "/"
#: Directories of the file system that are no groups.
RESERVED: Final = ("info", "mon_data", "mon_groups")
MONITORING: Final = "enableMonitoring"
#: The properties that say which group is meant, not what is in it.
PLACE: Final = ("closID", MONITORING)
#: Those that say what is in it, in the order in which they are written.
SHARES: Final = ("l3CacheSchema", "memBwSchema", "schemata")
#: Resources whose shares are decimal numbers; those of the others are masks in hexadecimal.
BANDWIDTH: Final = ("MB", "SMBA")


def check(config: Config, host: Host, report: Report) -> None:
    """A closID that is one name, and schemata that are lines."""
    wanted = config.get("linux", {}).get("intelRdt") or {}
    closid = wanted.get("closID", "")
    if closid != ROOT and (why := _no_name(closid)):
        report.error(
            "linux.intelRdt.closID",
            f'invalid closID "{closid}": {why}',
            f'give the name of one directory of resctrl, or "{ROOT}" for its root',
        )
    for index, line in enumerate(wanted.get("schemata") or ()):
        if "\n" in line:
            report.error(
                f"linux.intelRdt.schemata[{index}]", "has a newline in it", "each element is one line"
            )
    cache = wanted.get("l3CacheSchema", "")
    if cache and (not cache.startswith("L3:") or "\n" in cache):
        report.warn("linux.intelRdt.l3CacheSchema", 'should be one line that starts with "L3:"')


def _no_name(name: str) -> str:
    """Why `name` cannot be that of a group, or "" (also for the empty name, which means none is given)."""
    if name in (".", ".."):
        return "it leads out of the directory it is in"
    if "/" in name:
        return 'it has a "/" in it'
    if "\n" in name:
        return "it has a newline in it"
    return f'"{name}" is no group' if name in RESERVED else ""


def mount_point(table: bytes | None = None) -> str:
    """Where resctrl is mounted, after /proc/self/mountinfo or such a `table`. Raises PyruncError: nowhere.

    A mount that does not show the root of the file system does not count.
    """
    for mount in mounts("resctrl", table=table):
        if mount.root == "/":
            return mount.point
    raise PyruncError(
        "linux.intelRdt: resctrl is not mounted",
        remedy="mount -t resctrl resctrl /sys/fs/resctrl, if processor and kernel have it",
        code="unsupported",
    )


def lines(wanted: IntelRdt) -> list[str]:
    """What goes into `schemata`, each a write of its own, in the order of the specification."""
    own = "\n".join(wanted.get("schemata") or ())
    cache, bandwidth = wanted.get("l3CacheSchema", ""), wanted.get("memBwSchema", "")
    if bandwidth:
        # The one property gives way to the other as a whole, also where it names more caches.
        cache = "\n".join([line for line in cache.split("\n") if not line.startswith("MB:")])
    texts = {"l3CacheSchema": cache, "memBwSchema": bandwidth, "schemata": own}
    return [texts[name] for name in SHARES if texts[name]]


def merged(wanted: IntelRdt, change: IntelRdt) -> dict[str, Any]:
    """`linux.intelRdt` that says what holds after `update` has written `change`.

    A line changes only the shares that it names, so those of `change` come last, in `schemata`, after all that was.
    """
    new = "\n".join(lines(change)).splitlines()
    named = {share for line in new for share in _shares(line)}
    kept = [line for line in wanted.get("schemata") or () if not named.issuperset(_shares(line))]
    return {**wanted, "schemata": [*kept, *new]}


class Group:
    """The container's resctrl group: `directory`, and `monitor` below it where monitoring is wanted, else "".

    `named`: the configuration gives a closID, so that the group is not the container's own.
    """

    __slots__ = ("_made", "directory", "monitor", "mount", "named", "wanted", "will_make")

    def __init__(self, mount: str, wanted: IntelRdt, container_id: str) -> None:
        closid = wanted.get("closID", "")
        self.mount = mount
        self.wanted = wanted
        self.named = bool(closid)
        if not closid and (why := _no_name(container_id)):
            raise PyruncError(
                f'linux.intelRdt: the container\'s id "{container_id}" cannot be a closID: {why}',
                remedy="give linux.intelRdt.closID",
                code="invalid-config",
            )
        self.directory = mount if closid == ROOT else f"{mount}/{closid or container_id}"
        monitored = wanted.get(MONITORING, False)
        self.monitor = f"{self.directory}/mon_groups/{container_id}" if monitored else ""
        self.will_make = not os.path.isdir(self.directory)
        self._made: list[str] = []

    def lines(self) -> list[str]:
        """See the function of this name."""
        return lines(self.wanted)

    def inspect(self) -> None:
        """Raise PyruncError where the specification refuses what is there. Changes nothing."""
        if not self.will_make:
            self._compare()
        elif self.named and not self.lines():
            raise KernelError(
                f"linux.intelRdt.closID: find the group {self.directory}",
                ENOENT,
                remedy="make it, or give schemata to have it made",
            )
        if self.monitor and os.path.isdir(self.monitor):
            raise PyruncError(
                f"linux.intelRdt.enableMonitoring: {self.monitor} exists already",
                remedy="no other container has this id; if nobody uses the group, remove it",
                code="exists",
            )

    def record(self) -> dict[str, Any]:
        """What `delete` has to know, also before any of it is made: the directories to remove, in order.

        And for `events` where the container is.
        """
        mine = self.will_make and not self.named
        return {
            "remove": [path for path in (self.monitor, self.directory if mine else "") if path],
            "mount": self.mount,
            "directory": self.directory,
            "monitor": self.monitor,
        }

    def create(self) -> None:
        """Make the group with its shares, and the monitoring group. Raises PyruncError.

        Under the lock that the kernel's documentation lays down for all who change groups, so that another
        container with the same closID never finds the group without its shares.
        """
        lock = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flock(lock, LOCK_EX)
            self.will_make = not os.path.isdir(self.directory)
            self.inspect()
            if self.will_make:
                self._mkdir(self.directory, "linux.intelRdt")
                for text in self.lines():
                    self._write(
                        self.directory, "schemata", text + "\n", f'linux.intelRdt: write "{text}" to schemata'
                    )
            if self.monitor:
                self._mkdir(self.monitor, "linux.intelRdt.enableMonitoring")
        finally:
            os.close(lock)

    def change(self, text: str, push: Push) -> None:
        """Write the lines `text` to the schemata of the group that is there."""
        resources = [line.partition(":")[0].strip() for line in text.splitlines()]
        former = [line for line in self._schemata() if line.partition(":")[0] in resources]

        def write(line: str) -> None:
            of = f'linux.intelRdt: write "{line}" to schemata of {self.directory}'
            self._write(self.directory, "schemata", line + "\n", of)

        def put_back() -> None:
            for line in former:
                write(line)

        push(put_back)
        write(text)

    def _schemata(self) -> list[str]:
        try:
            text = procfs.read(f"{self.directory}/schemata")
        except OSError as error:
            raise KernelError.of(f"linux.intelRdt: read {self.directory}/schemata", error) from error
        return [line.strip() for line in text.splitlines()]

    def enter(self, pid: int) -> None:
        """Put process `pid` into the group, then into the monitoring group, which takes only members of it."""
        for directory in (self.directory, self.monitor):
            if directory:
                self._write(
                    directory, "tasks", f"{pid}\n", f"linux.intelRdt: put the container into {directory}"
                )

    def discard(self) -> None:
        """Take back what `create` has made, after a failure. A group that others have joined meanwhile stays."""
        while self._made:
            path = self._made.pop()
            if path == self.directory and self.named and self._is_used():
                continue
            _rmdir(path)

    def _is_used(self) -> bool:
        try:
            return bool(procfs.read(f"{self.directory}/tasks").strip())
        except FileNotFoundError:
            return False

    def _compare(self) -> None:
        """Hold the shares of the group that is there against those that are wanted."""
        wanted = {}
        for text in self.lines():
            for line in text.splitlines():
                wanted.update(_shares(line))
        if not wanted:
            return
        found: dict[tuple[str, str], str] = {}
        for line in self._schemata():
            found.update(_shares(line))
        for (resource, domain), value in wanted.items():
            has = found.get((resource, domain))
            if has is None or not self._same(resource, value, has):
                shown = f"{resource}:{domain}={value}"
                raise PyruncError(
                    f"linux.intelRdt: the group {self.directory} exists with other shares: {shown} is wanted, "
                    + (
                        f"{resource}:{domain}={has} is there"
                        if has is not None
                        else f"there is no {resource}:{domain}"
                    ),
                    remedy="give another closID, or none of l3CacheSchema, memBwSchema, schemata to use it as it is",
                    code="exists",
                )

    def _same(self, resource: str, wanted: str, has: str) -> bool:
        base = 10 if resource in BANDWIDTH else 16
        try:
            one, other = int(wanted, base), int(has, base)
        except ValueError:
            return wanted == has
        if one == other or resource not in BANDWIDTH:
            return one == other
        try:  # the kernel rounds bandwidth up when it is written
            step = int(procfs.read(f"{self.mount}/info/{resource}/bandwidth_gran"))
        except (OSError, ValueError):
            return False
        return -(-one // step) * step == other

    def _mkdir(self, path: str, of: str) -> None:
        self._made.append(path)
        try:
            os.mkdir(path, 0o755)
        except OSError as error:
            self._made.pop()
            raise KernelError(
                f"{of}: make the group {path}", error.errno or 0, detail=self._reason()
            ) from error

    def _write(self, directory: str, name: str, text: str, step: str) -> None:
        try:
            descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, os.fsencode(text))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise KernelError(step, error.errno or 0, detail=self._reason()) from error

    def _reason(self) -> str:
        """What the kernel says about the last change that it refused, or ""."""
        try:
            text = procfs.read(f"{self.mount}/info/last_cmd_status").strip()
        except OSError:
            return ""
        return "" if text == "ok" else text


def choose(wanted: IntelRdt, container_id: str, mount: str = "") -> Group:
    """The group for a container, on the resctrl mounted at `mount` or where it is found. Raises PyruncError."""
    group = Group(mount or mount_point(), wanted, container_id)
    group.inspect()
    return group


def update(wanted: IntelRdt, change: IntelRdt, container_id: str, push: Push) -> None:
    """Write the shares of `change` to the group of the container that was created with `wanted`.

    `push` is given functions that put back what was there. Other containers with the same closID get them, too.
    Raises PyruncError.
    """
    place: Any = {key: value for key, value in wanted.items() if key in PLACE}
    group = Group(mount_point(), {**place, **change}, container_id)
    lock = os.open(group.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(lock, LOCK_EX)
        for text in group.lines():
            group.change(text, push)
    finally:
        os.close(lock)


def remove(record: dict[str, Any]) -> None:
    """Remove what `Group.record` names; what is gone is gone. Raises KernelError."""
    for path in record.get("remove", ()):
        _rmdir(path)


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass  # also where resctrl was unmounted, which ends all groups
    except OSError as error:
        raise KernelError.of(f"remove the resctrl group {path}", error) from error


def _shares(line: str) -> dict[tuple[str, str], str]:
    """(resource, domain) → share of a line of schemata: "L3:0=ff;1=f"."""
    resource, _, rest = line.strip().partition(":")
    found = {}
    for part in rest.split(";"):
        domain, equals, value = part.partition("=")
        if equals:
            found[resource.strip(), domain.strip()] = value.strip()
        elif part.strip():
            found[resource.strip(), part.strip()] = ""  # no share at all: nothing is like it
    return found
