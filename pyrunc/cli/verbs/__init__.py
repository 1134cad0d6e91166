"""The commands, a module for each family: their options, their texts, and the call of the lifecycle.

A command loads its own family only; `--help` and the manual pages load all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Command

#: Command → the module of this package that has it, in the order of the help text.
FAMILIES: Final = {
    "create": "create",
    "start": "lifecycle",
    "state": "query",
    "kill": "lifecycle",
    "delete": "lifecycle",
    "exec": "exec",
    "pause": "lifecycle",
    "resume": "lifecycle",
    "run": "create",
    "checkpoint": "checkpoint",
    "restore": "checkpoint",
    "update": "update",
    "mounts": "mounts",
    "list": "query",
    "ps": "query",
    "events": "events",
    "prune": "prune",
    "spec": "documents",
    "features": "documents",
    "completion": "documents",
}


def command(name: str) -> Command | None:
    """The command `name`, or None."""
    family = FAMILIES.get(name)
    if family is None:
        return None
    module = __import__(f"{__name__}.{family}", fromlist=("COMMANDS",))
    found: tuple[Command, ...] = module.COMMANDS
    return next(entry for entry in found if entry.name == name)


def commands() -> list[Command]:
    """All of them."""
    return [entry for entry in map(command, FAMILIES) if entry is not None]
