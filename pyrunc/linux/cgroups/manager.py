"""The one thing that the life of a container needs of cgroups, whoever makes them and whichever version they have.

layout = cgroups.layout.layout()
manager = choose(config, container_id, layout, host.rootless, kind)   # nothing is touched yet
manager.create(); manager.apply(resources)                            # before any process of the container runs
… spawn: init enters through `entrances` and `directory` …
manager.admit(pid)                                                    # systemd: only now init enters
manager.kill(); manager.remove()
"""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final, Protocol

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.layout import Layout
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.plan.program import Program

    class Manager(Protocol):
        """A container's cgroup: one directory (v2) or one in each hierarchy (v1).

        Every method raises PyruncError with file, value and the kernel's word.
        """

        #: 1 or 2; 0 where there is no cgroup.
        version: int

        def create(self) -> None:
            """Make the directories. Refuses a cgroup that holds processes or is frozen.

            Rootless and without limits or `cgroupsPath`, what belongs to somebody else is left out:
            `paths` tells what is there. On failure nothing stays behind.
            """

        def apply(self, resources: Resources) -> None:
            """Set the limits of `linux.resources`, and the device rules (without any: the default ones)."""

        def update(self, change: Resources, before: Resources, push: Push) -> None:
            """Set what `change.due` says of a change of the resources `before`.

            For each thing that is done, `push` is given a function that takes it back; the caller calls them, the
            newest first, if this or something later fails.
            """

        def plan_entry(self, program: Program) -> None:
            """Emit the steps by which a single-threaded init enters by itself, through `entrances`.

            Moving another process makes the kernel wait for an RCU grace period (9 ms on an idle machine);
            a process that moves itself, alone in its thread group, waits for nothing. Has to come before
            init unshares its cgroup namespace.
            """

        def entrances(self) -> dict[str, int]:
            """The descriptors that `plan_entry` named, by the names of its slots. The caller closes them."""

        def directory(self) -> int | None:
            """A descriptor for CLONE_INTO_CGROUP (cgroup v2, also of a hybrid host), else None.

            The caller closes it.
            """

        def admit(self, pid: int) -> bool:
            """Bring the first process into the cgroup, and set its limits, where it could not enter by itself.

            Called as soon as there is one. Returns whether it waits for a word before it goes on.
            """

        def join(self, pid: int) -> bool:
            """Bring another process, which waits for that, into the cgroup, where it cannot enter by itself.

            `entrances` and `directory` are for all others. Returns whether the program of `plan_entry` waits for a
            word, as `admit` does.
            """

        def expect_frozen(self) -> None:
            """The cgroup that the next process enters is frozen: nobody may wait for that process meanwhile."""

        def descend(self, below: Mapping[str, str]) -> None:
            """Mean a cgroup below from now on: controller → its path relative to the container's; "": of all.

            For `exec`; nothing is made. The paths are clean (`pyrunc.linux.cgroups.below`).
            """

        def paths(self) -> dict[str, str]:
            """Controller → absolute directory; cgroup v2 has the key "". Empty if there is no cgroup."""

        def record(self) -> dict[str, object] | None:
            """What `restore` needs, fit for JSON; None if there is nothing to restore."""

        def intent(self) -> dict[str, object] | None:
            """The record before `create`, as if that had made all that is missing now.

            Saved before `create`, it lets `remove` find whatever a `create` that was killed has made.
            """

        def pids(self) -> list[int]:
            """Every process in the cgroup and below."""

        def kill(self) -> None:
            """SIGKILL to every process in the cgroup and below, paused ones included; does not wait."""

        def freeze(self) -> None:
            """Stop every process in the cgroup and below, and wait until they stand; else all go on."""

        def thaw(self) -> None:
            """Let them go on."""

        def frozen(self) -> bool:
            """Whether this cgroup was frozen. False if it does not exist."""

        def remove(self) -> None:
            """Remove the cgroup, those inside it, and its parents, as far as `create` made them.

            A cgroup waits half a second for its dying processes; a parent that has come into use stays. What
            is missing is fine.
            """

        def oom_kills(self) -> int:
            """How many processes the kernel killed for lack of memory."""


CGROUPFS, SYSTEMD, DISABLED = "cgroupfs", "systemd", "disabled"
#: Who may make cgroups: pyrunc itself, systemd, nobody.
KINDS: Final = (CGROUPFS, SYSTEMD, DISABLED)


