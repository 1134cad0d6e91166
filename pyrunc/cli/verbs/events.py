"""events."""

from __future__ import annotations

from pyrunc.cli.main import UNREAD, show
from pyrunc.cli.options import ID, Command, Option
from pyrunc.cli.settings import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log


def _events(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.duration import seconds
    from pyrunc.errors import PyruncError

    interval = seconds("interval", str(values["interval"]))
    if interval <= 0:
        raise PyruncError("duration interval must be greater than 0", code="usage")
    from pyrunc.lifecycle import events

    if values["stats"]:
        show(events.once(store(settings), words[0]))
        return 0
    return 0 if events.follow(store(settings), words[0], interval, show, log) else UNREAD


COMMANDS: Final = (
    Command(
        "events",
        "tell what a container uses, and when it lacks memory",
        ID,
        1,
        1,
        (
            Option(
                "interval",
                "time between two lines: a number with a unit, such as 500ms, 5s or 1m30s",
                value="DURATION",
                default="5s",
            ),
            Option("stats", "print one line at once and end"),
        ),
        'Prints one JSON object a line: {"type":"stats"} with the use of processors, memory, processes, block devices '
        'and huge pages at every interval, {"type":"oom"} whenever the kernel found no memory for the container within '
        "its limit. Ends when the container stops. Sizes are in bytes, times in nanoseconds.",
        _events,
    ),
)
