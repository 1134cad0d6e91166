"""create: from a bundle to a container whose init waits to be started (runtime.md "Lifecycle", steps 1 to 5).

The order, and why: the state directory is claimed first, because the claim is what makes the id unique. The
record is saved before the cgroup is made, with all that is going to be made, so that `delete --force` finds it
after a crash; and again with init's pid, before a hook of the container can run. Limits are set before init
enters the cgroup, its first step, so that nothing ever runs without them. The record is saved as ready before init
is released to where `start` can reach it. Whatever fails, `Undo` takes back what was made, newest first.
"""

from __future__ import annotations

import os

from pyrunc.config import POSTSTOP
from pyrunc.config.annotations import hook_files
from pyrunc.lifecycle.container import Container
from pyrunc.lifecycle.converse import converse
from pyrunc.lifecycle.failure import why_init_ended, word
from pyrunc.lifecycle.hand_over import hand_over
from pyrunc.lifecycle.interrupt import Interruptible, Undisturbed
from pyrunc.lifecycle.launch import start_init
from pyrunc.lifecycle.liveness import start_time
from pyrunc.lifecycle.prepare import prepare
from pyrunc.lifecycle.status import STOPPED, state_document
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux import hooks
from pyrunc.linux.cgroups.mark import mark
from pyrunc.linux.namespaces import is_new
from pyrunc.spawn.conversation import InitEnded, StepFailed
from pyrunc.store.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.prepare import Prepared
    from pyrunc.lifecycle.request import Request
    from pyrunc.linux.intel_rdt import Group


def create(request: Request) -> Record:
    """Carry out `pyrunc create`. Raises PyruncError; then nothing is left behind."""
    with Undo(request.log) as undo:
        with Interruptible():
            container = build(request, undo, foreground=False, socket=True)
            hand_over(request, container)
            assert container.talk is not None
            container.talk.go()
        undo.keep()
    return container.record


def build(request: Request, undo: Undo, *, foreground: bool, socket: bool) -> Container:
    """Make the container of `request`, up to the moment where init is ready and waits.

    `foreground` and `socket` as for `prepare`. What is made is pushed on `undo`. Raises PyruncError.
    """
    prepared = prepare(request, foreground=foreground, socket=socket)
    debug = request.log.debug
    debug(f"compiled {prepared.bundle} to {len(prepared.program)} steps")
    try:
        container = claim(request, undo, prepared)
        try:
            start_init(container, undo)
            debug(f"init is process {container.record.pid}")
            if container.group:
                container.group.enter(container.record.pid)  # before init can start another process
            converse(container, undo)
        except InitEnded as error:
            raise why_init_ended(error, container) from error
        except StepFailed as error:
            raise word(error, prepared.config) from error
        container.record.ready = True
        container.directory.save(container.record)
        debug("init is ready")
    finally:
        prepared.close()
    return container


def claim(request: Request, undo: Undo, prepared: Prepared) -> Container:
    """What is there before the first process: state directory and record, resctrl group, cgroup with its limits."""
    group = _resctrl_group(prepared.config, request.container_id)
    with Undisturbed():
        directory = request.store.create(request.container_id)
        undo.push(directory.remove)
    container = Container(prepared, directory, _new_record(request, prepared))
    container.group = group
    if group:
        container.record.intel_rdt = group.record()
    directory.save(container.record)
    directory.save_config(prepared.raw)
    if prepared.notified:
        from pyrunc.lifecycle.notify import make_directory

        make_directory(directory)
    undo.push(lambda: _poststop(request, container))
    if group:
        undo.push(group.discard)
        group.create()
        container.record.intel_rdt = group.record()
    manager = prepared.manager
    with Undisturbed():
        manager.create()
        undo.push(manager.remove)
        # Without a PID namespace of its own, what init has started (a hook) does not end with init.
        undo.push(manager.kill)
    # Seldom: somebody made or removed a parent meanwhile, or (rootless) a hierarchy was left out.
    if (made := manager.record()) != container.record.cgroup:
        container.record.cgroup = made
        directory.save(container.record)
    mark(made, directory.path)
    manager.apply(prepared.config.get("linux", {}).get("resources") or {})
    request.log.debug(f"cgroup: {', '.join(sorted(set(manager.paths().values()))) or 'none'}")
    return container


def _resctrl_group(config: Config, container_id: str) -> Group | None:
    """The group that linux.intelRdt asks for; without it resctrl is never touched."""
    wanted = config.get("linux", {}).get("intelRdt")
    if wanted is None:
        return None
    from pyrunc.linux.intel_rdt import choose

    return choose(wanted, container_id)


def _new_record(request: Request, prepared: Prepared) -> Record:
    config, host = prepared.config, prepared.host
    first = prepared.choices.started_at
    pid = os.getpid()
    return Record(
        request.container_id,
        prepared.bundle,
        host.root,
        creator=(pid, start_time(pid) or 0),
        annotations=config.get("annotations") or {},
        owner=host.euid,
        cgroup=prepared.manager.intent(),
        keyring=prepared.choices.keyring,
        hooks=dict(config.get("hooks") or {}),
        texts=prepared.program.texts_from(first),
        texts_from=first,
        pid_namespace_private=is_new(config, "pid"),
        memory_limit=(config.get("linux", {}).get("resources") or {}).get("memory", {}).get("limit", 0),
    )


def _poststop(request: Request, container: Container) -> None:
    """runtime.md: when a hook of create fails, the container is destroyed and its poststop hooks run."""
    record = container.record
    if container.hooks_reached:
        state = state_document(record, STOPPED).encode()
        files = hook_files(record.annotations, record.bundle)
        for warning in hooks.run_poststop(record.hooks.get(POSTSTOP) or (), state, record.bundle, files):
            request.log.warning(warning)
