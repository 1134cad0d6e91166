"""A container's cgroup as a transient unit of systemd.

systemd takes a process into a scope that it makes, so init exists before its cgroup: it is spawned in the
runtime's own, and waits there, before its first step, until `admit` has brought it into the unit and has set
every limit. What systemd has no property for is written to the cgroup's files, as by the other managers, from which
the classes here are derived: once there, it is a cgroup like any other.
"""

from __future__ import annotations

import os
import time
from errno import EBUSY

from pyrunc.config.annotations import SYSTEMD_PROPERTY
from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import files, tree
from pyrunc.linux.cgroups.resources import needed
from pyrunc.linux.cgroups.systemd import properties
from pyrunc.linux.cgroups.systemd.bus import Refused
from pyrunc.linux.cgroups.systemd.systemd import EXISTS, Systemd
from pyrunc.linux.cgroups.systemd.unit import Unit, unit
from pyrunc.linux.cgroups.v2 import controllers
from pyrunc.linux.cgroups.v2 import manager as v2
from pyrunc.plan.talk import hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.layout import Layout
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.linux.cgroups.systemd import legacy
    from pyrunc.linux.cgroups.systemd.properties import Properties
    from pyrunc.plan.program import Program

#: How systemd, or the bus, says that somebody else may do this.
_DENIED: Final = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)
#: Seconds that the dying processes of a unit may take.
_DYING: Final = 0.5


class Service:
    """The unit of one container, whichever version of cgroups the host has.

    `started`: systemd makes it, or has made it, for this container. `vacant`: nothing was in its place before,
    so what is there when `create` was killed is this container's too. `annotations`: properties that the caller
    asked for. `version`: of systemd. `resources`: the limits, until `admit` sets them.
    """

    def __init__(self, unit: Unit, systemd: Systemd, annotations: Properties, version: int = 0) -> None:
        self.unit = unit
        self.systemd = systemd
        self.started = False
        self.vacant = False
        self.version = version
        self.resources: Resources = {}
        self._annotations = annotations

    def record(self) -> dict[str, object]:
        """What `restored` needs."""
        unit = self.unit
        return {
            "unit": unit.name,
            "slice": unit.slice,
            "path": unit.path,
            "rootless": self.systemd.rootless,
            "address": self.systemd.address,
            "ours": self.started or self.vacant,
        }

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Service:
        """The service that wrote `record`."""
        found = Unit(record["unit"], record["slice"], record["path"])
        service = cls(found, Systemd(record["rootless"], record["address"]), {})
        service.started = record["ours"]
        return service

    def start(self, pid: int, limits: Properties) -> None:
        """Make the unit with process `pid` in it. Raises PyruncError; `stop` takes back what there is then."""
        # Limits last: an annotation says how systemd keeps the unit, not how much the container gets.
        asked = {**properties.of_unit(self.unit, pid), **self._annotations, **limits}
        name = self.unit.name
        for last in (False, True):
            try:
                job = self.systemd.start(name, asked)
            except Refused as error:
                if error.name == EXISTS and not last:
                    # It has failed before, and waits for somebody to look at it; or it is in use, and stays.
                    self.systemd.reset(name)
                    continue
                raise self._refused(error) from error
            # Before the waiting: from here on there is something to take back, whatever becomes of the job.
            self.started = True
            self.systemd.started(name, job)
            return

    def tell(self, wanted: Properties, push: Push) -> None:
        """Have systemd keep these properties instead of those it has; `push` is given what takes that back."""
        name = self.unit.name
        now = self.systemd.properties(name, wanted)
        former = {key: (kind, now[key]) for key, (kind, _) in wanted.items()}

        def put_back() -> None:
            try:
                self.systemd.change(name, properties.in_order(former, former))
            finally:
                self.systemd.close()

        push(put_back)  # first: whoever is interrupted while he waits for the answer has changed it
        self.systemd.change(name, properties.in_order(wanted))

    def _refused(self, error: Refused) -> PyruncError:
        remedy = ""
        if error.name == EXISTS:
            remedy = "another container has this linux.cgroupsPath: use another, or delete that container"
        elif error.name in _DENIED and not self.systemd.rootless:
            remedy = "be root, or ask your own systemd: leave --rootless=false out"
        elif self._annotations:
            remedy = f"check the annotations {SYSTEMD_PROPERTY}*"
        return PyruncError(
            f"start systemd unit {self.unit.name}: {error.text}", remedy=remedy, code="systemd"
        )

    def stop(self, home: str) -> None:
        """Stop the unit, whose cgroup is `home`, when its last process has ended. Raises PyruncError."""
        until = time.monotonic() + _DYING
        while left := tree.pids(home):
            if time.monotonic() > until:
                remedy = f"{len(left)} process(es) still in it, such as {left[0]}: kill them first"
                raise KernelError(f"stop systemd unit {self.unit.name}", EBUSY, remedy=remedy)
            time.sleep(tree.FIRST_WAIT)
        try:
            self.systemd.stop(self.unit.name)
        except PyruncError:
            # Gone with its systemd, such as that of a user who has logged out.
            if os.path.isdir(home):
                raise
        finally:
            self.systemd.close()
        self.started = False


