"""Record: what must be known about a container after the process that created it has ended."""

from __future__ import annotations

from pyrunc import SPEC_VERSION
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: The layout of state.json. Raised when a reader of the older layout would misunderstand the newer one.
LAYOUT: Final = 1
#: What no layout may give another meaning or place, so that any pyrunc can show and end any container.
CORE: Final = frozenset(
    "layout oci_version id bundle rootfs created owner annotations creator ready pid start_time".split()
)

#: How a state.json of any version begins.
BEGINNING: Final = b'{"layout": '


class Record:
    """One container.

    It is saved several times while the container is made, so that a later `delete` finds all there is, wherever
    the runtime was killed: with the cgroups that are going to be made, before they are; with the first process,
    before that runs anything of the container's; as ready, before it can be started.

    `layout`: of the file. `oci_version`: that `state` reports. `bundle`, `rootfs`: absolute paths. `created`:
    UTC, RFC 3339. `owner`: uid of the caller of create. `annotations`: of the config.
    `creator`: pid and start time of the process that creates the container, `ready`: it has finished.
    `pid`, `start_time`: of the container's first process (0 before it exists) and when it started, field 22
    of /proc/PID/stat in clock ticks: together they name a process for good.
    `pid_namespace_private`: its PID namespace was made for it, so that its end is the end of all in it.
    `cgroup`: what the cgroup manager recorded (before there is a `pid`: intended), None without one.
    `intel_rdt`: its group of resctrl, and what to remove of it (`linux.intel_rdt.Group.record`), None without any.
    `keyring`: the name of its session keyring, for who joins it later; "" for the caller's.
    `hooks`: the config's. `texts`: (label, JSON path) of the steps that `start` lets init take, `texts_from` the
    number of the first.
    `memory_limit`: linux.resources.memory.limit, 0 without one.
    `devices_unsure`: an `update` of the device rules is at work, or was killed: the saved configuration may not say
    which hold.
    `mounts`: what `mounts add` has mounted since, in that order: (mount as in config.json, its id, statx(2)). Saved
    before it is mounted; the id is negative while a call that mounts or unmounts it is at work, or was killed.
    `extra`: properties that a newer version wrote, kept as they are.
    """

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup",
        "created",
        "creator",
        "devices_unsure",
        "extra",
        "hooks",
        "id",
        "intel_rdt",
        "keyring",
        "layout",
        "memory_limit",
        "mounts",
        "oci_version",
        "owner",
        "pid",
        "pid_namespace_private",
        "ready",
        "rootfs",
        "start_time",
        "texts",
        "texts_from",
    )

    def __init__(
        self,
        container_id: str,
        bundle: str,
        rootfs: str,
        *,
        created: str = "",
        owner: int = 0,
        annotations: dict[str, str] | None = None,
        hooks: dict[str, Any] | None = None,
        creator: tuple[int, int] = (0, 0),
        pid: int = 0,
        start_time: int = 0,
        pid_namespace_private: bool = True,
        cgroup: dict[str, Any] | None = None,
        keyring: str = "",
        texts: list[tuple[str, str]] | None = None,
        texts_from: int = 0,
        memory_limit: int = 0,
        ready: bool = False,
        oci_version: str = SPEC_VERSION,
    ) -> None:
        self.layout = LAYOUT
        self.oci_version = oci_version
        self.id = container_id
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created or now()
        self.owner = owner
        self.annotations = annotations or {}
        self.hooks = hooks or {}
        self.creator = creator
        self.pid = pid
        self.start_time = start_time
        self.pid_namespace_private = pid_namespace_private
        self.cgroup = cgroup
        self.keyring = keyring
        self.intel_rdt: dict[str, Any] | None = None
        self.texts = texts or []
        self.texts_from = texts_from
        self.memory_limit = memory_limit
        self.devices_unsure = False
        self.ready = ready
        self.mounts: list[tuple[dict[str, Any], int]] = []
        self.extra: dict[str, Any] = {}

    @property
    def newer(self) -> bool:
        """Whether a newer pyrunc has made the container, in a layout of which only `CORE` is understood here."""
        return self.layout > LAYOUT

    def text(self, step: int) -> tuple[str, str]:
        """The label and the JSON path of a step that `start` lets init take. Raises IndexError for another one."""
        if step < self.texts_from:
            raise IndexError(step)
        return self.texts[step - self.texts_from]

    def encode(self) -> bytes:
        """The bytes of state.json."""
        from pyrunc.config.writer import dumps

        values = {name: getattr(self, name) for name in _WRITTEN}
        # The layout comes first: a file that begins so is ours, whatever became of the rest (`BEGINNING`).
        return dumps({"layout": self.layout, **self.extra, **values}).encode("ascii")

    @classmethod
    def decode(cls, raw: bytes, source: str) -> Record:
        """The record in the bytes of the file `source`.

        Properties that an older version did not write keep their defaults; of a newer layout only those of `CORE` are
        read. Raises PyruncError where the bytes are no record.
        """
        from pyrunc.config.load import load_json

        values = load_json(raw, source)
        if not isinstance(values, dict):
            raise damaged(source, "it is not a JSON object")
        if values and "layout" not in values:
            raise PyruncError(
                f"{source} was not written by pyrunc",
                remedy="use the runtime that made the container, and check --root",
                code="foreign-directory",
            )
        layout = values.get("layout")
        if not isinstance(layout, int) or layout < 1:
            raise damaged(source, "it has no layout number")
        record = cls("", "", "")
        for name, value in values.items():
            kind = _KINDS.get(name) if layout <= LAYOUT or name in CORE else None
            if kind is None:
                record.extra[name] = value
            elif isinstance(value, kind):
                setattr(record, name, value)
            else:
                raise damaged(source, f"{name} is a {type(value).__name__}")
        if wrong := _fault(record):
            raise damaged(source, wrong)
        try:
            record.creator = (*map(int, record.creator), 0, 0)[:2]  # type: ignore[assignment]
            record.texts = [(str(label), str(path)) for label, path in record.texts]
            record.mounts = [(dict(mount), int(number)) for mount, number in record.mounts]
        except (TypeError, ValueError):
            raise damaged(source, "a list in it does not hold what it should") from None
        return record