def is_rootless(asked: bool | None, euid: int, rootless: bool, kind: str) -> bool:
    """Whether cgroups belong to somebody who is not root. `asked`: the caller's word; `rootless`: the host's fact.

    Root of a user namespace has a systemd of his own if the whole system runs in it.
    """
    if asked is not None or kind != SYSTEMD or euid or not rootless:
        return rootless if asked is None else asked
    from pyrunc.linux.cgroups.systemd.systemd import is_own

    return not is_own(euid)


def choose(
    config: Config, container_id: str, layout: Layout, rootless: bool, kind: str = CGROUPFS
) -> Manager:
    """The manager of this kind for a container's cgroup, which nobody has made yet.

    Raises PyruncError for a value that this host's version of cgroups cannot hold, and where a systemd is asked
    for that cannot be reached.
    """
    from pyrunc.linux.cgroups.resources import needed

    linux = config.get("linux") or {}
    path = linux.get("cgroupsPath") or ""
    resources: Resources = linux.get("resources") or {}
    if kind == DISABLED:
        from pyrunc.linux.cgroups import disabled

        return disabled.Manager(resources)
    if kind == SYSTEMD:
        if not layout.v1 and layout.v2 is None:
            raise _no_hierarchy()
        from pyrunc.linux.cgroups.systemd import manager as systemd

        return systemd.at(config, container_id, layout, rootless, _delegate(config, rootless))
    optional = rootless and not path and not needed(resources)
    if layout.pure_v2 and layout.v2 is not None:
        from pyrunc.linux.cgroups.v2 import manager as v2

        v2.refuse_unholdable(resources)
        chosen = v2.Manager.at(layout.v2, path, container_id, rootless=rootless, optional=optional)
        chosen.owner = _delegate(config, rootless)
        return chosen
    if not layout.v1 and not optional:
        raise _no_hierarchy()
    if resources.get("unified") and layout.v2 is None:
        raise PyruncError(
            "linux.resources.unified: this host has cgroup v1, which has no unified hierarchy",
            remedy="use the properties for each controller",
            code="unsupported",
        )
    from pyrunc.linux.cgroups.v1 import manager as v1

    return v1.Manager.at(layout, path, container_id, rootless=rootless, optional=optional)


def restore(record: Mapping[str, Any] | None) -> Manager:
    """The manager whose `record` this is."""
    if record is None:
        from pyrunc.linux.cgroups import disabled

        return disabled.Manager({})
    if "systemd" in record:
        from pyrunc.linux.cgroups.systemd import manager as systemd

        return systemd.restore(record)
    if record["version"] == 1:
        from pyrunc.linux.cgroups.v1 import manager as v1

        return v1.Manager.restored(record)
    from pyrunc.linux.cgroups.v2 import manager as v2

    return v2.Manager.restored(record)


def _no_hierarchy() -> PyruncError:
    return PyruncError(
        "no cgroup hierarchy is mounted on this host",
        remedy="mount cgroup2 on /sys/fs/cgroup",
        code="unsupported",
    )


def _delegate(config: Config, rootless: bool) -> int:
    """The host's uid of the container's user if the cgroup is to be his, else -1.

    config-linux.md "Cgroup ownership": so it is with a cgroup namespace of the container's own and a mount at
    /sys/fs/cgroup that is writable and has the source "cgroup". The spec does not ask for the type, but with another
    one it would not be a mount of the cgroup file system. Nor does it ask for a user namespace.
    """
    linux = config.get("linux") or {}
    namespaces = linux.get("namespaces") or ()
    own = any(entry["type"] == "cgroup" and not entry.get("path") for entry in namespaces)
    writable = any(
        mount.get("type") in ("cgroup", "cgroup2")
        and mount.get("source") == "cgroup"
        and mount["destination"].rstrip("/") == "/sys/fs/cgroup"
        and not {"ro", "rro"} & set(mount.get("options") or ())
        for mount in config.get("mounts") or ()
    )
    if rootless or not (own and writable):
        return -1
    process = config.get("process")
    user = process["user"]["uid"] if process and "user" in process else 0
    for mapping in linux.get("uidMappings") or ():
        first = mapping["containerID"]
        if first <= user < first + mapping["size"]:
            return int(mapping["hostID"] + user - first)
    # In a user namespace it is not mapped, or that is joined, and the configuration does not tell whose it is there.
    # Without one it is the host's, and root's the cgroup is already.
    return -1 if any(entry["type"] == "user" for entry in namespaces) else user or -1
