"""The conversation with criu: `criu swrk` on a socket pair, one request at a time (`linux.criu.rpc`).

criu is a child of this process, and with `rst_sibling` so is what it restores. It does nothing behind our back: it
asks at each stage, and where it hears no answer, for we have ended, it takes back what it has done: a container that
was being dumped runs on, one that was being restored ends.
"""

from __future__ import annotations

import os
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC
from _socket import socket as Socket
from struct import unpack_from

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLONE_NEWNS
from pyrunc.linux.cgroups.layout import unified_flags
from pyrunc.linux.criu import log as criu_log
from pyrunc.linux.criu import rpc
from pyrunc.linux.criu.start import IMAGES, OUTPUT, STDIO, WORK, Surroundings, find, plan
from pyrunc.linux.criu.unified import put_back
from pyrunc.linux.signals import SIGKILL, send
from pyrunc.plan.talk import SAY_CRIU
from pyrunc.spawn.conversation import Conversation
from pyrunc.spawn.init import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from pyrunc.linux.cgroups.manager import Manager

    #: Called with the notification's name, the pid in it (0: none) and a descriptor that came with it (-1: none).
    Notified = Callable[[str, int, int], None]

#: The oldest criu that can do all that is asked of it here: --network-lock and --lsm-mount-context.
OLDEST: Final = (3, 16)
#: Messages are small; the longest has an error text.
_MESSAGE_MAX: Final = 1 << 16
#: Where criu's own settings for containers are looked for, the first that exists; the second is runc's.
_SETTINGS: Final = ("/etc/criu/pyrunc.conf", "/etc/criu/runc.conf")


