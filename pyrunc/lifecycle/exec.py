"""exec: run one more process in a container (not an operation of the runtime-spec; the command line is runc's).

All that the process is under is that of the container as it was created: the configuration saved in the state
directory, never the bundle, which may have changed. Nothing about the container is stored, so no lock is taken, and a
`start` that hangs does not stand in the way.
"""

from __future__ import annotations

import os
from errno import EBUSY, EOPNOTSUPP

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLONE_NEWPID
from pyrunc.lifecycle.caller import check_terminal, extra_descriptors
from pyrunc.lifecycle.exec_request import process_of
from pyrunc.lifecycle.exec_target import find
from pyrunc.lifecycle.failure import word
from pyrunc.lifecycle.interrupt import Interruptible
from pyrunc.lifecycle.liveness import PATIENCE, wait_end
from pyrunc.lifecycle.start import await_exec
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux.cgroups.frozen import stops_in
from pyrunc.linux.cgroups.manager import restore
from pyrunc.linux.cpu_affinity import Initial
from pyrunc.linux.environment import needs_home
from pyrunc.linux.limits import own_limits
from pyrunc.linux.namespaces import has
from pyrunc.linux.signals import SIGKILL, send
from pyrunc.plan.exec import Joining, compile_exec, filters_early
from pyrunc.plan.host import probe
from pyrunc.plan.talk import PRIORITIES, READY, SAY_CONSOLE, SAY_LISTENER, SAY_PID, SAY_REACHED
from pyrunc.spawn.conversation import Conversation, InitEnded, StepFailed
from pyrunc.spawn.init import Init, spawn
from pyrunc.validate.check import check_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config, Process
    from pyrunc.lifecycle.exec_request import ExecRequest
    from pyrunc.lifecycle.exec_target import Target
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.spawn.conversation import Message
    from pyrunc.store.record import Record


def exec_process(request: ExecRequest) -> int:
    """Carry out `pyrunc exec`; the exit status: 0 when detached, else that of the process.

    Raises PyruncError; then no process is left behind.
    """
    target = find(request)
    try:
        return _exec(request, target)
    except PyruncError as error:
        if target.explains(error):
            raise PyruncError("cannot exec in a stopped container", code="not-running") from error
        raise
    finally:
        target.close()


def _exec(request: ExecRequest, target: Target) -> int:
    foreground = not request.detach
    process = process_of(request, target.config)
    host = probe()
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from pyrunc.linux.lsm import enabled

        host.security_modules = enabled()
    report = check_process(process, target.config, host, request.source)
    if request.file or request.overrides.capabilities:  # else `create` has said so
        for warning in report.warnings:
            request.log.warning(str(warning))
    check_terminal(process.get("terminal", False), request.console_socket, foreground)
    joiner = Joiner(request, target, process, host)
    with Undo(request.log) as undo:
        with Interruptible():
            joiner.join(undo)
            joiner.hand_over(undo)
        signals = -1
        if foreground:
            from pyrunc.lifecycle.foreground import adopt_size, block_signals

            signals = block_signals()
            if joiner.master >= 0:
                adopt_size(joiner.master)
        joiner.run()
        undo.keep()
    if not foreground:
        return 0
    from pyrunc.lifecycle.foreground import attend

    return attend(joiner.process.pid, joiner.process.pidfd, signals, joiner.master)


