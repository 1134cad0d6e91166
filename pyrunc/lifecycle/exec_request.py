"""What `exec` is asked to do, and the process that comes of it: from a file, or from words and the configuration."""

from __future__ import annotations

from pyrunc.config.load import load_document
from pyrunc.errors import PyruncError, Rejected
from pyrunc.linux.capabilities import NUMBERS
from pyrunc.validate.report import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pyrunc.config.spec import Config, Process, User
    from pyrunc.log import Log
    from pyrunc.store.store import Store

#: What a process that is given in a file has from the container where it says nothing itself, as with runc. The rest,
#: such as its environment, user and noNewPrivileges, is the file's alone: who writes one leaves out what is false.
INHERITED: Final = (
    "rlimits",
    "capabilities",
    "apparmorProfile",
    "selinuxLabel",
    "oomScoreAdj",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
)
#: (uid_t)-1 is no id; chown(2) and setresuid(2) take it as "leave unchanged".
ID_MAX: Final = 0xFFFF_FFFE


class Overrides:
    """What the command line changes in the container's own process. "" and None: nothing.

    `user`: UID[:GID]. `env`, `capabilities`, `additional_gids`: added to what is there.
    """

    __slots__ = (
        "additional_gids",
        "apparmor",
        "capabilities",
        "cwd",
        "env",
        "no_new_privileges",
        "selinux",
        "terminal",
        "user",
    )

    def __init__(
        self,
        *,
        cwd: str = "",
        env: Sequence[str] = (),
        terminal: bool = False,
        user: str = "",
        additional_gids: Sequence[str] = (),
        capabilities: Sequence[str] = (),
        apparmor: str = "",
        selinux: str = "",
        no_new_privileges: bool | None = None,
    ) -> None:
        self.cwd = cwd
        self.env = env
        self.terminal = terminal
        self.user = user
        self.additional_gids = additional_gids
        self.capabilities = capabilities
        self.apparmor = apparmor
        self.selinux = selinux
        self.no_new_privileges = no_new_privileges


class ExecRequest:
    """A process to run in a container. All paths are absolute; an empty one means that the option was not given.

    `file`: with the process as JSON; else it is `words`, with `overrides`. `cgroups`: of --cgroup. `preserve_fds`:
    how many descriptors after stdio the process keeps.
    """

    __slots__ = (
        "cgroups",
        "console_socket",
        "container_id",
        "detach",
        "file",
        "ignore_paused",
        "log",
        "overrides",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
        "store",
        "words",
    )

    def __init__(
        self,
        store: Store,
        container_id: str,
        log: Log,
        *,
        file: str = "",
        words: Sequence[str] = (),
        overrides: Overrides | None = None,
        console_socket: str = "",
        pidfd_socket: str = "",
        pid_file: str = "",
        detach: bool = False,
        preserve_fds: int = 0,
        cgroups: Sequence[str] = (),
        ignore_paused: bool = False,
    ) -> None:
        self.store = store
        self.container_id = container_id
        self.log = log
        self.file = file
        self.words = words
        self.overrides = overrides or Overrides()
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pid_file = pid_file
        self.detach = detach
        self.preserve_fds = preserve_fds
        self.cgroups = cgroups
        self.ignore_paused = ignore_paused

    @property
    def source(self) -> str:
        """What the process comes from, for errors."""
        return self.file or "process"


def process_of(request: ExecRequest, config: Config) -> Process:
    """The process that is asked for, in the container of `config`. Its shape is not checked yet. Raises PyruncError."""
    if request.file:
        return _from_file(request.file, config)
    if not request.words:
        raise PyruncError("process args cannot be empty", remedy="give a command, or --process", code="usage")
    return _from_words(request.words, request.overrides, config)


def _from_file(path: str, config: Config) -> Process:
    found, source = load_document(path)
    if not isinstance(found, dict):
        raise Rejected([Problem("", "is no JSON object")], source)
    process: Any = found
    own: Any = config["process"]
    for name in INHERITED:
        if name in own:
            process.setdefault(name, own[name])
    mask = (config["process"].get("user") or {}).get("umask")
    user = process.setdefault("user", {})
    if mask is not None and isinstance(user, dict):
        user.setdefault("umask", mask)
    result: Process = process
    return result


def _from_words(words: Sequence[str], overrides: Overrides, config: Config) -> Process:
    process: Process = {**config["process"], "args": list(words), "terminal": overrides.terminal}
    if not overrides.terminal:
        process.pop("consoleSize", None)
    process["env"] = [*(process.get("env") or ()), *overrides.env]
    if overrides.cwd:
        process["cwd"] = overrides.cwd
    if overrides.apparmor:
        process["apparmorProfile"] = overrides.apparmor
    if overrides.selinux:
        process["selinuxLabel"] = overrides.selinux
    if overrides.no_new_privileges is not None:
        process["noNewPrivileges"] = overrides.no_new_privileges
    _change_user(process, overrides)
    if overrides.capabilities:
        _add_capabilities(process, overrides.capabilities)
    return process


def _change_user(process: Process, overrides: Overrides) -> None:
    user: User = {**(process.get("user") or {})}
    if overrides.user:
        uid, colon, gid = overrides.user.partition(":")
        user["uid"] = number(uid, "uid")
        if colon:
            user["gid"] = number(gid, "gid")
    if overrides.additional_gids:
        added = [number(text, "additional gid") for text in overrides.additional_gids]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *added]
    process["user"] = user


def number(text: str, what: str) -> int:
    """An id as the kernel counts: digits and nothing else, and no more than there are (CVE-2026-30892)."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(ID_MAX)) and int(text) <= ID_MAX):
        raise PyruncError(
            f'parsing "{text}" as int for {what} failed',
            remedy=f"give a number from 0 to {ID_MAX}; names are not looked up",
            code="usage",
        )
    return int(text)


def _add_capabilities(process: Process, names: Sequence[str]) -> None:
    """To bounding, effective and permitted; to ambient where they are inheritable, which an ambient one has to be.

    Never to inheritable: a program could then gain what is not meant for it (CVE-2022-29162).
    """
    for name in names:
        if name not in NUMBERS:
            raise PyruncError(
                f'--cap: unknown capability "{name}"', remedy="capabilities(7) has the names", code="usage"
            )
    before = process.get("capabilities") or {}
    sets: Any = {**before}
    inheritable = [name for name in names if name in (before.get("inheritable") or ())]
    for kind, added in (
        ("bounding", names),
        ("effective", names),
        ("permitted", names),
        ("ambient", inheritable),
    ):
        sets[kind] = [*dict.fromkeys([*(sets.get(kind) or ()), *added])]
    process["capabilities"] = sets
