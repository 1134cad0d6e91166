"""start, kill, delete, pause and resume."""

from __future__ import annotations

from pyrunc.cli.options import ID, Command, Option
from pyrunc.cli.settings import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log


def _start(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.start import start

    start(store(settings), words[0], log)
    return 0


def _kill(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.kill import kill

    kill(
        store(settings),
        words[0],
        words[1] if len(words) > 1 else "SIGTERM",
        stopped_is_fine=bool(values["all"]),
    )
    return 0


def _delete(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.delete import delete

    delete(store(settings), words[0], bool(values["force"]), log)
    return 0


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
        f"{ID} [signal]",
        1,
        2,
        (
            Option(
                "all",
                "obsolete: a container that is not running is not an error",
                "a",
                hidden=True,
            ),
        ),
        "Sends the signal (a name with or without SIG, RTMIN+n, or a number; default SIGTERM) to the first "
        "process of a created or running container. KILL ends every process of a container that has no PID "
        "namespace of its own.",
        _kill,
    ),
    Command(
        "delete",
        "delete a container",
        ID,
        1,
        1,
        (Option("force", "kill the container if it still runs; an unknown id is not an error", "f"),),
        "Removes all that a stopped container holds. A container that was created but not started is killed "
        "first.",
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