class Joiner:
    """The process on its way into the container. `process` is it once it exists, `master` its terminal, or -1."""

    def __init__(self, request: ExecRequest, target: Target, process: Process, host: Host) -> None:
        self._request = request
        self._target = target
        self.master = -1
        self.process: Init
        self._talk: Conversation
        self._flags = target.apart()
        config: Config = {**target.config, "process": process}
        if needs_home(config):
            process["env"] = [*(process.get("env") or ()), f"HOME={_home(config, target.root)}"]
        self._config = config
        self._early, self._late = _priorities(process)
        self._manager = _manager(request, target.record)
        self._frozen = stops_in(self._manager.paths())
        if self._frozen:
            self._manager.expect_frozen()
        bpf = _filter(config, request)
        self._filters_early = bpf is not None and filters_early(config, self._flags)
        joining = Joining(
            self._flags,
            keyring=target.record.keyring,
            extra_descriptors=extra_descriptors(request.preserve_fds),
            present=own_limits(config),
            waits=target.record.intel_rdt is not None,
            early=bool(self._early),
            filtered=self._filters_early,
            frozen=self._frozen,
        )
        self._program = compile_exec(config, host, joining, bpf, self._manager)
        request.log.debug(f"compiled the process to {len(self._program)} steps")

    def join(self, undo: Undo) -> None:
        """Lead the process to where it is ready to execute its program. Raises PyruncError."""
        first = self._spawn()
        self._talk = talk = Conversation(first.talk, self._program.text)
        undo.push(talk.close)
        undo.push(lambda: self._kill(first))
        self.process = first
        try:
            self._place(first.pid)
            if self._config["process"].get("terminal"):
                self.master = talk.expect(SAY_CONSOLE).descriptor
            if self._early:
                talk.expect(SAY_REACHED, PRIORITIES)
                self._apply(self._early, first.pid)
                talk.go()
            listens = self._listens()
            listener = talk.expect(SAY_LISTENER) if listens and self._filters_early else None
            if self._flags & CLONE_NEWPID:
                pid = talk.expect(SAY_PID).value
                second = self.process = Init(pid, os.pidfd_open(pid), first.talk)
                undo.push(lambda: self._kill(second))
                os.waitpid(first.pid, 0)
                if listener is None:
                    talk.go()
            if listens:
                self._give_agent(listener or talk.expect(SAY_LISTENER))
            talk.expect(SAY_REACHED, READY)
        except InitEnded as error:
            raise self._why_ended(error) from error
        except StepFailed as error:
            raise word(error, self._config, self._target.root) from error
        if self._late:
            self._apply(self._late, self.process.pid)
        self._request.log.debug(f"the process is {self.process.pid}")

    def _listens(self) -> bool:
        """Whether a listener for the seccomp agent comes before the process is ready."""
        profile = self._config.get("linux", {}).get("seccomp")
        if not profile or (self._config["process"].get("noNewPrivileges") and not self._filters_early):
            return False
        from pyrunc.linux.seccomp import notifies

        return notifies(profile)

    def _give_agent(self, message: Message) -> None:
        """Give the seccomp agent the listener of `message`, and let the process go on."""
        from pyrunc.lifecycle.seccomp_agent import hand_over

        record, process = self._target.record, self.process
        profile = self._config["linux"]["seccomp"]
        hand_over(message, process.pidfd, profile, record, self._target.status, process.pid)
        self._talk.go()

    def hand_over(self, undo: Undo) -> None:
        """Give the caller what it asked for; last the pid file, which says that all is well."""
        request = self._request
        if request.pidfd_socket or request.console_socket:
            from pyrunc.lifecycle.console import send_descriptor

            if request.pidfd_socket:
                send_descriptor(request.pidfd_socket, self.process.pidfd, "pidfd", "pidfd")
            if request.console_socket:
                send_descriptor(request.console_socket, self.master, "/dev/ptmx", "terminal")
                os.close(self.master)
                self.master = -1
        if request.pid_file:
            from pyrunc.lifecycle.hand_over import write_pid_file

            write_pid_file(request.pid_file, self.process.pid)
            undo.push(lambda: os.unlink(request.pid_file))

    def run(self) -> None:
        """Give the last word, and wait until the program runs. Raises PyruncError."""
        target, process = self._target, self.process
        try:
            self._talk.go()
            await_exec(
                self._talk,
                target.record,
                process.pidfd,
                lambda: self._config,
                joined=process.pid,
                status=target.status,
            )
        except InitEnded as error:
            raise self._why_ended(error) from error
        except StepFailed as error:
            raise word(error, self._config, target.root) from error

    def _spawn(self) -> Init:
        """Start the first stage, in the container's cgroup."""
        manager, record = self._manager, self._target.record
        entrances = manager.entrances()
        supplies = {**entrances, "init": self._target.pidfd}
        if not has(self._config, "mount"):
            if self._target.root < 0:
                raise PyruncError(
                    "the root of the container, which has no mount namespace, cannot be opened",
                    code="unsupported",
                )
            supplies["root"] = self._target.root
        directory = manager.directory()
        try:
            with Initial(self._config):
                return _spawn_in(self._program, supplies, directory)
        except KernelError as error:
            # As runc: where the container's cgroup takes no processes, the first one has moved on, to one below.
            if directory is None or self._request.cgroups or error.number not in (EBUSY, EOPNOTSUPP):
                raise
            from pyrunc.linux.cgroups.below import open_with

            os.close(directory)
            directory = open_with(manager.paths()[""], record.pid)
            if directory < 0:
                directory = None
                raise
            path = os.readlink(f"/proc/self/fd/{directory}")
            if stops_in({"": path}):
                # By the container itself, maybe. Whoever clones into there waits, and hears no signal.
                text = f"cannot exec in the cgroup of the container's first process: {path} is frozen"
                raise PyruncError(text, remedy="thaw it, or use --cgroup", code="paused") from error
            with Initial(self._config):
                return _spawn_in(self._program, supplies, directory)
        finally:
            for descriptor in (*entrances.values(), -1 if directory is None else directory):
                if descriptor >= 0:
                    os.close(descriptor)

    def _place(self, pid: int) -> None:
        """Put the first stage, which waits for that, where it cannot go by itself."""
        if self._target.record.intel_rdt is not None:
            from pyrunc.linux.intel_rdt import Group, mount_point

            Group(mount_point(), self._config["linux"]["intelRdt"], self._target.record.id).enter(pid)
            self._talk.go()
        if self._manager.join(pid):
            self._talk.go()

    def _apply(self, priorities: Process, pid: int) -> None:
        from pyrunc.lifecycle.priorities import apply_priorities

        apply_priorities(priorities, pid, self._manager.paths())

    def _kill(self, process: Init) -> None:
        """End a process and collect it. In a cgroup v1 that is frozen, maybe just now, it ends when that is thawed."""
        try:
            send(process.pidfd, SIGKILL)
            if wait_end(process.pidfd, 1 if self._frozen else PATIENCE):
                os.waitpid(process.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, and was collected, before

    def _why_ended(self, error: InitEnded) -> PyruncError:
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self.process.pid, 0)[1])
        except ChildProcessError:
            return error
        if status == -SIGKILL and self._manager.oom_kills() > 0:
            return PyruncError(
                "the process was killed before it could execute its program (possibly OOM-killed)",
                remedy="is the memory limit too low?",
                code="oom",
            )
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return PyruncError(f"the process ended before it could execute its program: {how}", code="init-ended")


