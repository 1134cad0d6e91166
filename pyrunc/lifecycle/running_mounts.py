"""mounts: mount into a container that runs, and unmount that again; all of a list or nothing.

The order of `add`, and why: the record is saved with the mounts when they exist and before the first is attached, so
that `remove` knows them wherever this process is killed. Until a call has ended, the ids of its mounts are negative in
the record: of those any may be missing. Whatever fails, `Undo` unmounts what was attached, by descriptor, whoever has
moved or covered it meanwhile. What the container's processes have done there until then,
and what they keep open, stays theirs.
"""

from __future__ import annotations

import os
from errno import EINVAL, ELOOP, ENOENT
from struct import unpack_from

from pyrunc.errors import KernelError, PyruncError, Rejected
from pyrunc.kernel.constants import AT_EMPTY_PATH
from pyrunc.kernel.native import syscall
from pyrunc.kernel.structs import STATX_AT_MNT_ID, STATX_SIZE
from pyrunc.lifecycle.failure import saved_config, word
from pyrunc.lifecycle.interrupt import Interruptible, Undisturbed
from pyrunc.lifecycle.launch import HELD_EASILY
from pyrunc.lifecycle.liveness import open_process, wait_end
from pyrunc.lifecycle.mounts import Spaces, let_open, map_ids
from pyrunc.lifecycle.status import PAUSED, check_allowed, current, load
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux.mounts import facts, idmapped, rules, running, running_rules
from pyrunc.linux.mounts.facts import destination_of, is_bind, source_of
from pyrunc.linux.mounts.options import parse
from pyrunc.linux.mounts.plan import is_idmapped
from pyrunc.linux.namespaces import open_of, open_owner
from pyrunc.linux.signals import SIGKILL, send
from pyrunc.plan.host import probe
from pyrunc.plan.talk import READY, SAY_COPY, SAY_MOUNT, SAY_REACHED
from pyrunc.spawn.conversation import Conversation, InitEnded, StepFailed
from pyrunc.spawn.init import spawn
from pyrunc.validate.check import check_shape
from pyrunc.validate.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.log import Log
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.spawn.init import Init
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory, Store

    Entry = tuple[dict[str, Any], int]

#: How many descriptors of mounts one process is started with (native/border.c takes 256, with its others).
_BATCH: Final = 200
#: What to do about an errno of unmounting.
_REMEDIES: Final = {
    ELOOP: "symbolic links are followed only to what `mounts add` has mounted: name the place itself",
    EINVAL: "the container has moved it, or has it from outside, where it has to be unmounted",
}
_ENDED: Final = "the process that mounts in the container has ended unexpectedly"


def add(store: Store, container_id: str, entries: object, source: str, log: Log) -> None:
    """Mount `entries`, mounts as in config.json, that come from `source`. Raises PyruncError; then none is there."""
    with store.open(container_id) as directory, directory.lock():
        record, config = _begin(directory, container_id, entries, source)
        host = probe()
        host.bundle = record.bundle
        host.sources = facts.sources(config["mounts"], record.bundle)
        host.old_mounts = facts.lacks_new_calls()
        _check_add(config, host, source, log)
        paused = current(directory, record) == PAUSED
        if paused and any(parse(mount.get("options") or ()).copy_up for mount in config["mounts"]):
            raise PyruncError(
                "tmpcopyup: what copies would stand still in the paused container",
                remedy="resume it, or leave tmpcopyup out",
                code="paused",
            )
        if config["mounts"]:
            with _Container(record, running.kinds_for(config["mounts"])) as container:
                _add(directory, record, config, host, container, log)


def remove(store: Store, container_id: str, entries: object, source: str) -> None:
    """Unmount what is mounted on the destinations of `entries`, the last first. Raises PyruncError.

    What `add` has mounted has to be the very mount. If one of them is not as it should be, none is unmounted.
    """
    with store.open(container_id) as directory, directory.lock():
        record, config = _begin(directory, container_id, entries, source)
        report = Report()
        running_rules.check_remove(config, report)
        if report.problems:
            raise Rejected(report.problems, source)
        host = probe()
        host.old_mounts = facts.lacks_new_calls()
        if config["mounts"]:
            with _Container(record, []) as container:
                _remove(directory, record, config, host, container)