class Criu:
    """A running `criu swrk`. As a context it is ended, and waited for, at the end of the block."""

    def __init__(self, around: Surroundings, supplies: Mapping[str, int], *, expendable: bool) -> None:
        """Start it. `supplies`: the descriptors that `around.kept` names. Raises PyruncError.

        `expendable`: it may be killed where something fails.
        """
        self._expendable = expendable
        self._cgroup_flags = unified_flags()
        self._path = find()
        if not self._path:
            raise PyruncError(
                "criu: executable file not found in $PATH", remedy="install criu 3.16 or later", code="criu"
            )
        environment = [name + b"=" + value for name, value in os.environb.items()]
        program = plan(self._path, environment, around)
        #: The numbers that its descriptors have for criu.
        self.numbers = {name: program.inherit(name) for name in (IMAGES, WORK, *STDIO, *around.kept)}
        #: What it writes before it has a log, in memory.
        self._output = os.memfd_create("criu-output", os.MFD_CLOEXEC)
        given = {**supplies, OUTPUT: self._output, **{name: number for number, name in enumerate(STDIO)}}
        cgroup, entrances = _ways_in(around.manager)
        try:
            child = spawn(program, CLONE_NEWNS if around.root else 0, {**given, **entrances}, cgroup)
        finally:
            for descriptor in (cgroup, *entrances.values()):
                if descriptor >= 0:
                    os.close(descriptor)
        self.pid, self.pidfd = child.pid, child.pidfd
        self.status: int | None = None
        self.said = ""
        self._socket: Socket | None = None
        talk = Conversation(child.talk, program.text)
        try:
            if around.manager is not None and around.manager.admit(child.pid):
                talk.go()
            self._socket = Socket(fileno=talk.expect(SAY_CRIU).descriptor)
            talk.hear()  # the end of file: it has been executed
        except BaseException:
            talk.close()
            self.end()
            raise
        talk.close()

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self.end(kill=kind is not None and self._expendable)

    def end(self, *, kill: bool = False) -> None:
        """Let it end, and wait until it has; what it has not finished it takes back. May be called again.

        `kill`: do not rely on it, for it can wait for ever for a lazy page. Never in a dump: only criu itself can take
        its code out of the container's processes again.
        """
        if self._socket is not None:
            self._socket.close()
        if self.status is None:
            if kill:
                send(self.pidfd, SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
            self.said = os.pread(self._output, _MESSAGE_MAX, 0).decode("utf-8", "replace").strip()
            os.close(self._output)
            put_back(self._cgroup_flags)

    def check(self, feature: str = "", why: str = "") -> None:
        """Raise PyruncError where this criu is too old, or with this kernel lacks `feature`, needed for `why`."""
        version = self._ask(rpc.VERSION, keep_open=True).get("version", {})
        number = (version.get("major_number", 0), version.get("minor_number", 0))
        if number < OLDEST:
            raise PyruncError(
                f"criu {number[0]}.{number[1]} is too old", remedy="install criu 3.16 or later", code="criu"
            )
        if feature:
            found = self._ask(rpc.FEATURE_CHECK, keep_open=True, features={feature: True})
            if not found.get("features", {}).get(feature):
                raise PyruncError(
                    f"{why} is not possible here: criu has no {feature} with this kernel", code="unsupported"
                )

    def _ask(self, kind: int, **fields: Any) -> Mapping[str, Any]:
        self._send(rpc.request(kind, **fields))
        answer, _ = self._receive()
        if not answer.get("success"):
            raise PyruncError(f"criu did not answer {rpc.NAMES[kind]}", code="criu")
        return answer

    def carry_out(self, kind: int, options: Mapping[str, Any], notified: Notified) -> Mapping[str, Any]:
        """The response to a request, after all notifications. Raises PyruncError where criu says that it failed."""
        directories = {"images_dir_fd": self.numbers[IMAGES], "work_dir_fd": self.numbers[WORK]}
        self._send(rpc.request(kind, opts={**directories, **options, "notify_scripts": True}))
        while True:
            answer, descriptor = self._receive()
            if answer.get("type") != rpc.NOTIFY:
                break
            notice = answer.get("notify", {})
            notified(notice.get("script", ""), notice.get("pid", 0), descriptor)
            self._send(rpc.request(rpc.NOTIFY, notify_success=True))
        if not answer.get("success"):
            self.end(kill=self._expendable)
            text = f"criu failed: type {rpc.NAMES[kind]} errno {answer.get('cr_errno', 0)}"
            raise PyruncError(f"{text}: {self.said}" if self.said else text, code="criu")
        return answer

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(message)
        except OSError as error:
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise KernelError.of("speak to criu", error) from error
            raise self._gone() from error

    def _receive(self) -> tuple[Mapping[str, Any], int]:
        """A message of criu's and the descriptor that came with it, or -1."""
        assert self._socket is not None
        try:
            raw, ancillary, _, _ = self._socket.recvmsg(_MESSAGE_MAX, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
        except ConnectionResetError as error:
            raise self._gone() from error
        descriptor = -1
        for _, _, payload in ancillary:
            descriptor = unpack_from("<i", payload)[0]
        if not raw:
            raise self._gone()
        return rpc.response(raw), descriptor

    def _gone(self) -> PyruncError:
        self.end()
        assert self.status is not None
        how = f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"
        text = f"criu ended unexpectedly: {how}{': ' if self.said else ''}{self.said}"
        return PyruncError(text, remedy=f"does {self._path} run?", code="criu")


def _ways_in(manager: Manager | None) -> tuple[int, dict[str, int]]:
    """The descriptors by which a process enters the container's cgroup as it starts: the v2 directory, and others."""
    if manager is None:
        return -1, {}
    directory = manager.directory()
    return -1 if directory is None else directory, manager.entrances()


class Images:
    """The directories of the images and of the log, open; `close` closes them.

    `path`: of the images. `work_path`: of criu's log, named `log`, and its other notes; by default the same.
    """

    __slots__ = ("_before", "directory", "log", "path", "work", "work_path")

    def __init__(self, path: str, work_path: str, log: str, *, make: bool) -> None:
        """Open them. `make`: a missing directory of images is made. Raises KernelError."""
        self.path, self.work_path = path, work_path or path
        self.directory = _open(path, "image", make)
        try:
            self.work = _open(self.work_path, "work", make or bool(work_path))
        except BaseException:
            os.close(self.directory)
            raise
        self.log = log
        self._before = self._written()

    def close(self) -> None:
        """Close both."""
        os.close(self.directory)
        os.close(self.work)

    def _written(self) -> tuple[int, int, int]:
        """What changes when criu begins its log: there may be one of an earlier call."""
        try:
            status = os.stat(self.log, dir_fd=self.work, follow_symlinks=False)
        except FileNotFoundError:
            return 0, 0, 0
        except OSError as error:
            raise KernelError.of(f"look at {self.work_path}/{self.log}", error) from error
        return status.st_ino, status.st_size, status.st_mtime_ns

    def explain(self, error: PyruncError) -> PyruncError:
        """`error`, with what criu's log says if it is criu's and got as far as that."""
        if error.code != "criu" or self._written() == self._before:
            return error
        said = criu_log.errors(self.work, self.log)
        text = f"{error.message}: {said}" if said else error.message
        remedy = error.remedy or f"the whole log is {self.work_path}/{self.log}"
        return PyruncError(text, remedy=remedy, code="criu")


def _open(path: str, what: str, make: bool) -> int:
    try:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of(f"open the {what} directory {path}", error) from error


def settings(annotations: Mapping[str, str], bundle: str) -> str | None:
    """The file with criu's settings for this container: what the annotation says (empty: none), else the host's."""
    from pyrunc.config.annotations import CRIU_CONFIG

    named = annotations.get(CRIU_CONFIG)
    if named is not None:
        return os.path.join(bundle, named) if named else None
    return next((path for path in _SETTINGS if os.path.isfile(path)), None)


def check_may(verb: str) -> None:
    """Raise PyruncError for who is not root of the host: criu dumps and makes no namespaces for others.

    CAP_CHECKPOINT_RESTORE lets criu work on plain processes of one's own, which no container is.
    """
    from pyrunc.kernel.procfs import in_user_namespace

    if os.geteuid() != 0 or in_user_namespace():
        raise PyruncError(
            f"{verb} is not possible for rootless containers",
            remedy="criu needs the host's root to dump and to restore namespaces",
            code="unsupported",
        )
