"""Record: what must be known about a container after the process that created it has ended."""

from __future__ import annotations

from pyrunc import SPEC_VERSION
from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: The layout of state.json. Raised when a reader of the older layout would misunderstand the newer one.
LAYOUT: Final = 1


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
    `intel_rdt`: what is to be removed of resctrl (`linux.intel_rdt.Group.record`), None without linux.intelRdt.
    `keyring`: the name of its session keyring, for who joins it later; "" for the caller's.
    `hooks`: the config's. `texts`: (label, JSON path) of the steps that `start` lets init take, `texts_from` the
    number of the first.
    `memory_limit`: linux.resources.memory.limit, 0 without one.
    `mounts`: what `mounts add` has mounted since, in that order: (mount as in config.json, its id, statx(2)). Saved
    before it is mounted.
    `extra`: properties that a newer version wrote, kept as they are.
    """

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup",
        "created",
        "creator",
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
        self.ready = ready
        self.mounts: list[tuple[dict[str, Any], int]] = []
        self.extra: dict[str, Any] = {}

    def text(self, step: int) -> tuple[str, str]:
        """The label and the JSON path of a step that `start` lets init take. Raises IndexError for another one."""
        if step < self.texts_from:
            raise IndexError(step)
        return self.texts[step - self.texts_from]

    def encode(self) -> bytes:
        """The bytes of state.json."""
        from pyrunc.config.writer import dumps

        values = {name: getattr(self, name) for name in _WRITTEN}
        return dumps({**self.extra, **values}).encode("ascii")

    @classmethod
    def decode(cls, raw: bytes, source: str) -> Record:
        """The record in the bytes of the file `source`.

        Properties that an older version did not write keep their defaults. Raises PyruncError where the bytes
        are no record.
        """
        from pyrunc.config.load import load_json

        values = load_json(raw, source)
        if not isinstance(values, dict):
            raise damaged(source, "it is not a JSON object")
        layout = values.get("layout")
        if not isinstance(layout, int) or layout < 1:
            raise damaged(source, "it has no layout number")
        if layout > LAYOUT:
            raise PyruncError(
                f"{source} has layout {layout}, this pyrunc reads up to {LAYOUT}",
                remedy="use the newer pyrunc that made the container",
                code="newer-state",
            )
        record = cls("", "", "")
        for name, value in values.items():
            kind = _KINDS.get(name)
            if kind is None:
                record.extra[name] = value
            elif isinstance(value, kind):
                setattr(record, name, value)
            else:
                raise damaged(source, f"{name} is a {type(value).__name__}")
        if not record.id:
            raise damaged(source, "it has no id")
        record.creator = (*map(int, record.creator), 0, 0)[:2]  # type: ignore[assignment]
        record.texts = [(str(label), str(path)) for label, path in record.texts]
        record.mounts = [(dict(mount), int(number)) for mount, number in record.mounts]
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
    "mounts": list,
}
_WRITTEN: Final = tuple(_KINDS)


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
