"""The cgroup of one container on cgroup v2."""

from __future__ import annotations

import os
from errno import ENOENT, EOPNOTSUPP

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import SIGKILL
from pyrunc.linux.cgroups import files, frozen, tree
from pyrunc.linux.cgroups.place import place
from pyrunc.linux.cgroups.resources import needed
from pyrunc.linux.cgroups.v2 import controllers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.layout import Hierarchy
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.plan.program import Program

#: The files that whoever a cgroup is delegated to must own, on kernels that do not tell (cgroups(7)).
_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


class Manager:
    """See `pyrunc.linux.cgroups.manager.Manager` for what each method promises."""

    version = 2

    def __init__(self, home: str, top: str, offered: tuple[str, ...], rootless: bool, optional: bool) -> None:
        self.home = home
        self.top = top
        self.fresh = False
        self.owner = -1
        self._by_hand = False
        self._offered = offered
        self._rootless = rootless
        self._optional = optional
        self._made: list[str] = []

    @classmethod
    def at(cls, hierarchy: Hierarchy, cgroups_path: str, container_id: str, **how: bool) -> Manager:
        """The manager of the container's cgroup in `hierarchy`."""
        home = hierarchy.mount + place(cgroups_path, container_id, hierarchy, 2)
        return cls(home, hierarchy.mount, hierarchy.controllers, **how)

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Manager:
        """The manager that wrote `record`."""
        manager = cls(record["home"], record["top"], (), record["rootless"], False)
        manager._made = list(record["made"])
        return manager

    def record(self) -> dict[str, object]:
        """The directory and what was made for it."""
        return {
            "version": 2,
            "home": self.home,
            "top": self.top,
            "made": [*self._made],
            "rootless": self._rootless,
        }

    def intent(self) -> dict[str, object]:
        """The record with the directories that are missing."""
        return {**self.record(), "made": tree.missing(self.home, self.top)}

    def paths(self) -> dict[str, str]:
        """The one directory."""
        return {"": self.home} if self.home else {}

    def expect_frozen(self) -> None:
        """A child stops before execve(2), until which its caller shares its memory and has to wait."""
        self._by_hand = True

    def descend(self, below: Mapping[str, str]) -> None:
        """In the one hierarchy."""
        for controller in below:
            if controller:
                raise PyruncError(
                    f"--cgroup: unknown controller {controller}",
                    remedy="cgroup v2 takes a path without controllers",
                    code="usage",
                )
        if path := below.get("", ""):
            self.home = f"{self._existing()}/{path}"

    # -- making and limiting ---------------------------------------------------------------------------

    def create(self) -> None:
        """Make the directory, and have its parents hand it their controllers."""
        try:
            try:
                self.fresh = tree.make(self.home, self.top, self._made)
            except OSError as error:
                if self._optional and error.errno in files.DENIED:
                    # Nothing was asked for, and the hierarchy belongs to somebody else.
                    self.remove()
                    self.home = ""
                    return
                raise tree.make_failed(self.home, error) from error
            if not self.fresh:
                self._check_unused()
            controllers.provide(self.home, self.top, self._offered)
            if self.owner >= 0:
                self._delegate()
        except BaseException:
            self.remove()
            raise

    def _check_unused(self) -> None:
        if inside := tree.pids(self.home):
            raise PyruncError(
                f"container's cgroup is not empty: {len(inside)} process(es) found",
                remedy=f"{self.home} holds process {inside[0]}: end it or use another linux.cgroupsPath",
                code="cgroup-in-use",
            )
        if files.keyed(files.read(self.home, "cgroup.events"), "frozen"):
            raise PyruncError(
                "container's cgroup unexpectedly frozen",
                remedy=f"write 0 to cgroup.freeze in {self.home}",
                code="cgroup-in-use",
            )

    def _delegate(self) -> None:
        """Give the cgroup, not its limits, to the container's user (config-linux.md "Cgroup ownership")."""
        try:
            names = files.get("/sys/kernel/cgroup", "delegate").split()
        except OSError:
            names = list(_DELEGATED)
        for path in (self.home, *[f"{self.home}/{name}" for name in names]):
            try:
                os.chown(path, self.owner, -1, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise KernelError.of(f"give {path} to user {self.owner}", error) from error

    def apply(self, resources: Resources) -> None:
        """Write the limits and attach the device program."""
        if not self.home:
            self._refuse(resources)
            return
        from pyrunc.linux.cgroups.devices import program_v2
        from pyrunc.linux.cgroups.v2 import limits

        controllers.settle(self.home, self.top, needed(resources))
        limits.apply(self.home, resources)
        program_v2.apply(self.home, resources.get("devices") or (), self.fresh, self._rootless)

    def _refuse(self, resources: Resources) -> None:
        for path in needed(resources).values():
            raise PyruncError(
                f"{path}: this container has no cgroup", remedy="set linux.cgroupsPath", code="no-cgroup"
            )

    def update(self, change: Resources, before: Resources, push: Push) -> None:
        """Write what changes, and replace the device program."""
        if not self.home:
            self._refuse(change)
            return
        from pyrunc.linux.cgroups.devices import program_v2
        from pyrunc.linux.cgroups.former import Keeping
        from pyrunc.linux.cgroups.v2 import limits

        with Keeping((self.home,), push):
            limits.apply(self.home, change)
        if devices := change.get("devices"):
            former = before.get("devices") or ()
            push(lambda: program_v2.apply(self.home, former, False, self._rootless, ours=True))
            program_v2.apply(self.home, devices, False, self._rootless, ours=True)

    # -- processes -------------------------------------------------------------------------------------

    def plan_entry(self, program: Program) -> None:
        """Nothing: clone3 puts init into `directory`. But a process that is to be frozen enters by its own write."""
        if self._by_hand:
            slot = program.inherit("cgroup")
            program.call("write", slot, "0", 1, step=f"enter cgroup {self.home}", of="linux.cgroupsPath")
            program.call("close", slot, step="close its file")

    def entrances(self) -> dict[str, int]:
        """The file for that write."""
        if not self._by_hand:
            return {}
        path = f"{self._existing()}/cgroup.procs"
        try:
            return {"cgroup": os.open(path, os.O_WRONLY | os.O_CLOEXEC)}
        except OSError as error:
            raise KernelError.of(f"open {path}", error) from error

    def directory(self) -> int | None:
        """The directory, for clone3."""
        if not self.home or self._by_hand:
            return None
        try:
            return os.open(self.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError.of(f"open cgroup {self.home}", error) from error

    def admit(self, pid: int) -> bool:
        """Nothing: clone3 has put it there."""
        return False

    def join(self, pid: int) -> bool:
        """Nothing: it enters by itself."""
        return False

    def pids(self) -> list[int]:
        """The processes in the directory and below."""
        return tree.pids(self.home) if self.home else []

    def kill(self) -> None:
        """Through cgroup.kill, or one by one while frozen."""
        if not self.home:
            return
        try:
            files.put(self.home, "cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (ENOENT, EOPNOTSUPP):
                raise files.refused(self.home, "cgroup.kill", "1", error) from error
            # Linux before 5.14, a threaded cgroup, or a cgroup that is gone.
            if os.path.isdir(self.home):
                self._kill_each()

    def _kill_each(self) -> None:
        self.freeze()
        try:
            for pid in tree.pids(self.home):
                try:
                    os.kill(pid, SIGKILL)
                except ProcessLookupError:
                    continue
        finally:
            self.thaw()

    def freeze(self) -> None:
        """Through cgroup.freeze."""
        from pyrunc.linux.cgroups.v2 import freezer

        freezer.freeze(self._existing())

    def thaw(self) -> None:
        """Through cgroup.freeze."""
        from pyrunc.linux.cgroups.v2 import freezer

        freezer.thaw(self._existing())

    def _existing(self) -> str:
        if not self.home:
            raise PyruncError(
                "the container cannot be paused: it has no cgroup",
                remedy="set linux.cgroupsPath",
                code="no-cgroup",
            )
        return self.home

    def frozen(self) -> bool:
        """Whether cgroup.freeze says so."""
        return bool(self.home) and frozen.told(self.home, 2)

    def oom_kills(self) -> int:
        """From memory.events."""
        try:
            text = files.get(self.home, "memory.events") if self.home else ""
        except OSError:
            return 0
        return files.keyed(text, "oom_kill")

    def remove(self) -> None:
        """Remove what was made."""
        tree.remove_made([self.home], self._made)
        self._made = []


def refuse_unholdable(resources: Resources) -> None:
    """Raise PyruncError if cgroup v2 has no file for a value that is asked for."""
    from pyrunc.linux.cgroups.v2 import limits

    limits.refuse_unholdable(resources)
