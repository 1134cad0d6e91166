"""No cgroup at all (`--cgroup-manager disabled`): the container stays in that of its creator.

For hosts where somebody else keeps account, as crun offers it. A limit is refused, for nothing would keep it.
Device rules are not: every engine sends some, and who disables cgroups knows that nothing restricts devices then;
`create` warns of it. Without a PID namespace of its own, `kill` reaches the first process only.
"""

from __future__ import annotations

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.resources import needed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.plan.program import Program


class Manager:
    """See `pyrunc.linux.cgroups.manager.Manager` for what each method promises."""

    version = 0

    def __init__(self, resources: Resources) -> None:
        self.apply(resources)

    def create(self) -> None:
        """Nothing."""

    def apply(self, resources: Resources) -> None:
        """Refuse any limit."""
        for path in needed(resources).values():
            raise PyruncError(
                f"{path}: a limit needs a cgroup, and cgroups are disabled",
                remedy="remove it, or leave --cgroup-manager disabled out",
                code="no-cgroup",
            )

    def update(self, change: Resources, before: Resources, push: Push) -> None:
        """Refuse any limit."""
        self.apply(change)

    def plan_entry(self, program: Program) -> None:
        """Nothing."""

    def entrances(self) -> dict[str, int]:
        """None."""
        return {}

    def directory(self) -> int | None:
        """None."""
        return None

    def admit(self, pid: int) -> bool:
        """Nothing."""
        return False

    def join(self, pid: int) -> bool:
        """Nothing."""
        return False

    def expect_frozen(self) -> None:
        """Nothing is."""

    def descend(self, below: Mapping[str, str]) -> None:
        """Impossible."""
        raise PyruncError("--cgroup: this container has no cgroup", remedy="leave it out", code="no-cgroup")

    def paths(self) -> dict[str, str]:
        """None."""
        return {}

    def record(self) -> dict[str, object] | None:
        """None: there is nothing to restore."""
        return None

    def intent(self) -> dict[str, object] | None:
        """None."""
        return None

    def pids(self) -> list[int]:
        """Nobody knows."""
        return []

    def kill(self) -> None:
        """Nothing: the first process is ended by its pid."""

    def freeze(self) -> None:
        """Impossible."""
        raise PyruncError(
            "the container cannot be paused: it has no cgroup", remedy="create it with one", code="no-cgroup"
        )

    def thaw(self) -> None:
        """Impossible."""
        raise PyruncError(
            "the container cannot be resumed: it has no cgroup", remedy="create it with one", code="no-cgroup"
        )

    def frozen(self) -> bool:
        """Never."""
        return False

    def remove(self) -> None:
        """Nothing."""

    def oom_kills(self) -> int:
        """Nobody counts."""
        return 0


def warnings(config: Config, rootless: bool) -> list[str]:
    """What the container is without, that its configuration seems to rely on."""
    linux = config.get("linux") or {}
    found = []
    rules = (linux.get("resources") or {}).get("devices") or ()
    if not rootless and any(not rule["allow"] for rule in rules):
        found.append(
            "linux.resources.devices: cgroups are disabled, so nothing keeps the container from devices"
        )
    private = any(entry["type"] == "pid" and not entry.get("path") for entry in linux.get("namespaces") or ())
    if not private:
        found.append(
            "cgroups are disabled and the container has no PID namespace of its own: kill and delete reach its "
            "first process only"
        )
    return found
