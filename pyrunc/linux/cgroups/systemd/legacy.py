"""A container's cgroups as a transient unit of systemd on cgroup v1 (and on a hybrid host).

Newer systemds have no cgroup v1 any more, and no host of the project has both: what is tested is what needs no
systemd.
"""

from __future__ import annotations

import os

from pyrunc.linux.cgroups.layout import SYSTEMD
from pyrunc.linux.cgroups.systemd import properties
from pyrunc.linux.cgroups.systemd.manager import Service
from pyrunc.linux.cgroups.v1 import manager as v1
from pyrunc.plan.talk import hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.layout import Layout
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.linux.cgroups.systemd.properties import Properties
    from pyrunc.plan.program import Program


class Manager(v1.Manager):
    """On cgroup v1: systemd places the process in its own hierarchy, init enters the others by itself."""

    service: Service

    @classmethod
    def of(cls, service: Service, path: str, layout: Layout) -> Manager:
        """The manager of the cgroup `path` in every hierarchy of `layout` that is not systemd's own."""
        homes = [
            v1.Home(hierarchy.mount + path, hierarchy.mount, hierarchy.controllers)
            for hierarchy in layout.v1
            if hierarchy.controllers != (SYSTEMD,)
        ]
        manager = cls(homes, False, False)
        service.vacant = not any(os.path.isdir(home.path) for home in homes)
        manager.service = service
        return manager

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Manager:
        """The manager that wrote `record`."""
        homes = [v1.Home(path, top, tuple(names)) for path, top, names in record["homes"]]
        manager = cls(homes, record["rootless"], False)
        manager._made = list(record["made"])
        manager.service = Service.restored(record["systemd"])
        return manager

    def record(self) -> dict[str, object]:
        """The directories and the unit."""
        return {**super().record(), "systemd": self.service.record()}

    def intent(self) -> dict[str, object]:
        """The same with the directories that are missing."""
        return {**super().intent(), "systemd": self.service.record()}

    def apply(self, resources: Resources) -> None:
        """Remember the limits for `admit`."""
        self.service.resources = resources

    def plan_entry(self, program: Program) -> None:
        """Emit waiting for `admit`, then entering each hierarchy."""
        hear(program, "wait until systemd has made the cgroup")
        super().plan_entry(program)

    def directory(self) -> int | None:
        """None: the unified hierarchy is systemd's to fill."""
        return None

    def admit(self, pid: int) -> bool:
        """Have systemd make the unit around process `pid`, then set every limit, as without systemd."""
        resources = self.service.resources
        limits = properties.of_resources_v1(resources, self.service.version)
        limits |= properties.of_devices(resources.get("devices") or ())
        try:
            self.service.start(pid, limits)
        finally:
            self.service.systemd.close()
        for home in self.homes:
            home.fresh = False  # systemd has written its own device list by now
        super().apply(properties.rounded(resources))
        return True

    def join(self, pid: int) -> bool:
        """Have systemd place it in its own hierarchy, as the first process."""
        try:
            self.service.systemd.attach(self.service.unit.name, pid)
        finally:
            self.service.systemd.close()
        return True

    def update(self, change: Resources, before: Resources, push: Push) -> None:
        """As on cgroup v2; the device list, too, systemd makes anew."""
        from pyrunc.linux.cgroups.change import merged

        super().update(properties.rounded(change), before, push)
        systemd = self.service.systemd
        try:
            wanted = properties.of_resources_v1(change, systemd.version())
            if devices := change.get("devices"):
                wanted |= properties.of_devices(devices)
            if wanted:
                push(lambda: self._write_again(before, change))
                self.while_frozen(lambda: self._tell(wanted, merged(before, change), change, push), push)
        finally:
            systemd.close()

    def _tell(self, wanted: Properties, whole: Resources, change: Resources, push: Push) -> None:
        # systemd denies all devices before it allows some: only while no process runs.
        self.service.tell(wanted, lambda function: push(lambda: self.while_frozen(function)))
        self._write_again(whole, change)

    def _write_again(self, resources: Resources, change: Resources) -> None:
        """Write what systemd has written over."""
        from pyrunc.linux.cgroups.change import touched
        from pyrunc.linux.cgroups.devices.rules import allows_everything, rules, table
        from pyrunc.linux.cgroups.v1 import devices

        self._limit(properties.rounded(touched(resources, change)))
        # systemd's list may allow more than the rules, never less; so all is well where nothing is denied.
        if not allows_everything(table(rules(resources.get("devices") or ()))):
            devices.allow(self, resources)

    def kill(self) -> None:
        """Whoever is in the unit; nobody in one that is somebody else's."""
        if self.service.started:
            super().kill()

    def remove(self) -> None:
        """Have systemd remove the unit, and remove what was made in each hierarchy."""
        if self.service.started:
            self.service.stop(self._any())
        super().remove()
