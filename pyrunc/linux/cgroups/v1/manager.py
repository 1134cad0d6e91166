"""The cgroups of one container on cgroup v1: the same place in every hierarchy.

On a hybrid host the unified hierarchy is one of them, without controllers, under the name "": a service
manager may follow processes there, and must not find those of the container in the engine's cgroup.
"""

from __future__ import annotations

import os
import time

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import SIGKILL
from pyrunc.linux.cgroups import files, frozen, tree
from pyrunc.linux.cgroups.layout import is_named
from pyrunc.linux.cgroups.place import place
from pyrunc.linux.cgroups.resources import CONTROLLERS, needed, part
from pyrunc.linux.cgroups.v1 import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.layout import Layout
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.plan.program import Program

#: The controllers by which the unified hierarchy of a hybrid host is known here.
UNIFIED = ("",)
#: Seconds that processes which are going to be killed may take to stand still before.
_STANDING = 0.2


class Home:
    """One cgroup directory `path` below the mount point `top`, with the `controllers` of its hierarchy."""

    __slots__ = ("controllers", "fresh", "path", "top")

    def __init__(self, path: str, top: str, controllers: tuple[str, ...]) -> None:
        self.path = path
        self.top = top
        self.controllers = controllers
        self.fresh = False


class Manager:
    """See `pyrunc.linux.cgroups.manager.Manager` for what each method promises."""

    version = 1

    def __init__(self, homes: list[Home], rootless: bool, optional: bool) -> None:
        self.homes = homes
        self.rootless = rootless
        self._optional = optional
        self._planned: dict[str, Home] = {}
        self._made: list[str] = []

    @classmethod
    def at(cls, layout: Layout, cgroups_path: str, container_id: str, **how: bool) -> Manager:
        """The manager of the container's cgroups in the hierarchies of `layout`."""
        homes = []
        for hierarchy in layout.v1:
            path = hierarchy.mount + place(cgroups_path, container_id, hierarchy, 1)
            homes.append(Home(path, hierarchy.mount, hierarchy.controllers))
        if layout.v2:
            path = layout.v2.mount + place(cgroups_path, container_id, layout.v2, 1)
            homes.append(Home(path, layout.v2.mount, UNIFIED))
        return cls(homes, **how)

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Manager:
        """The manager that wrote `record`."""
        homes = [Home(path, top, tuple(controllers)) for path, top, controllers in record["homes"]]
        manager = cls(homes, record["rootless"], False)
        manager._made = list(record["made"])
        return manager

    def record(self) -> dict[str, object]:
        """The directories and what was made for them."""
        homes = [[home.path, home.top, list(home.controllers)] for home in self.homes]
        return {"version": 1, "homes": homes, "made": [*self._made], "rootless": self.rootless}

    def intent(self) -> dict[str, object]:
        """The record with the directories that are missing."""
        missing = [path for home in self.homes for path in tree.missing(home.path, home.top)]
        return {**self.record(), "made": missing}

    def home(self, controller: str) -> str:
        """The directory in the hierarchy of `controller`, "" if there is none."""
        for home in self.homes:
            if controller in home.controllers:
                return home.path
        return ""

    def paths(self) -> dict[str, str]:
        """Controller → directory."""
        return {controller: home.path for home in self.homes for controller in home.controllers}

    def expect_frozen(self) -> None:
        """A process that enters by itself keeps nobody waiting."""

    def descend(self, below: Mapping[str, str]) -> None:
        """In all hierarchies, or in those of the controllers that are named."""
        found: dict[str, str] = {}
        for controller, path in below.items():
            homes = [home for home in self.homes if not controller or controller in home.controllers]
            if not homes:
                raise PyruncError(
                    f"--cgroup: unknown controller {controller}",
                    remedy="this container has " + ", ".join(name for name in self.paths() if name),
                    code="usage",
                )
            for home in homes:
                if found.setdefault(home.top, path) != path:
                    raise PyruncError(
                        f"--cgroup: {controller} shares its hierarchy, which {found[home.top]} is for",
                        code="usage",
                    )
        for home in self.homes:
            if path := found.get(home.top, ""):
                home.path = f"{home.path}/{path}"

    # -- making and limiting ---------------------------------------------------------------------------

    def create(self) -> None:
        """Make a directory in each hierarchy."""
        kept = []
        try:
            for home in self.homes:
                try:
                    home.fresh = tree.make(home.path, home.top, self._made)
                except OSError as error:
                    spare = self._optional or (self.rootless and is_named(home.controllers))
                    if not (spare and error.errno in files.DENIED):
                        raise tree.make_failed(home.path, error) from error
                    # Nothing was asked of this hierarchy, and it belongs to somebody else.
                    continue
                kept.append(home)
                if not home.fresh:
                    self._check_unused(home)
                elif "cpuset" in home.controllers:
                    limits.inherit_cpuset(home.path, home.top)
        except BaseException:
            self.remove()
            raise
        self.homes = kept

    def _check_unused(self, home: Home) -> None:
        if inside := tree.pids(home.path):
            raise PyruncError(
                f"container's cgroup is not empty: {len(inside)} process(es) found",
                remedy=f"{home.path} holds process {inside[0]}: end it or use another linux.cgroupsPath",
                code="cgroup-in-use",
            )
        if "freezer" in home.controllers and files.read(home.path, "freezer.state") != "THAWED":
            raise PyruncError(
                "container's cgroup unexpectedly frozen",
                remedy=f"write THAWED to freezer.state in {home.path}",
                code="cgroup-in-use",
            )
        if "cpuset" in home.controllers:
            limits.fill_cpuset(home.path, home.top)

    def apply(self, resources: Resources) -> None:
        """Write the limits to the files of each controller, then the device list."""
        from pyrunc.linux.cgroups.v1 import devices

        self._limit(resources)
        devices.allow(self, resources)

    def update(self, change: Resources, before: Resources, push: Push) -> None:
        """The same for what changes."""
        from pyrunc.linux.cgroups.former import Keeping

        with Keeping([home.path for home in self.homes], push):
            self._limit(change)
        if change.get("devices"):
            from pyrunc.linux.cgroups.v1 import devices

            push(devices.way_back(self, before))
            devices.allow(self, change, True, push)

    def _limit(self, resources: Resources) -> None:
        homes = {name: path for name, path in self.paths().items() if name}
        absent = CONTROLLERS - homes.keys()
        rest = part(resources, absent) if absent else {}
        if unified := resources.get("unified"):
            rest = {**rest, "unified": unified}
        if rest:
            self._apply_unified(rest, homes)
        limits.apply(homes, resources)

    def _apply_unified(self, resources: Resources, bound: Collection[str]) -> None:
        """Write what no v1 hierarchy holds to the unified hierarchy of a hybrid host, or say what is missing.

        `bound`: the controllers of the v1 hierarchies.
        """
        home = next((home for home in self.homes if home.controllers == UNIFIED), None)
        offered = files.read(home.top, "cgroup.controllers").split() if home else []
        if resources.get("unified") and home is None:
            raise PyruncError(
                "linux.resources.unified: this container has no cgroup v2, only cgroup v1",
                remedy="use the properties for each controller",
                code="unsupported",
            )
        need = needed(resources)
        for controller, property_path in need.items():
            if not self.homes:
                raise PyruncError(
                    f"{property_path}: this container has no cgroup",
                    remedy="set linux.cgroupsPath",
                    code="no-cgroup",
                )
            if controller in bound:
                raise PyruncError(
                    f'{property_path}: the cgroup controller "{controller}" is bound to cgroup v1 on this host',
                    remedy="use the properties for each controller",
                    code="unsupported",
                )
            if controller not in offered:
                named = "blkio" if controller == "io" else controller
                raise PyruncError(
                    f'{property_path}: the cgroup controller "{named}" is not available on this host',
                    remedy="remove the property, or mount the controller if the kernel has it (see /proc/cgroups)",
                    code="unsupported",
                )
        if home is not None:
            from pyrunc.linux.cgroups.v2 import controllers
            from pyrunc.linux.cgroups.v2 import limits as limits_v2

            if need:
                controllers.provide(home.path, home.top, offered)
                controllers.settle(home.path, home.top, need)
            limits_v2.apply(home.path, resources)

    # -- processes -------------------------------------------------------------------------------------

    def plan_entry(self, program: Program) -> None:
        """Emit a write to `tasks` of each v1 hierarchy; clone3 enters the unified one."""
        self._planned = {f"cgroup {home.top}": home for home in self.homes if home.controllers != UNIFIED}
        for name, home in self._planned.items():
            slot = program.inherit(name)
            program.call("write", slot, "0", 1, step=f"enter cgroup {home.path}", of="linux.cgroupsPath")
            program.call("close", slot, step="close its file")

    def entrances(self) -> dict[str, int]:
        """`tasks` of each v1 hierarchy, open for writing; of one that is left out /dev/null.

        Left out are what `create` did (rootless), and a named hierarchy that somebody has unmounted since.
        """
        opened: dict[str, int] = {}
        path = ""
        try:
            for name, home in self._planned.items():
                gone = is_named(home.controllers) and not os.path.isdir(home.path)
                path = f"{home.path}/tasks" if home in self.homes and not gone else os.devnull
                opened[name] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            for descriptor in opened.values():
                os.close(descriptor)
            raise KernelError.of(f"open {path}", error) from error
        return opened

    def directory(self) -> int | None:
        """The directory in the unified hierarchy of a hybrid host."""
        home = self.home(UNIFIED[0])
        try:
            return os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if home else None
        except OSError as error:
            raise KernelError.of(f"open cgroup {home}", error) from error

    def admit(self, pid: int) -> bool:
        """Nothing: it enters by itself."""
        return False

    def join(self, pid: int) -> bool:
        """Nothing: it enters by itself."""
        return False

    def pids(self) -> list[int]:
        """The processes in one hierarchy, which are those in all."""
        home = self._any()
        return tree.pids(home) if home else []

    def _any(self) -> str:
        """Some hierarchy, best the freezer's, which a container seldom changes from within."""
        return self.home("freezer") or (self.homes[0].path if self.homes else "")

    def kill(self) -> None:
        """Freeze, SIGKILL to each, thaw: nothing can fork away in between."""
        home = self._any()
        if not home or not os.path.isdir(home):
            return
        freezes = bool(self.home("freezer") or self.home(UNIFIED[0]))
        stopped = False
        if freezes:
            try:
                freezer, frozen_home = self._freezer()
                freezer.freeze(frozen_home, _STANDING)
                stopped = True
            except PyruncError:
                # Still running; the rounds below get them all if they do not fork faster than they die.
                pass
        try:
            for _ in range(1 if stopped else tree.TRIES):
                left = tree.pids(home)
                for pid in left:
                    try:
                        os.kill(pid, SIGKILL)
                    except ProcessLookupError:
                        continue
                if not left or stopped:
                    break
                time.sleep(0.001)
        finally:
            if home := self.home("freezer"):
                from pyrunc.linux.cgroups.v1.freezer import thaw_all

                thaw_all(home)
            elif freezes:
                self.thaw()

    def _freezer(self) -> tuple[Any, str]:
        """The module that freezes, and the cgroup: of the freezer hierarchy, else of the unified one."""
        if home := self.home("freezer"):
            from pyrunc.linux.cgroups.v1 import freezer

            return freezer, home
        if home := self.home(UNIFIED[0]):
            from pyrunc.linux.cgroups.v2 import freezer as freezer_v2

            return freezer_v2, home
        raise PyruncError(
            'the container cannot be paused: the cgroup controller "freezer" is not available to it',
            code="cannot-freeze",
        )

    def freeze(self) -> None:
        """Through the freezer hierarchy, or cgroup.freeze where there is none."""
        freezer, home = self._freezer()
        freezer.freeze(home)

    def thaw(self) -> None:
        """The same way."""
        freezer, home = self._freezer()
        freezer.thaw(home)

    def while_frozen(self, function: Callable[[], object], push: Push | None = None) -> None:
        """Call `function` while no process of the container runs.

        `push`: is given, before they stop, what lets them go on: an interruption may come just where that is done.
        """
        if self.frozen():
            function()
            return
        freezer, home = self._freezer()
        if push:
            push(lambda: freezer.thaw(home))
        try:
            freezer.freeze(home)
            function()
        finally:
            freezer.thaw(home)

    def frozen(self) -> bool:
        """Whether the freezer was told so for this cgroup itself."""
        return frozen.is_frozen(self.record())

    def oom_kills(self) -> int:
        """From memory.oom_control."""
        home = self.home("memory")
        try:
            return files.keyed(files.get(home, "memory.oom_control"), "oom_kill") if home else 0
        except OSError:
            return 0

    def remove(self) -> None:
        """Remove what was made in each hierarchy."""
        tree.remove_made([home.path for home in self.homes], self._made)
        self._made = []
