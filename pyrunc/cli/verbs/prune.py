"""prune."""

from __future__ import annotations

from pyrunc.cli.main import show
from pyrunc.cli.options import FORMAT, Command, Option
from pyrunc.cli.settings import store
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.lifecycle.prune import Leftover
    from pyrunc.log import Log


def _prune(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.config.writer import dumps
    from pyrunc.lifecycle.prune import leftovers, remove
    from pyrunc.lifecycle.several import joined

    form, stopped = str(values["format"]), bool(values["stopped"])
    if form not in ("table", "json"):
        raise PyruncError("invalid format option", remedy="use table or json", code="usage")
    place = store(settings)
    found = leftovers(place, stopped)
    failures = remove(place, found, stopped, log) if values["remove"] else []
    show(dumps([one.document() for one in found]) + "\n" if form == "json" else _table(found))
    if failures:
        raise failures[0][1] if len(failures) == 1 else joined(failures, len(found))
    return 0


def _table(found: list[Leftover]) -> str:
    from pyrunc.lifecycle.query import table
    from pyrunc.log import one_line

    rows = [("KIND", "ID", "ACTION", "PATH", "REASON")]
    for one in found:
        more = f" (+{len(one.paths) - 1})" if len(one.paths) > 1 else ""
        rows.append((one.kind, one.id, one.action, one_line(one.paths[0]) + more, one_line(one.why)))
    return table(rows)


COMMANDS: Final = (
    Command(
        "prune",
        "find what crashed runtimes have left, and remove it on demand",
        "",
        0,
        0,
        (
            Option("remove", "remove what can be removed; without, it is listed only"),
            Option("stopped", "containers that have stopped, too"),
            FORMAT,
        ),
        "Lists what belongs to pyrunc and to no container: state directories under --root whose `create` was killed, "
        "with what is mounted there, and cgroups whose container has no state directory any more. A cgroup is known by "
        "an attribute that `create` has put on it, not by its name; one with processes in it is shown and kept, and so "
        "is a state directory whose record is damaged. --remove removes the others, as `delete --force` does.",
        _prune,
    ),
)
