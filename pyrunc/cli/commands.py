"""The commands: from the words and options of the command line to a call of the lifecycle.

Each function takes the global options, its own options, its words and the log, and returns the exit status.
The number of words was checked. Each imports what it needs itself, so that no command pays for another.
"""

from __future__ import annotations

import os

from pyrunc.cli.main import show
from pyrunc.cli.parse import boolean
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.cli.options import Value
    from pyrunc.lifecycle.request import Request
    from pyrunc.log import Log
    from pyrunc.store.store import Store

    Values = dict[str, Value]
    Handler = Callable[[Values, Values, list[str], Log], int]


def _create(settings: Values, values: Values, words: list[str], log: Log) -> int:
    request = _request(settings, values, words[0], log)
    from pyrunc.lifecycle.create import create

    create(request)
    return 0


def _run(settings: Values, values: Values, words: list[str], log: Log) -> int:
    request = _request(settings, values, words[0], log)
    from pyrunc.lifecycle.run import run

    return run(request)


def _start(settings: Values, values: Values, words: list[str], log: Log) -> int:
    store = _store(settings)
    from pyrunc.lifecycle.start import start

    start(store, words[0], log)
    return 0


def _state(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.query import state

    show(state(_store(settings), words[0]))
    return 0


def _kill(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.kill import kill

    kill(
        _store(settings),
        words[0],
        words[1] if len(words) > 1 else "SIGTERM",
        stopped_is_fine=bool(values["all"]),
    )
    return 0


def _delete(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.delete import delete

    delete(_store(settings), words[0], bool(values["force"]), log)
    return 0


def _list(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.query import listing

    text, broken = listing(_store(settings), str(values["format"]), bool(values["quiet"]))
    for complaint in broken:
        log.notice(complaint)
    show(text)
    return 0


def _spec(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.spec import write

    write(str(values["bundle"]) or ".", bool(values["rootless"]))
    return 0


def _features(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.cli.features import probed, text

    show(probed() if values["probe"] else text())
    return 0


COMMANDS: Final[dict[str, Handler]] = {
    "create": _create,
    "delete": _delete,
    "features": _features,
    "kill": _kill,
    "list": _list,
    "run": _run,
    "spec": _spec,
    "start": _start,
    "state": _state,
}


def _store(settings: Values) -> Store:
    from pyrunc.store.root import choose
    from pyrunc.store.store import Store

    root = settings["root"]
    return Store(*choose(None if root is None else str(root)))


def _request(settings: Values, values: Values, container_id: str, log: Log) -> Request:
    from pyrunc.lifecycle.request import Request
    from pyrunc.linux.cgroups.manager import KINDS, SYSTEMD

    manager = str(settings["cgroup-manager"])
    if manager not in KINDS:
        raise PyruncError(
            f"invalid cgroup-manager: {manager}", remedy="use cgroupfs, systemd or disabled", code="usage"
        )
    if settings["systemd-cgroup"]:
        manager = SYSTEMD
    choice = str(settings["rootless"])
    rootless = None if choice == "auto" else boolean(choice)
    if rootless is None and choice != "auto":
        raise PyruncError(f"invalid rootless: {choice}", remedy="use true, false or auto", code="usage")
    return Request(
        _store(settings),
        container_id,
        _absolute(str(values["bundle"]) or "."),
        log,
        config_name=str(values["config"]),
        console_socket=_absolute(values["console-socket"]),
        pidfd_socket=_absolute(values["pidfd-socket"]),
        pid_file=_absolute(values["pid-file"]),
        no_pivot=bool(values["no-pivot"]),
        no_new_keyring=bool(values["no-new-keyring"]),
        preserve_fds=int(values["preserve-fds"] or 0),
        detach=bool(values.get("detach")),
        keep=bool(values.get("keep")),
        no_subreaper=bool(values.get("no-subreaper")),
        cgroup_manager=manager,
        rootless=rootless,
    )


def _absolute(path: Value) -> str:
    # Joined only: taking ".." out by the letter would mean another directory behind a symbolic link.
    return os.path.join(os.getcwd(), str(path)) if path else ""
