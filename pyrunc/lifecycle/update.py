"""update: other resources for a container that is there.

Under the container's lock: what is asked for is merged with what holds and checked as a whole, then written, then
saved. The configuration in the state directory says from then on what holds: for the next `update`, for whoever enters
the container, for `restore`. A failure anywhere puts back what was changed before it, the newest first. Killed in
between, the container has some of the new values and the old configuration; the next `update` of them sets it right.
Killed while it changed the device list of cgroup v1 as a whole, it may leave the container paused.
"""

from __future__ import annotations

from pyrunc import SPEC_VERSION
from pyrunc.errors import PyruncError, Rejected
from pyrunc.lifecycle.failure import saved_config
from pyrunc.lifecycle.interrupt import Interruptible, Undisturbed
from pyrunc.lifecycle.status import check_allowed, current, load
from pyrunc.lifecycle.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.log import Log
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory, Store


def update(
    store: Store, container_id: str, resources: Any, shares: dict[str, Any], log: Log, source: str
) -> None:
    """Give container `container_id` the `resources` (as linux.resources; what is not in it stays as it is).

    `shares`: properties of linux.intelRdt that change. `source` names where they come from in errors.
    Raises Rejected, PyruncError; then everything is as it was.
    """
    with store.open(container_id) as directory, directory.lock():
        record = load(directory)
        check_allowed("update", container_id, current(directory, record))
        config = saved_config(directory)
        changed = _changed(config, resources, shares, source, log)
        with Undo(log) as undo:
            with Interruptible():
                devices = _set_resources(directory, record, config, resources, undo)
                if shares:
                    from pyrunc.linux import intel_rdt

                    intel_rdt.update(config["linux"]["intelRdt"], shares, container_id, undo.push)  # type: ignore[arg-type]
                _save(directory, record, config, changed, devices, undo)
            undo.keep()


def _changed(config: Config, resources: Any, shares: dict[str, Any], source: str, log: Log) -> Config:
    """`config` with the change. Raises Rejected where it, or what becomes of all of it, is not sound."""
    from pyrunc.linux import intel_rdt
    from pyrunc.linux.cgroups.change import merged
    from pyrunc.linux.cgroups.resources import check_resources
    from pyrunc.plan.host import probe
    from pyrunc.validate.check import check_shape

    linux: dict[str, Any] = {**config.get("linux", {})}
    if shares and linux.get("intelRdt") is None:
        raise PyruncError(
            "updating a non-existent Intel RDT configuration is not supported",
            remedy="create the container with linux.intelRdt",
            code="unsupported",
        )
    try:
        # The shape first, by the rules for config.json: the rest relies on the types.
        part = {"resources": resources, **({"intelRdt": shares} if shares else {})}
        report = check_shape({"ociVersion": SPEC_VERSION, "root": {"path": "/"}, "linux": part})
        linux["resources"] = merged(linux.get("resources") or {}, resources)
        # As a whole, but the lists as they are given, so that a problem's path is the one in `source`.
        lists = {key: values for key, values in resources.items() if key not in ("memory", "cpu", "pids")}
        check_resources({**linux["resources"], **lists}, report)
        if shares:
            before = linux["intelRdt"]
            linux["intelRdt"] = {**before, **shares}
            intel_rdt.check({"linux": linux}, probe(), report)  # type: ignore[typeddict-item]
            linux["intelRdt"] = intel_rdt.merged(before, shares)  # type: ignore[arg-type]
        for warning in report.warnings:
            log.warning(str(warning))
        if report.problems:
            raise Rejected(report.problems)
    except Rejected as error:
        raise Rejected(error.problems, source) from None
    return {**config, "linux": linux}  # type: ignore[typeddict-item]


def _set_resources(
    directory: Directory, record: Record, config: Config, resources: Resources, undo: Undo
) -> bool:
    """Write what is due; returns whether that were device rules, too."""
    from pyrunc.linux.cgroups.change import due
    from pyrunc.linux.cgroups.manager import restore

    before: Resources = config.get("linux", {}).get("resources") or {}
    change = due(before, resources, record.devices_unsure)
    if not change:
        return False
    if record.cgroup is None:
        raise PyruncError(
            f"linux.resources.{next(iter(change))}: container {record.id} has no cgroup",
            remedy="create it with another --cgroup-manager than disabled",
            code="no-cgroup",
        )
    devices = "devices" in change
    if devices:
        # Before the first of them: if this process is killed, the next must not take the saved ones for what holds.
        _note(directory, record, undo, record.memory_limit, True)
    restore(record.cgroup).update(change, before, undo.push)
    return devices


def _save(
    directory: Directory, record: Record, config: Config, changed: Config, devices: bool, undo: Undo
) -> None:
    from pyrunc.config.writer import dumps

    with Undisturbed():
        directory.save_config(dumps(changed).encode())
        undo.push(lambda: directory.save_config(dumps(config).encode()))
    limit = (changed["linux"]["resources"].get("memory") or {}).get("limit", 0)
    _note(directory, record, undo, limit, record.devices_unsure and not devices)


def _note(directory: Directory, record: Record, undo: Undo, limit: int, unsure: bool) -> None:
    """Have the record say so."""
    former = record.memory_limit, record.devices_unsure

    def save(limit: int, unsure: bool) -> None:
        record.memory_limit, record.devices_unsure = limit, unsure
        directory.save(record)

    if former != (limit, unsure):
        with Undisturbed():
            save(limit, unsure)
            undo.push(lambda: save(*former))
