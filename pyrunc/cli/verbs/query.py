"""state, list and ps."""

from __future__ import annotations

from pyrunc.cli.main import show
from pyrunc.cli.options import FORMAT, ID, MANY, REGEX, Command, Option
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

    place, only = store(settings), None
    if words:
        from pyrunc.lifecycle.several import named

        only = named(place, words, bool(values["regex"]))
    text, broken = listing(place, str(values["format"]), bool(values["quiet"]), only)
    show(text)
    if broken and words and not values["regex"]:
        from pyrunc.lifecycle.several import joined

        raise broken[0][1] if len(words) == 1 else joined(broken, len(words))
    for container_id, error in broken:
        log.notice(f"load container {container_id}: {error}")
    return 0


def _ps(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.processes import ps

    show(ps(store(settings), words[0], str(values["format"]), words[1:]))
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
        f"[{ID}...]",
        0,
        MANY,
        (
            FORMAT,
            Option("quiet", "print ids only", "q"),
            REGEX,
        ),
        "Lists all containers that have their state under --root, or those that are named. What cannot be read is "
        "told on standard error and left out, which is a failure for a container that was named.",
        _list,
    ),
    Command(
        "ps",
        "list the processes of a container",
        f"{ID} [ps options]",
        1,
        MANY,
        (FORMAT,),
        "Runs ps(1) of the host with these options (default: -ef) and prints the rows of the container's processes: "
        "all in its cgroup and in those below. The output needs a column PID. As json it is an array of their process "
        "ids, without ps. Where the container has no cgroup its PID namespace tells who belongs to it; without that "
        "either, only processes are found whose parents, up to the container's first process, still run.",
        _ps,
        everywhere=False,
    ),
)
