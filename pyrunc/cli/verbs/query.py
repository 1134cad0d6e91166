"""state and list."""

from __future__ import annotations

from pyrunc.cli.main import show
from pyrunc.cli.options import ID, Command, Option
from pyrunc.cli.settings import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log


def _state(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.query import state

    show(state(store(settings), words[0]))
    return 0


def _list(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.query import listing

    text, broken = listing(store(settings), str(values["format"]), bool(values["quiet"]))
    for complaint in broken:
        log.notice(complaint)
    show(text)
    return 0


COMMANDS: Final = (
    Command(
        "state",
        "print the state of a container",
        ID,
        1,
        1,
        (),
        "Prints the state as JSON: status (creating, created, running, paused, stopped), pid, bundle, "
        "annotations.",
        _state,
    ),
    Command(
        "list",
        "list the containers under --root",
        "",
        0,
        0,
        (
            Option("format", "table or json", "f", "FORMAT", "table"),
            Option("quiet", "print ids only", "q"),
        ),
        "Lists all containers that have their state under --root.",
        _list,
    ),
)
