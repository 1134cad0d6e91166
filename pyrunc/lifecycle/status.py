"""The status of a container, worked out from what is there, never stored (runtime.md "State")."""

from __future__ import annotations

from pyrunc.errors import NotFound, PyruncError
from pyrunc.lifecycle.liveness import is_alive
from pyrunc.store.store import START_SOCKET, STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory

CREATING: Final = "creating"
CREATED: Final = "created"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"

#: Which verb is allowed in which status (runtime.md "Operations"; `delete` ends a created container, as
#: all runtimes do).
ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "start": (CREATED,),
    "kill": (CREATED, RUNNING, PAUSED),
    "delete": (STOPPED, CREATED),
    "pause": (CREATED, RUNNING),
    "resume": (PAUSED,),
    "update": (CREATED, RUNNING, PAUSED),
    "checkpoint": (RUNNING, PAUSED),
    "exec": (CREATED, RUNNING),
    "events": (CREATED, RUNNING, PAUSED),
    "mounts": (CREATED, RUNNING, PAUSED),
}

# The texts are runc's; engines search them for these words.
_REFUSALS: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("start", RUNNING): ("cannot start an already running container", "already-running"),
    ("start", STOPPED): ("cannot start a container that has stopped", "not-running"),
    ("start", PAUSED): ("cannot start a container in the paused state", "paused"),
    ("start", CREATING): ("cannot start a container that is being created", "creating"),
    ("kill", STOPPED): ("container not running", "not-running"),
    ("kill", CREATING): ("container not running: it is being created", "creating"),
    ("pause", STOPPED): ("container not running", "not-running"),
    ("pause", PAUSED): ("container not running: it is paused already", "paused"),
    ("pause", CREATING): ("container not running: it is being created", "creating"),
    ("resume", CREATING): ("container not paused: it is being created", "not-paused"),
    ("resume", CREATED): ("container not paused: it waits to be started", "not-paused"),
    ("resume", RUNNING): ("container not paused", "not-paused"),
    ("exec", STOPPED): ("cannot exec in a stopped container", "not-running"),
    ("exec", CREATING): ("cannot exec in a container that is being created", "creating"),
    ("exec", PAUSED): ("cannot exec in a paused container (use --ignore-paused to override)", "paused"),
    ("checkpoint", CREATED): ("container cannot be checkpointed in created state", "not-running"),
    ("checkpoint", CREATING): ("container cannot be checkpointed while it is being created", "creating"),
    ("checkpoint", STOPPED): ("container cannot be checkpointed in stopped state", "not-running"),
    ("update", STOPPED): ("container not running", "not-running"),
    ("update", CREATING): ("container not running: it is being created", "creating"),
    ("mounts", STOPPED): ("container not running", "not-running"),
    ("mounts", CREATING): ("container not running: it is being created", "creating"),
    ("resume", STOPPED): ("container not paused: it has stopped", "not-paused"),
    ("events", STOPPED): ("container with id {id} is not running", "not-running"),
    ("events", CREATING): ("container with id {id} is not running: it is being created", "creating"),
}


def check_allowed(verb: str, container_id: str, status: str) -> None:
    """Refuse `verb` where the specification does not allow it in this status."""
    if status in ALLOWED[verb]:
        return
    default = (f"cannot {verb} container {container_id} that is not stopped: {status}", "not-stopped")
    text, code = _REFUSALS.get((verb, status), default)
    raise PyruncError(text.replace("{id}", container_id), code=code)


def current(directory: Directory, record: Record) -> str:
    """The status now.

    Without a finished `create` it is creating as long as the creator or the container's process lives; if
    both are gone, stopped. Its cgroup is frozen: paused, also where the first process has not been started: it
    could not hear of it. The first process waits on its socket: created.
    """
    if not is_alive(record.pid, record.start_time):
        return CREATING if not record.ready and is_alive(*record.creator) else STOPPED
    if not record.ready:
        return CREATING
    if record.cgroup:
        from pyrunc.linux.cgroups.frozen import is_frozen

        if is_frozen(record.cgroup):
            return PAUSED
    return CREATED if directory.has(START_SOCKET) else RUNNING


def load(directory: Directory, *, newer_is_fine: bool = False) -> Record:
    """The record of a container. Raises NotFound where a killed `create` left a directory without one.

    `newer_is_fine`: the caller needs no more of it than `store.record.CORE`. Else a newer layout is an error.
    """
    record = directory.load()
    if record is None:
        raise NotFound(
            "container does not exist",
            remedy=f"{directory.path} was left by an interrupted create: `pyrunc delete --force` removes it",
        )
    if record.newer and not newer_is_fine:
        from pyrunc.store.record import newer

        raise newer(f"{directory.path}/{STATE}", record.layout)
    return record


def document(record: Record, status: str, *, pid: int | None = None, owner: str = "") -> dict[str, Any]:
    """The state of a container (runtime-spec state schema) with the properties that runc adds to it.

    `pid`: instead of the recorded one, for hooks in the container's PID namespace. A stopped container has
    pid 0.
    `owner`: name of the user, known to `list` only.
    """
    result: dict[str, Any] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid if pid is not None else 0 if status == STOPPED else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    }
    if record.annotations:
        result["annotations"] = record.annotations
    result["owner"] = owner
    return result


def state_document(record: Record, status: str, *, pid: int | None = None) -> str:
    """The same as JSON on one line, for the standard input of hooks."""
    from pyrunc.config.writer import dumps

    return dumps(document(record, status, pid=pid))