_KINDS: Final[dict[str, Any]] = {
    "layout": int,
    "oci_version": str,
    "id": str,
    "bundle": str,
    "rootfs": str,
    "created": str,
    "owner": int,
    "annotations": dict,
    "creator": list,
    "ready": bool,
    "pid": int,
    "start_time": int,
    "pid_namespace_private": bool,
    "cgroup": (dict, type(None)),
    "intel_rdt": (dict, type(None)),
    "keyring": str,
    "hooks": dict,
    "texts": list,
    "texts_from": int,
    "memory_limit": int,
    "devices_unsure": bool,
    "mounts": list,
}
_WRITTEN: Final = tuple(_KINDS)


def _fault(record: Record) -> str:
    """What else is wrong with values of the right kind, "" if nothing: what would be met too late, by a `delete`."""
    if not record.id:
        return "it has no id"
    if not (0 <= record.pid < 1 << 31 and 0 <= record.start_time < 1 << 63):
        return "pid or start_time is out of range"
    if not all(isinstance(number, int) for number in record.creator):
        return "creator is not a pid and a start time"
    for hooks in record.hooks.values():
        if not (isinstance(hooks, list) and all(isinstance(hook, dict) and "path" in hook for hook in hooks)):
            return "hooks are not those of a config.json"
    cgroup = record.cgroup
    if cgroup is not None:
        need = (
            {"made", "rootless", "homes"}
            if cgroup.get("version") == 1
            else {"made", "rootless", "home", "top"}
        )
        if cgroup.get("version") not in (1, 2) or not cgroup.keys() >= need:
            return "cgroup is not what a cgroup manager recorded"
    return ""


def newer(source: str, layout: int) -> PyruncError:
    """The error for a verb that needs more of a record than any layout has."""
    return PyruncError(
        f"{source} has layout {layout}, this pyrunc reads up to {LAYOUT}",
        remedy="use the newer pyrunc that made the container; state, list, kill and delete --force work with this one",
        code="newer-state",
    )


def damaged(source: str, why: str) -> PyruncError:
    """The error for a state file that no pyrunc wrote like this."""
    return PyruncError(
        f"{source} is damaged: {why}",
        remedy="`pyrunc delete --force` removes the container",
        code="damaged-state",
    )


def now() -> str:
    """The present moment in UTC as RFC 3339 with nanoseconds, trailing zeros left out as Go does."""
    import time

    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{nanoseconds:09d}".rstrip("0")
    return f"{whole}{fraction if len(fraction) > 1 else ''}Z"
