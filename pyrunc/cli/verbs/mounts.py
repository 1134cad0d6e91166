"""mounts."""

from __future__ import annotations

from pyrunc.cli.options import ID, Command
from pyrunc.cli.settings import store
from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log


def _mounts(settings: Values, values: Values, words: list[str], log: Log) -> int:
    what, container_id, file = words
    if what not in ("add", "remove"):
        raise UsageError(f'mounts: "{what}" is not understood', remedy="write add or remove")
    from pyrunc.config.load import load_document

    entries, source = load_document(file)
    from pyrunc.lifecycle import running_mounts

    if what == "add":
        running_mounts.add(store(settings), container_id, entries, source, log)
    else:
        running_mounts.remove(store(settings), container_id, entries, source)
    return 0


COMMANDS: Final = (
    Command(
        "mounts",
        "mount into a container that runs, or unmount that",
        f"add|remove {ID} <file>",
        3,
        3,
        (),
        "`add` mounts what FILE lists, a JSON array of mounts as in config.json; - is standard input. A source is a "
        "path of the host, a destination one in the container. If one of them fails, none is mounted. `remove` "
        "unmounts what is mounted on the destinations in FILE, the last first; of the other properties it needs "
        "none. The container may be created, running or paused.",
        _mounts,
    ),
)