def _spawn_in(program: Program, supplies: dict[str, int], directory: int | None) -> Init:
    return spawn(program, 0, supplies, -1 if directory is None else directory)


def _manager(request: ExecRequest, record: Record) -> Manager:
    if record.cgroup is None:
        from pyrunc.linux.cgroups import disabled

        manager: Manager = disabled.Manager({})
    else:
        manager = restore(record.cgroup)
    if request.cgroups:
        from pyrunc.linux.cgroups.below import parse

        manager.descend(parse(request.cgroups))
    return manager


def _filter(config: Config, request: ExecRequest) -> bytes | None:
    if not config.get("linux", {}).get("seccomp"):
        return None
    from pyrunc.linux.seccomp import filter_of

    return filter_of(config, request.store.root)


def _home(config: Config, root: int) -> str:
    if root < 0:
        return "/"
    from pyrunc.lifecycle.home import home_in

    return home_in(root, config)


def _priorities(process: Process) -> tuple[Process | None, Process | None]:
    """The part of scheduler and I/O priority that the second stage inherits, and what only itself can be given."""
    scheduler = process.get("scheduler")
    priority = process.get("ioPriority")
    if not scheduler and not priority:
        return None, None
    early: Process = {"cwd": process["cwd"], "args": process["args"]}
    late: Process | None = None
    if priority:
        early["ioPriority"] = priority
    if scheduler:
        from pyrunc.linux.scheduler import is_inherited

        if is_inherited(scheduler):
            early["scheduler"] = scheduler
        else:
            late = {"cwd": process["cwd"], "args": process["args"], "scheduler": scheduler}
    return (early if priority or not late else None), late