class Manager(v2.Manager):
    """On cgroup v2."""

    service: Service
    #: How many processes the kernel had killed for lack of memory in the whole slice before this container.
    _oom_before = 0
    _below = ""

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Manager:
        """The manager that wrote `record`."""
        manager = cls(record["home"], record["top"], (), record["rootless"], False)
        manager.service = Service.restored(record["systemd"])
        manager._oom_before = record["oom_kills"]
        return manager

    def record(self) -> dict[str, object]:
        """The directory and its unit, which is systemd's to remove."""
        return {**super().record(), "systemd": self.service.record(), "oom_kills": self._oom_before}

    def intent(self) -> dict[str, object]:
        """The same, which tells what was there."""
        return self.record()

    def create(self) -> None:
        """Only refuse a cgroup that is in use: it is made with its first process."""
        if os.path.isdir(self.home):
            self._check_unused()

    def apply(self, resources: Resources) -> None:
        """Remember the limits for `admit`."""
        v2.refuse_unholdable(resources)
        self.service.resources = resources

    def plan_entry(self, program: Program) -> None:
        """Emit waiting for `admit`."""
        hear(program, "wait until systemd has made the cgroup")
        super().plan_entry(program)

    def expect_frozen(self) -> None:
        """As without systemd, where it is not systemd that moves the process."""
        if not self._rootless:
            super().expect_frozen()

    def directory(self) -> int | None:
        """The directory, once it is there.

        Not an ordinary user's: the kernel lets him move nothing into it from outside of his systemd's cgroup.
        """
        return super().directory() if self.service.started and not self._rootless else None

    def join(self, pid: int) -> bool:
        """Have systemd move the process of an ordinary user."""
        if self._rootless:
            try:
                self.service.systemd.attach(self.service.unit.name, pid, self._below)
            finally:
                self.service.systemd.close()
        return True

    def descend(self, below: Mapping[str, str]) -> None:
        """As without systemd; of which it has to be told."""
        super().descend(below)
        self._below = below.get("", "")

    def admit(self, pid: int) -> bool:
        """Have systemd make the unit around process `pid`, then set the other limits."""
        resources = self.service.resources
        limits = properties.of_resources(resources, self.service.version)
        if not self._rootless:
            # The systemd of a user may load no device program, and its users open no devices but their own.
            limits |= properties.of_devices(resources.get("devices") or ())
        self._oom_before = self._oom_kills_around()
        try:
            self.service.start(pid, limits)
        finally:
            self.service.systemd.close()
        if self.service.unit.is_slice:
            files.write(self.home, "cgroup.procs", str(pid))
        elif pid not in tree.pids(self.home):
            raise PyruncError(
                f"systemd put the container not into {self.home}, where its limits are going to be",
                remedy=f"`systemctl status {self.service.unit.name}` shows where it is",
                code="systemd",
            )
        self.fresh = True  # of device programs: systemd's own does not count, it stays beside
        if not set(needed(resources)) <= set(files.read(self.home, "cgroup.controllers").split()):
            # Such as hugetlb and rdma, of which systemd knows nothing.
            controllers.provide(self.home, self.top, self._offered)
        super().apply(properties.rounded(resources))
        if self.owner >= 0:
            self._delegate()
        return True

    def update(self, change: Resources, before: Resources, push: Push) -> None:
        """Write what changes, have systemd keep it, and write it again.

        First, for systemd does not tell what the kernel refuses. Again, for with one value systemd writes all that it
        has to say of a controller, and that is not always as exact as the file.
        """
        from pyrunc.linux.cgroups.change import merged, touched

        if not set(needed(change)) <= set(files.read(self.home, "cgroup.controllers").split()):
            controllers.provide(self.home, self.top, files.read(self.top, "cgroup.controllers").split())
        super().update(properties.rounded(change), before, push)
        try:
            wanted = properties.of_change(change, self.service.systemd.version())
            if (devices := change.get("devices")) and not self._rootless:
                wanted |= properties.of_devices(devices)
            if wanted:
                push(lambda: self._write(touched(before, change)))
                self.service.tell(wanted, push)
                self._write(touched(merged(before, change), change))
        finally:
            self.service.systemd.close()

    def _write(self, resources: Resources) -> None:
        from pyrunc.linux.cgroups.v2 import limits

        limits.apply(self.home, properties.rounded(resources))

    def oom_kills(self) -> int:
        """From memory.events; systemd removes that with the last process, but the slice counts on."""
        if not self.service.started:
            return 0
        around = self._oom_kills_around() - self._oom_before
        return super().oom_kills() or (0 if os.path.isdir(self.home) else max(around, 0))

    def _oom_kills_around(self) -> int:
        try:
            return files.keyed(files.get(os.path.dirname(self.home), "memory.events"), "oom_kill")
        except OSError:
            return 0  # nobody has been in the slice, or it is the root, which has no limit and counts nothing

    def kill(self) -> None:
        """Whoever is in the unit; nobody in one that is somebody else's."""
        if self.service.started:
            super().kill()

    def remove(self) -> None:
        """Have systemd remove the unit, and take away what it leaves."""
        if self.service.started:
            self.service.stop(self.home)
            tree.remove(self.home)


