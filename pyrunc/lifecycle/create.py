"""create: from a bundle to a container whose init waits to be started (runtime.md "Lifecycle", steps 1 to 5).

The order, and why: the state directory is claimed first, because the claim is what makes the id unique. The
record is saved before the cgroup is made, with all that is going to be made, so that `delete --force` finds it
after a crash; and again with init's pid, before a hook of the container can run. Limits are set before init
enters the cgroup, its first step, so that nothing ever runs without them. The record is saved as ready before init
is released to where `start` can reach it. Whatever fails, `Undo` takes back what was made, newest first.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET
from _socket import socket as Socket
from fcntl import F_SETFL, fcntl

from pyrunc.config.annotations import PIDFD_RECEIVER, hook_files
from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE
from pyrunc.kernel.procfs import own_pid
from pyrunc.lifecycle.console import send_descriptor
from pyrunc.lifecycle.failure import save_config, word
from pyrunc.lifecycle.home import home_of
from pyrunc.lifecycle.interrupt import Interruptible, Undisturbed
from pyrunc.lifecycle.liveness import start_time
from pyrunc.lifecycle.prepare import prepare
from pyrunc.lifecycle.status import CREATED, CREATING, STOPPED, state_document
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux import hooks
from pyrunc.linux.idmap import write_maps
from pyrunc.linux.limits import apply_oom_score_adj, apply_rlimits
from pyrunc.linux.namespaces import has, is_new, joined, new_flags
from pyrunc.linux.seccomp import notifies
from pyrunc.plan.talk import (
    HOME,
    HOOKS,
    PID,
    PRIORITIES,
    READY,
    SAY_CONSOLE,
    SAY_LISTENER,
    SAY_PID,
    SAY_REACHED,
)
from pyrunc.spawn.conversation import Conversation, InitEnded, StepFailed
from pyrunc.spawn.init import Init, spawn
from pyrunc.store.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.prepare import Prepared
    from pyrunc.lifecycle.request import Request
    from pyrunc.linux.intel_rdt import Group
    from pyrunc.store.store import Directory


#: How many descriptors any limit of open files allows init to hold: the usual soft limit is 1024.
HELD_EASILY = 500


class Container:
    """A container whose init is ready: what `start` and `run` need of it."""

    __slots__ = ("directory", "hooks_reached", "init", "master", "open_files", "prepared", "record", "talk")

    def __init__(self, prepared: Prepared, directory: Directory, record: Record) -> None:
        self.prepared = prepared
        self.directory = directory
        self.record = record
        self.init: Init | None = None
        self.talk: Conversation | None = None
        self.master = -1
        self.hooks_reached = False
        self.open_files = (
            b""  # the limits that init had (struct rlimit64), where they were raised for its mounts
        )


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
        group = _resctrl_group(prepared.config, request.container_id)
        with Undisturbed():
            directory = request.store.create(request.container_id)
            undo.push(directory.remove)
        container = Container(prepared, directory, _new_record(request, prepared))
        if group:
            container.record.intel_rdt = group.record()
        directory.save(container.record)
        save_config(directory, prepared.raw)
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
        manager.apply(prepared.config.get("linux", {}).get("resources") or {})
        debug(f"cgroup: {', '.join(sorted(set(manager.paths().values()))) or 'none'}")
        try:
            _start_init(container, undo)
            debug(f"init is process {container.record.pid}")
            if group:
                group.enter(container.record.pid)  # before init can start another process
            _converse(container, undo)
        except InitEnded as error:
            raise _why(error, container) from error
        except StepFailed as error:
            raise word(error, prepared.config) from error
        container.record.ready = True
        directory.save(container.record)
        debug("init is ready")
    finally:
        prepared.close()
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
        hooks=dict(config.get("hooks") or {}),
        texts=prepared.program.texts_from(first),
        texts_from=first,
        pid_namespace_private=is_new(config, "pid"),
        memory_limit=(config.get("linux", {}).get("resources") or {}).get("memory", {}).get("limit", 0),
    )


def _listener(directory: Directory) -> Socket:
    """The socket on which init waits for `start`; its name is short, whatever the state root's path is."""
    socket = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    os.fchmod(socket.fileno(), 0o600)  # the mode of the file that bind makes, less the umask (unix(7))
    socket.bind(f"/proc/self/fd/{directory.fd}/{directory.socket}")
    socket.listen(1)
    return socket


def _start_init(container: Container, undo: Undo) -> None:
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
        write_maps(config, prepared.host, init.pid)
        if program.held > HELD_EASILY:
            from pyrunc.lifecycle.mounts import let_open

            container.open_files = let_open(init.pid, program.held)
        container.talk.go()


def _second_stage(talk: Conversation, first: Init, undo: Undo) -> Init:
    """Learn the pid of the process that the first stage cloned, a child of this one, and reap the first stage."""
    pid = talk.expect(SAY_PID).value
    second = Init(pid, os.pidfd_open(pid), first.talk)
    undo.push(lambda: _kill(second))
    os.waitpid(first.pid, 0)
    return second


