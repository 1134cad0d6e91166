"""Starting init: with every descriptor that its program names, in its cgroup, with its ids mapped."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET
from _socket import socket as Socket
from fcntl import F_SETFL, fcntl

from pyrunc.config.annotations import hook_files
from pyrunc.errors import PyruncError
from pyrunc.kernel.constants import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE
from pyrunc.kernel.procfs import own_pid
from pyrunc.lifecycle.liveness import start_time, wait_end
from pyrunc.lifecycle.status import CREATED, CREATING, state_document
from pyrunc.linux import hooks
from pyrunc.linux.cgroups.mark import mark
from pyrunc.linux.idmap import write_maps
from pyrunc.linux.namespaces import has, joined, new_flags
from pyrunc.plan.talk import SAY_PID
from pyrunc.spawn.conversation import Conversation, InitEnded
from pyrunc.spawn.init import Init, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.container import Container
    from pyrunc.lifecycle.undo import Undo
    from pyrunc.plan.host import Host
    from pyrunc.store.store import Directory

#: How many descriptors any limit of open files allows init to hold: the usual soft limit is 1024.
HELD_EASILY: Final = 500


def _listener(directory: Directory) -> Socket:
    """The socket on which init waits for `start`; its name is short, whatever the state root's path is."""
    socket = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    os.fchmod(socket.fileno(), 0o600)  # the mode of the file that bind makes, less the umask (unix(7))
    socket.bind(f"/proc/self/fd/{directory.fd}/{directory.socket}")
    socket.listen(1)
    return socket


def start_init(container: Container, undo: Undo) -> None:
    """Spawn init with everything it inherits, and map its ids."""
    prepared = container.prepared
    program, config = prepared.program, prepared.config
    entrances = prepared.manager.entrances()
    supplies = {**prepared.joins, **entrances}
    opened = list(entrances.values())
    listener = None
    if "listener" in program.slots:
        listener = _listener(container.directory)
        supplies["listener"] = listener.fileno()
    for name in ("hook-state", "start-hook-state"):
        if name in program.slots:
            supplies[name] = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            opened.append(supplies[name])
    if "hook-output" in program.slots:
        # Memory, charged to the container as it is written; a file of the host could be made to fill its disk.
        supplies["hook-output"] = os.memfd_create("hook-output", os.MFD_CLOEXEC)
        fcntl(supplies["hook-output"], F_SETFL, os.O_APPEND)
        opened.append(supplies["hook-output"])
    if "hook-stdout" in program.slots or "hook-stderr" in program.slots:
        given = hooks.open_outputs(hook_files(config.get("annotations"), prepared.bundle))
        supplies.update(given)
        opened += given.values()
    cgroup = prepared.manager.directory()
    flags = 0 if joined(config) else new_flags(config)
    try:
        first = spawn(program, flags, supplies, -1 if cgroup is None else cgroup)
    finally:
        if cgroup is not None:
            os.close(cgroup)
    container.talk = Conversation(first.talk, program.text)
    undo.push(container.talk.close)
    undo.push(lambda: _kill(first))
    if listener is not None:
        listener.close()
    if prepared.manager.admit(first.pid):
        # From here on there is a cgroup that is this container's: the record names init only now, because
        # `delete` kills whoever shares the cgroup with an init that it names.
        container.record.cgroup = prepared.manager.record()
        mark(container.record.cgroup, container.directory.path)
        container.talk.go()
    init = _second_stage(container.talk, first, undo) if joined(config) else first
    container.init = init
    container.record.pid = init.pid
    container.record.start_time = start_time(init.pid) or 0
    # While init is at work on its mounts. From its first hook on it hears nothing, and the end of this process
    # would not end it: by then the record has to tell who it is.
    container.directory.save(container.record)
    _write_hook_states(container, supplies)
    for descriptor in opened:
        os.close(descriptor)
    if has(config, "user"):
        _map_ids(config, prepared.host, init)
        if program.held > HELD_EASILY:
            from pyrunc.lifecycle.mounts import let_open

            container.open_files = let_open(init.pid, program.held)
        container.talk.go()


def _map_ids(config: Config, host: Host, init: Init) -> None:
    """Map the ids of init. Raises InitEnded where it has ended: the maps of a dead process cannot be written."""
    try:
        write_maps(config, host, init.pid)
    except PyruncError as error:
        if wait_end(init.pidfd, 0):
            raise InitEnded("container init exited unexpectedly") from error
        raise


def _second_stage(talk: Conversation, first: Init, undo: Undo) -> Init:
    """Learn the pid of the process that the first stage cloned, a child of this one, and reap the first stage."""
    pid = talk.expect(SAY_PID).value
    second = Init(pid, os.pidfd_open(pid), first.talk)
    undo.push(lambda: _kill(second))
    os.waitpid(first.pid, 0)
    talk.go()
    return second


def _write_hook_states(container: Container, supplies: dict[str, int]) -> None:
    """Hooks inside the container see the pid that init has there: 1 in a new PID namespace."""
    record = container.record
    inner = 1 if record.pid_namespace_private else own_pid(record.pid)
    for name, status in (("hook-state", CREATING), ("start-hook-state", CREATED)):
        if name in supplies:
            os.pwrite(supplies[name], state_document(record, status, pid=inner).encode(), 0)
            fcntl(supplies[name], F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)


def _kill(init: Init) -> None:
    """End init and collect it."""
    from pyrunc.linux.signals import SIGKILL, send

    try:
        send(init.pidfd, SIGKILL)
        os.waitpid(init.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it has ended, and was collected, before
