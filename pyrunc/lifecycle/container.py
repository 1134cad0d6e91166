"""What the steps of `create` and `run` pass on from one to the next."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.lifecycle.prepare import Prepared
    from pyrunc.linux.intel_rdt import Group
    from pyrunc.spawn.conversation import Conversation
    from pyrunc.spawn.init import Process
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory


class Container:
    """A container while it is made, and what `start` and `run` need of it then.

    `master`: the terminal's master side, -1 if there is none (any more). `hooks_reached`: the runtime has run hooks
    for it.
    """

    __slots__ = (
        "directory",
        "group",
        "hooks_reached",
        "init",
        "master",
        "open_files",
        "prepared",
        "record",
        "talk",
    )

    def __init__(self, prepared: Prepared, directory: Directory, record: Record) -> None:
        self.prepared = prepared
        self.directory = directory
        self.record = record
        #: Of resctrl, with linux.intelRdt.
        self.group: Group | None = None
        #: Its first process.
        self.init: Process | None = None
        self.talk: Conversation | None = None
        self.master = -1
        self.hooks_reached = False
        #: The limit of open files that init had (struct rlimit64), where it was raised for its mounts.
        self.open_files = b""
