"""start: let the waiting init run the container's program (runtime.md "Lifecycle", steps 6 to 9)."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET
from _socket import socket as Socket
from time import monotonic

from pyrunc.config import POSTSTART
from pyrunc.config.annotations import wants_init
from pyrunc.errors import KernelError, PyruncError
from pyrunc.lifecycle.failure import saved_config, word
from pyrunc.lifecycle.liveness import open_process, stat_of, wait_end
from pyrunc.lifecycle.status import CREATED, RUNNING, check_allowed, current, load, state_document
from pyrunc.plan.talk import NAME, NAME_BEFORE, SAY_LISTENER, SAY_PID
from pyrunc.spawn.conversation import Conversation, StepFailed
from pyrunc.store.store import START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.log import Log
    from pyrunc.spawn.conversation import Message
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory, Store

#: Bytes. Below such a limit a program may not even be loaded, and is killed without a word.
_SMALL_MEMORY: Final = 2 << 20
#: Seconds that loading a program may take where memory is that short.
_LOADING: Final = 0.03
#: Seconds that init may take to end after it has said that a step failed, or after its child has ended.
_ENDING: Final = 2.0
#: Seconds between two looks at init.
_MOMENT: Final = 0.001


def start(store: Store, container_id: str, log: Log) -> None:
    """Carry out `pyrunc start`. With NOTIFY_SOCKET it returns when the container is ready (sd_notify(3)), or has ended.

    The socket is removed before the word is given: whoever sees it sees a container that can be started.
    Were this process killed in between, init would hear the end of the connection and end.
    """
    with store.open(container_id) as directory:
        proxy = None
        with directory.lock():
            record = load(directory)
            check_allowed("start", container_id, current(directory, record))
            pidfd = open_process(record.pid, record.start_time)
            if pidfd < 0:
                raise PyruncError("cannot start a container that has stopped", code="not-running")
            try:
                if os.environ.get("NOTIFY_SOCKET"):
                    from pyrunc.lifecycle.notify import open_proxy

                    proxy = open_proxy(directory, record, log, foreground=False)
                _start(directory, record, pidfd)
            except BaseException:
                os.close(pidfd)
                raise
        # Without the lock: until then the container is to be looked at, killed, deleted.
        try:
            if proxy is not None:
                proxy.until_ready(pidfd)
        finally:
            os.close(pidfd)


def _start(directory: Directory, record: Record, pidfd: int) -> None:
    root = open_root(record.pid)
    try:
        talk = Conversation(_connect(directory), record.text)
        os.unlink(START_SOCKET, dir_fd=directory.fd)
        talk.go()
        try:
            await_exec(talk, record, pidfd, lambda: saved_config(directory))
        except StepFailed as error:
            raise word(error, saved_config(directory), root) from error
        run_poststart(record, pidfd)
    finally:
        if root >= 0:
            os.close(root)


def open_root(pid: int) -> int:
    """The root of init, opened while it is there, for the case that its program cannot be executed.

    -1 where init has ended (why, the conversation tells), or where this process lacks CAP_SYS_PTRACE for the process
    of another user: then an error says less.
    """
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return -1


def _connect(directory: Directory) -> Socket:
    socket = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    try:
        socket.connect(f"/proc/self/fd/{directory.fd}/{START_SOCKET}")
    except OSError as error:
        socket.close()
        raise KernelError.of("connect to the container's init", error) from error
    return socket


def await_exec(
    talk: Conversation,
    record: Record,
    pidfd: int,
    config: Callable[[], Config],
    *,
    joined: int = 0,
    status: str = CREATED,
) -> None:
    """Wait until execve closes the conversation. Raises StepFailed, or PyruncError if init died instead.

    `pidfd`: of init; `config` gives the configuration of create, where it is needed. `joined`: not init, but a process
    of this pid that joins the container, which has this `status`.
    """
    pid, who = (joined, "the process") if joined else (record.pid, "container init")
    try:
        message = talk.hear()
        if message is not None and message.said == SAY_LISTENER:
            _hand_over_listener(message, pidfd, config(), record, status, pid)
            talk.go()
            message = talk.hear()
        if message is not None and message.said == SAY_PID:
            talk.go(b"%d" % message.value)
            message = talk.hear()
        if message is not None:
            raise PyruncError(f"pyrunc-init said {message.said} where nothing was due", code="init-protocol")
    except PyruncError as error:
        # Where a step has failed init ends by itself, with its own exit status. Unless it is not itself any more.
        if not (isinstance(error, StepFailed) and wait_end(pidfd, _ENDING)):
            _end(pidfd)
        raise
    talk.close()
    # execve names the process after its program; init's own name on a dead process means there was none.
    name = NAME
    if wants_init(record.annotations) and not joined:
        name = NAME_BEFORE
        _wait_for_init(pid, pidfd)
    small = 0 < record.memory_limit < _SMALL_MEMORY
    if small:
        # Loading the program comes after the end of the conversation, and takes memory, too.
        wait_end(pidfd, _LOADING)
    found = stat_of(pid)
    if found is None or found[0] not in "ZX":
        return
    executed = _name_of(pid) != name
    if executed and not small:
        return
    if killed := _oom_killed(record, who):
        raise killed
    if not executed:
        raise PyruncError(f"{who} was killed before it could execute its program", code="init-ended")


def _wait_for_init(pid: int, pidfd: int) -> None:
    """Wait until an init of the container's own has seen whether its child has executed its program, or was killed.

    No longer than `_ENDING`: a program that runs may have stopped its init.
    """
    until = monotonic() + _ENDING
    while _name_of(pid) == NAME_BEFORE and monotonic() < until and not wait_end(pidfd, _MOMENT):
        pass


def _oom_killed(record: Record, who: str) -> PyruncError | None:
    if record.cgroup:
        from pyrunc.linux.cgroups.manager import restore

        if restore(record.cgroup).oom_kills() > 0:
            return PyruncError(
                f"{who} was OOM-killed (memory limit too low?)",
                remedy="raise linux.resources.memory.limit",
                code="oom",
            )
    return None


def _hand_over_listener(
    message: Message, pidfd: int, config: Config, record: Record, status: str, pid: int
) -> None:
    """Give the seccomp agent its listener; without, the container cannot run."""
    from pyrunc.lifecycle.seccomp_agent import hand_over
    from pyrunc.linux.seccomp import notifies

    profile = config.get("linux", {}).get("seccomp")
    if not profile or not notifies(profile):
        raise PyruncError(
            "pyrunc-init has a seccomp listener, which linux.seccomp does not ask for", code="init-protocol"
        )
    hand_over(message, pidfd, profile, record, status, pid)


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def run_poststart(record: Record, pidfd: int) -> None:
    """Run the poststart hooks; where one fails the container is stopped (runtime.md, step 9)."""
    listed = record.hooks.get(POSTSTART)
    if not listed:
        return
    from pyrunc.config.annotations import hook_files
    from pyrunc.linux.hooks import run_hooks

    try:
        files = hook_files(record.annotations, record.bundle)
        run_hooks(POSTSTART, listed, state_document(record, RUNNING).encode(), record.bundle, files)
    except PyruncError:
        _end(pidfd)
        raise


def _end(pidfd: int) -> None:
    from pyrunc.linux.signals import SIGKILL, send

    try:
        send(pidfd, SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself
    wait_end(pidfd)
