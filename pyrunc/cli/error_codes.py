"""The codes of errors, for the manual and docs/errors.md: `python -m pyrunc.cli.error_codes` prints their table.

A program that reads the JSON log, or PYRUNC_CODE in the journal, may rely on them: a code is never given another
meaning and never taken away; an error may get a more special one. Its text is for people, and may change, but for the
words that engines look for. tests/unit/test_error_codes.py holds that every error has a code and every code is here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CODES: Final[dict[str, str]] = {
    # the call
    "usage": "The command line, a value of an option or a combination of options cannot be understood.",
    "invalid-id": "The word cannot be the id of a container.",
    "invalid-signal": "No signal has this name or number.",
    "not-found": "No container has this id.",
    "exists": "The id is in use; or a file or group to be made is there already.",
    "locked": "Another pyrunc process is changing the container.",
    "several": "Of several containers more than one failed, with different codes; the text has each.",
    # the container's status
    "not-running": "The container has stopped, or its process has not been started.",
    "already-running": "The container has been started before.",
    "not-stopped": "The container has to have stopped for this.",
    "creating": "The container is still being created.",
    "paused": "The container is paused.",
    "not-paused": "The container is not paused.",
    # the bundle and its configuration
    "invalid-bundle": "The bundle has no config.json, or one that is no readable file.",
    "invalid-config": "The configuration, or a document like it, breaks a rule; the text names each property.",
    "unsupported": "This host, its kernel or this pyrunc cannot do or hold what is asked for.",
    "missing": "A library of the host that this needs is missing or too old.",
    # making and running it
    "kernel": "A system call failed; the text names the step, and the kernel's word for it.",
    "hook-failed": "A hook failed, or took too long.",
    "helper-failed": "A process that pyrunc had started to help, such as newuidmap, failed.",
    "init-ended": "The container's process ended before it was to.",
    "init-protocol": "The container's init said what was not due: something else may have taken its place.",
    "oom": "The container's process was killed for lack of memory.",
    "interrupted": "pyrunc was asked by a signal to end, and has undone what it had begun.",
    "still-running": "A process that was killed has not ended: it waits for the kernel.",
    "in-use": "The new limit is below what the container uses now.",
    # cgroups
    "cgroup-in-use": "The cgroup that the container is to have holds processes, or is frozen.",
    "no-cgroup": "The container has no cgroup, and this needs one.",
    "cannot-freeze": "The processes of the container do not stop, or must not be stopped from here.",
    "systemd": "systemd refused, or cannot be reached.",
    # other programs
    "criu": "criu failed, or cannot be used.",
    "ps": "ps(1) failed, or did not say what was asked.",
    # the state directory
    "damaged-state": "The record of the container cannot be read; `delete --force` removes the container.",
    "newer-state": "A newer pyrunc has made the container, and this needs that.",
    "foreign-directory": "The directory under --root is not pyrunc's.",
    # pyrunc itself
    "internal": "A fault in pyrunc: please report it.",
}


def table() -> str:
    """`CODES` as a table in Markdown."""
    rows = [f"| `{code}` | {meaning} |\n" for code, meaning in CODES.items()]
    return "| code | meaning |\n|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    print(table(), end="")