def _write_hook_states(container: Container, supplies: dict[str, int]) -> None:
    """Hooks inside the container see the pid that init has there: 1 in a new PID namespace."""
    record = container.record
    inner = 1 if record.pid_namespace_private else own_pid(record.pid)
    for name, status in (("hook-state", CREATING), ("start-hook-state", CREATED)):
        if name in supplies:
            os.pwrite(supplies[name], state_document(record, status, pid=inner).encode(), 0)
            fcntl(supplies[name], F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)


def _converse(container: Container, undo: Undo) -> None:
    """Lead init from its namespaces to where it is ready (the drawing is in pyrunc.plan.talk)."""
    prepared, talk, init = container.prepared, container.talk, container.init
    assert talk is not None and init is not None
    config = prepared.config
    given = prepared.program.given
    if given and given[0][0] != SAY_CONSOLE:
        from pyrunc.lifecycle import mounts

        mounts.serve(prepared.program, config, prepared.bundle, talk, prepared.manager, init.pid)
    if config["process"].get("terminal", False):
        container.master = talk.expect(SAY_CONSOLE).descriptor
    talk.expect(SAY_REACHED, HOOKS)
    if container.open_files:
        from pyrunc.lifecycle.mounts import take_back

        take_back(init.pid, container.open_files)
    # From outside, while init still is root: raising limits takes privileges that it gives up next.
    apply_rlimits(config, init.pid)
    apply_oom_score_adj(config, init.pid)
    if config.get("linux", {}).get("netDevices"):
        from pyrunc.linux.net_devices.move import move

        move(config, init.pid, undo.push)  # before the hooks, which may configure them
    listed = config.get("hooks") or {}
    if listed:
        container.hooks_reached = True
        state = state_document(container.record, CREATING).encode()
        files = hook_files(config.get("annotations"), prepared.bundle)
        hooks.run_hooks("prestart", listed.get("prestart") or (), state, prepared.bundle, files)
        hooks.run_hooks("createRuntime", listed.get("createRuntime") or (), state, prepared.bundle, files)
    talk.go()
    if prepared.choices.asks_pid:
        talk.expect(SAY_REACHED, PID)
        talk.go(b"%d" % own_pid(init.pid))
    if prepared.choices.asks_home:
        talk.expect(SAY_REACHED, HOME)
        talk.go(os.fsencode(home_of(init.pid, config)))
    if prepared.choices.asks_priorities:
        from pyrunc.lifecycle.priorities import apply_priorities

        talk.expect(SAY_REACHED, PRIORITIES)
        apply_priorities(config["process"], init.pid, prepared.host.cgroups)
        talk.go()
    profile = config.get("linux", {}).get("seccomp")
    if profile and notifies(profile) and not config["process"].get("noNewPrivileges"):
        from pyrunc.lifecycle.seccomp_agent import hand_over as hand_over_listener

        listener = talk.expect(SAY_LISTENER)
        hand_over_listener(listener, init.pidfd, profile, container.record, CREATING)
        talk.go()
    talk.expect(SAY_REACHED, READY)


def hand_over(request: Request, container: Container) -> None:
    """Give the caller what it asked for: pidfd, terminal, and last the pid file, which says that all is well."""
    init = container.init
    assert init is not None
    receiver = container.record.annotations.get(PIDFD_RECEIVER)
    for path in (request.pidfd_socket, receiver and os.path.join(container.record.bundle, receiver)):
        if path:
            send_descriptor(path, init.pidfd, "pidfd", "pidfd")
    if request.console_socket:
        send_descriptor(request.console_socket, container.master, "/dev/ptmx", "terminal")
        os.close(container.master)
        container.master = -1
    if request.pid_file:
        _write_pid_file(request.pid_file, init.pid)


def _write_pid_file(path: str, pid: int) -> None:
    """The decimal pid without a newline, by rename, so that nobody reads half of it (go-runc, conmon)."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
        )
        try:
            os.write(descriptor, b"%d" % pid)
        finally:
            os.close(descriptor)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise KernelError.of(f"write the pid file {path}", error) from error


def _kill(init: Init) -> None:
    """End init and collect it."""
    from pyrunc.linux.signals import SIGKILL, send

    try:
        send(init.pidfd, SIGKILL)
        os.waitpid(init.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it has ended, and was collected, before


def _poststop(request: Request, container: Container) -> None:
    """runtime.md: when a hook of create fails, the container is destroyed and its poststop hooks run."""
    record = container.record
    if container.hooks_reached:
        state = state_document(record, STOPPED).encode()
        files = hook_files(record.annotations, record.bundle)
        for warning in hooks.run_poststop(record.hooks.get("poststop") or (), state, record.bundle, files):
            request.log.warning(warning)


def _why(error: InitEnded, container: Container) -> PyruncError:
    """Say why init ended without a word: the OOM killer, a signal, or its exit status."""
    if container.prepared.manager.oom_kills() > 0:
        return PyruncError(
            "container init was OOM-killed (memory limit too low?)",
            remedy="raise linux.resources.memory.limit",
            code="oom",
        )
    init = container.init
    if init is None:
        return error
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(init.pid, 0)[1])
    except ChildProcessError:
        return error
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return PyruncError(f"{error.message}: {how}", code="init-ended")