def _begin(directory: Directory, container_id: str, entries: object, source: str) -> tuple[Record, Config]:
    """The record, and the container's configuration with these mounts for its own. Their shape is sound."""
    record = load(directory)
    check_allowed("mounts", container_id, current(directory, record))
    if not isinstance(entries, list):
        raise PyruncError(
            f"{source} is not a JSON array of mounts",
            remedy='write [{"destination": …, …}]',
            code="invalid-config",
        )
    config: Config = {**saved_config(directory), "mounts": entries}
    try:
        check_shape(config)
    except Rejected as error:
        raise Rejected(error.problems, source) from None
    return record, config


def _check_add(config: Config, host: Host, source: str, log: Log) -> None:
    if host.old_mounts:
        raise PyruncError(
            "mounts into a container that runs need open_tree(2), move_mount(2) and mount_setattr(2)",
            remedy=rules.OLD,
            code="unsupported",
        )
    report = Report()
    running_rules.check_add(config, report)
    rules.check(config, host, report)
    for warning in report.warnings:
        log.warning(str(warning))
    if report.problems:
        raise Rejected(report.problems, source)


class _Container:
    """What of a container is joined, by descriptors: type of namespace → descriptor. A context; raises PyruncError.

    The user namespace is that which owns the mount namespace.
    """

    __slots__ = ("joins", "pidfd")

    def __init__(self, record: Record, kinds: list[str]) -> None:
        self.joins: dict[str, int] = {}
        self.pidfd = open_process(record.pid, record.start_time)
        try:
            if self.pidfd < 0:
                raise PyruncError("container not running", code="not-running")
            self.joins = open_of(record.pid, ["mount", *kinds])
            self.check_alive()  # the pid was that of the container's process all the time
            if "mount" not in self.joins:
                raise PyruncError(
                    "the container has no mount namespace of its own",
                    remedy="what is mounted here shows in it",
                    code="unsupported",
                )
            if (owner := open_owner(self.joins["mount"])) >= 0:
                self.joins["user"] = owner
        except OSError as error:
            self.close()
            raise KernelError.of("open the namespaces of the container", error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> _Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (*self.joins.values(), self.pidfd):
            if descriptor >= 0:
                os.close(descriptor)

    def check_alive(self) -> None:
        """Raise PyruncError if the container's first process has ended."""
        if wait_end(self.pidfd, 0):
            raise PyruncError("container not running", code="not-running")

    def spawn(self, program: Program, **more: int) -> Init:
        """Start `program` in the runtime's own namespaces, with the descriptors of the container's to join them."""
        return spawn(program, 0, {**{f"namespace-{kind}": fd for kind, fd in self.joins.items()}, **more})


def _add(
    directory: Directory, record: Record, config: Config, host: Host, container: _Container, log: Log
) -> None:
    program = running.plan_add(config, host, container.joins)
    if program.held > HELD_EASILY:
        let_open(os.getpid(), program.held)  # and what it starts
    trees: list[int] = []
    attached: list[int] = []
    before = list(record.mounts)
    try:
        with Undo(log) as undo:
            with Interruptible():
                undo.push(lambda: _take_back(directory, record, config, host, container, attached, before))
                with Undisturbed():
                    init = container.spawn(program)
                    undo.push(lambda: _end(init))
                try:
                    talk = Conversation(init.talk, program.text)
                    _receive(talk, config, record, container, trees)
                    entries = list(zip(_entries(config, record), map(_number, trees), strict=True))
                    _note(directory, record, [*before, *((entry, -number) for entry, number in entries)])
                    attached += trees
                    talk.go()
                    _copy(talk, program, config, record, container)
                    talk.expect(SAY_REACHED, READY)
                except InitEnded as error:
                    raise PyruncError(_ENDED, code="init-ended") from error
                except StepFailed as error:
                    raise _word(error, config) from error
                container.check_alive()
                _note(directory, record, [*before, *entries])
            undo.keep()
        _end(init)
    finally:
        for tree in trees:
            os.close(tree)


def _word(error: StepFailed, config: Config) -> PyruncError:
    if error.number == ENOENT and error.path.endswith(".destination"):
        error.remedy = (
            "the destination passes a symbolic link to what is not there: make it, or name another place"
        )
        return error
    return word(error, config)


def _receive(
    talk: Conversation, config: Config, record: Record, container: _Container, trees: list[int]
) -> None:
    """Take the descriptors of the mounts, still detached, and map the ids of those that say so."""
    users = container.joins.get("user", -1)
    spaces = Spaces(os.getpid(), os.dup(users) if users >= 0 else -1)
    try:
        for index, mount in enumerate(config["mounts"]):
            trees.append(talk.expect(SAY_MOUNT, index).descriptor)
            options = parse(mount.get("options") or ())
            if is_idmapped(mount, options) and idmapped.is_for_runtime(config, mount, options):
                map_ids(config, record.bundle, index, trees[-1], spaces)
    finally:
        spaces.close()


def _copy(
    talk: Conversation, program: Program, config: Config, record: Record, container: _Container
) -> None:
    copied = [value // 2 for said, value in program.given if said == SAY_COPY and value % 2 == 0]
    if copied:
        from pyrunc.linux.cgroups.manager import restore
        from pyrunc.linux.mounts import copyup

        manager = restore(record.cgroup)
        for index in copied:
            copyup.serve(config, talk, manager, 0, index, container.joins.get("user", -1))


def _entries(config: Config, record: Record) -> list[dict[str, Any]]:
    """The mounts with absolute paths."""
    found: list[dict[str, Any]] = []
    for mount in config["mounts"]:
        entry: dict[str, Any] = {**mount, "destination": destination_of(mount)}
        if is_bind(mount):
            entry["source"] = source_of(mount, record.bundle)
        found.append(entry)
    return found


def _number(tree: int) -> int:
    """The id of the mount behind a descriptor, which it keeps when it is attached and moved (statx(2))."""
    status = bytearray(STATX_SIZE)
    syscall("statx", tree, b"", AT_EMPTY_PATH, running.MOUNT_ID, status)
    return int(unpack_from("<Q", status, STATX_AT_MNT_ID)[0])


def _note(directory: Directory, record: Record, mounts: list[Entry]) -> None:
    if record.mounts != mounts:
        record.mounts = mounts
        directory.save(record)


def _take_back(
    directory: Directory,
    record: Record,
    config: Config,
    host: Host,
    container: _Container,
    attached: list[int],
    before: list[Entry],
) -> None:
    """Unmount those of the mounts behind these descriptors that are attached, the last first.

    Only then they leave the record.
    """
    while attached:
        batch = attached[-_BATCH:]
        del attached[-_BATCH:]
        program = running.plan_take_away(config, host, container.joins, len(batch))
        init = container.spawn(program, **{f"mount-{number}": tree for number, tree in enumerate(batch)})
        try:
            Conversation(init.talk, program.text).expect(SAY_REACHED, READY)
        finally:
            _end(init)
    _note(directory, record, before)


def _remove(directory: Directory, record: Record, config: Config, host: Host, container: _Container) -> None:
    places = _places(config, record)
    program = running.plan_remove(config, host, container.joins, places)
    left = list(record.mounts)
    going = {number for _, number in places}
    with Undisturbed():
        init = container.spawn(program)
    try:
        talk = Conversation(init.talk, program.text)
        _note(directory, record, [(entry, -abs(n) if n in going else n) for entry, n in left])
        talk.go()
        for index in reversed(range(len(places))):
            talk.expect(SAY_REACHED, index)
            left = _without(left, *places[index])
        _note(directory, record, left)
    except InitEnded as error:
        raise PyruncError(_ENDED, code="init-ended") from error
    except StepFailed as error:
        _note(directory, record, left)
        error.remedy = _REMEDIES.get(error.number, "")
        raise
    finally:
        _end(init)


def _places(config: Config, record: Record) -> list[tuple[str, int]]:
    """The destinations, each with the id of the mount that `add` has put there last, 0 where it has put none.

    The id is negative as in the record.
    """
    left = list(record.mounts)
    found = []
    for mount in reversed(config["mounts"]):
        path, number = destination_of(mount), 0
        for entry in reversed(left):
            if entry[0].get("destination") == path:
                left.remove(entry)
                number = entry[1]
                break
        found.append((path, number))
    return found[::-1]


def _without(mounts: list[Entry], path: str, number: int) -> list[Entry]:
    """What is left of the mounts when that on `path` has gone: with it went what was mounted later below it.

    One of config.json (0) was there before all of them.
    """
    numbers = [entry[1] for entry in mounts]
    if number and number not in numbers:
        return mounts  # it went with another
    at = numbers.index(number) if number else -1
    below = f"{path}/"
    later = [entry for entry in mounts[at + 1 :] if not str(entry[0].get("destination")).startswith(below)]
    return [*mounts[: max(at, 0)], *later]


def _end(init: Init) -> None:
    """End the process and collect it; one that has finished ends by itself."""
    init.talk.close()
    try:
        send(init.pidfd, SIGKILL)
    except ProcessLookupError:
        pass  # it has ended
    os.waitpid(init.pid, 0)
    os.close(init.pidfd)
