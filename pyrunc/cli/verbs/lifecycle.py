"""start, kill, delete, pause and resume."""

from __future__ import annotations

from pyrunc.cli.options import ID, MANY, REGEX, Command, Option
from pyrunc.cli.settings import store
from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log
    from pyrunc.store.store import Store


def _start(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.start import start

    start(store(settings), words[0], log)
    return 0


def _kill(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.kill import kill

    signal = str(values["signal"])
    if not signal:
        if len(words) > 2:
            raise UsageError(
                'pyrunc: "kill" requires a maximum of 2 argument(s)',
                remedy="for several containers name the signal by --signal",
            )
        words, signal = words[:1], words[1] if len(words) > 1 else "SIGTERM"
    place = store(settings)
    _each(place, words, values, lambda one: kill(place, one, signal, everyone=bool(values["all"])))
    return 0


def _delete(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.delete import delete

    place, force = store(settings), bool(values["force"])
    _each(place, words, values, lambda one: delete(place, one, force, log), nobody_is_fine=force)
    return 0


def _each(
    place: Store,
    words: list[str],
    values: Values,
    act: Callable[[str], None],
    *,
    nobody_is_fine: bool = False,
) -> None:
    """Do `act` for the containers that `words` mean, all of them, whichever fails."""
    pattern = bool(values["regex"])
    if len(words) == 1 and not pattern:
        act(words[0])
        return
    from pyrunc.lifecycle.several import for_each, named, nobody

    found = named(place, words, pattern)
    if not found and not nobody_is_fine:
        raise nobody(words)
    for_each(found, act)


def _pause(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.pause import pause

    pause(store(settings), words[0])
    return 0


def _resume(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.pause import resume

    resume(store(settings), words[0])
    return 0


COMMANDS: Final = (
    Command(
        "start",
        "run the process of a created container",
        ID,
        1,
        1,
        (),
        "Runs the process that config.json named when the container was created. With NOTIFY_SOCKET in the "
        "environment it returns when the container is ready (sd_notify(3)), or has ended.",
        _start,
    ),
    Command(
        "kill",
        "send a signal to a container",
        f"{ID} [signal] | --signal <signal> {ID}...",
        1,
        MANY,
        (
            Option(
                "all",
                "send it to every process in the container's cgroup; a container that is not running is not an error",
                "a",
            ),
            Option("signal", "the signal; all words are containers then", "s", "SIGNAL"),
            REGEX,
        ),
        "Sends the signal (a name with or without SIG, RTMIN+n, or a number; default SIGTERM) to the first "
        "process of a created or running container. KILL ends every process of a container that has no PID "
        "namespace of its own. Of several containers all are tried; the failures make one error.",
        _kill,
    ),
    Command(
        "delete",
        "delete a container",
        f"{ID}...",
        1,
        MANY,
        (
            Option("force", "kill the container if it still runs; an unknown id is not an error", "f"),
            REGEX,
        ),
        "Removes all that a stopped container holds. A container that was created but not started is killed "
        "first. Of several containers all are tried; the failures make one error.",
        _delete,
    ),
    Command(
        "pause",
        "stop all processes of a container where they are",
        ID,
        1,
        1,
        (),
        "Freezes the cgroup of a created or running container and returns when every process in it stands. The "
        "status is then paused, until `resume`; KILL still ends the container. Where a process cannot be stopped "
        "all run on, and the command fails.",
        _pause,
    ),
    Command(
        "resume",
        "let the processes of a paused container go on",
        ID,
        1,
        1,
        (),
        "Thaws what `pause` has frozen.",
        _resume,
    ),
)