def at(
    config: Config, container_id: str, layout: Layout, rootless: bool, owner: int
) -> Manager | legacy.Manager:
    """The manager for a container's unit, which nobody has made yet. `owner`: as of the v2 manager.

    Raises PyruncError where systemd cannot be reached or the configuration asks for what no unit can be.
    """
    linux = config.get("linux") or {}
    wanted = unit(linux.get("cgroupsPath") or "", container_id, rootless)
    annotations = properties.of_annotations(config.get("annotations") or {})
    if rootless and not layout.pure_v2:
        raise PyruncError(
            "the systemd cgroup manager of an ordinary user needs cgroup v2",
            remedy="use --cgroup-manager cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1",
            code="unsupported",
        )
    systemd = Systemd(rootless)
    path = systemd.control_group() + wanted.path
    service = Service(wanted, systemd, annotations, systemd.version())
    if layout.pure_v2 and layout.v2 is not None:
        top = layout.v2.mount
        service.vacant = not os.path.isdir(top + path)
        manager = Manager(top + path, top, layout.v2.controllers, rootless, False)
        manager.service = service
        manager.owner = owner
        return manager
    from pyrunc.linux.cgroups.systemd import legacy

    return legacy.Manager.of(service, path, layout)


def restore(record: Mapping[str, Any]) -> Manager | legacy.Manager:
    """The manager that wrote `record`."""
    if record["version"] == 1:
        from pyrunc.linux.cgroups.systemd import legacy

        return legacy.Manager.restored(record)
    return Manager.restored(record)
