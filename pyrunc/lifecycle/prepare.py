"""Everything of create before anything of the container is made: load, probe, check, compile.

The one thing written is a compiled seccomp filter, in the cache below the state root.
"""

from __future__ import annotations

import os
from stat import S_IFDIR

from pyrunc.config.annotations import wants_init, with_init
from pyrunc.config.load import load
from pyrunc.lifecycle.caller import check_terminal, extra_descriptors
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import DISABLED, choose, is_rootless
from pyrunc.linux.keyring import new_name
from pyrunc.linux.mounts.facts import gather
from pyrunc.linux.namespaces import open_joined
from pyrunc.linux.seccomp import filter_of
from pyrunc.plan.build import Choices, compile_program
from pyrunc.plan.host import probe
from pyrunc.store.store import NOTIFY
from pyrunc.validate.check import check_rules, check_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.request import Request
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.log import Log
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program


class Prepared:
    """A container that is checked and compiled, and of which nothing exists yet.

    `joins` maps slot names to descriptors of the namespaces to join; `close` closes them. `notified`: the container
    gets a socket for sd_notify(3), whose directory `create` makes.
    """

    __slots__ = ("bundle", "choices", "config", "host", "joins", "manager", "notified", "program", "raw")

    def __init__(
        self,
        bundle: str,
        raw: bytes,
        config: Config,
        host: Host,
        manager: Manager,
        program: Program,
        choices: Choices,
        joins: dict[str, int],
        notified: bool = False,
    ) -> None:
        self.bundle = bundle
        self.raw = raw
        self.config = config
        self.host = host
        self.manager = manager
        self.program = program
        self.choices = choices
        self.joins = joins
        self.notified = notified

    def close(self) -> None:
        """Close the descriptors of joined namespaces."""
        for descriptor in self.joins.values():
            os.close(descriptor)
        self.joins = {}


def prepare(request: Request, *, foreground: bool, socket: bool, notifies: bool | None = None) -> Prepared:
    """Load, check and compile the bundle of `request`.

    `foreground`: the caller stays with the container; `socket`: init is to wait on start.sock rather than
    on the conversation; `notifies`: the container gets a socket for sd_notify(3), None for where NOTIFY_SOCKET is
    set. Raises Rejected, PyruncError, KernelError.
    """
    loaded = load(request.bundle, request.config_name)
    config = loaded.config
    report = check_shape(config)  # before anything looks into it: its types do not hold yet
    if request.init:
        config = with_init(config)
    kinds, joins = open_joined(config)
    try:
        host = probe()
        host.namespaces = kinds
        notified = ""
        if bool(os.environ.get("NOTIFY_SOCKET")) if notifies is None else notifies:
            config, notified = _with_notify_socket(config, request, foreground)
        gather(host, config, loaded.bundle, request.no_pivot)
        if notified:
            host.sources[notified] = S_IFDIR | 0o755  # `create` makes it
        _ask_what_few_need(config, host)
        check_rules(config, host, report)
        for warning in report.warnings:
            request.log.warning(str(warning))
        check_terminal(config["process"].get("terminal", False), request.console_socket, foreground)
        listen_fds = _listen_fds()
        listen_names = os.environ.get("LISTEN_FDNAMES", "") if listen_fds else ""
        choices = Choices(
            container_id=request.container_id,
            no_pivot=request.no_pivot,
            keyring="" if request.no_new_keyring else new_name(request.container_id),
            extra_descriptors=extra_descriptors(listen_fds + request.preserve_fds),
            listen_fds=listen_fds,
            listen_names=listen_names,
            socket=socket,
            init=wants_init(config.get("annotations")),
        )
        manager = _cgroup_manager(request, config, host)
        host.cgroups = manager.paths()
        _ask_cgroup_mounts(config, host, request.log)
        bpf = filter_of(config, request.store.root)
        program = compile_program(config, host, choices, bpf, manager)
    except BaseException:
        for descriptor in joins.values():
            os.close(descriptor)
        raise
    return Prepared(loaded.bundle, loaded.raw, config, host, manager, program, choices, joins, bool(notified))


def _with_notify_socket(config: Config, request: Request, foreground: bool) -> tuple[Config, str]:
    """The configuration with a socket for sd_notify(3), and the path of its directory; "" where it can have none."""
    from pyrunc.lifecycle.notify import address_of
    from pyrunc.linux.notify_socket import is_wanted, with_socket

    if not is_wanted(config):
        return config, ""
    if address := os.environ.get("NOTIFY_SOCKET"):
        address_of(address)
    source = f"{request.store.root}/{request.container_id}/{NOTIFY}"
    watchdog = ""
    # Only where somebody is going to listen for it, and where it is meant for this process.
    if foreground and os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        watchdog = os.environ.get("WATCHDOG_USEC", "")
    return with_socket(config, source, watchdog), source


def _cgroup_manager(request: Request, config: Config, host: Host) -> Manager:
    kind = request.cgroup_manager
    rootless = is_rootless(request.rootless, host.euid, host.rootless, kind)
    if kind == DISABLED:
        from pyrunc.linux.cgroups.disabled import warnings

        for warning in warnings(config, rootless):
            request.log.warning(warning)
    return choose(config, request.container_id, layout(), rootless, kind)


def _ask_what_few_need(config: Config, host: Host) -> None:
    """The facts that only seldom properties need."""
    process: Any = config.get("process") or {}
    linux = config.get("linux", {})
    if process.get("apparmorProfile") or process.get("selinuxLabel") or linux.get("mountLabel"):
        from pyrunc.linux.lsm import enabled

        host.security_modules = enabled()
    if linux.get("memoryPolicy"):
        from pyrunc.linux.memory_policy import nodes_with_memory

        host.memory_nodes = nodes_with_memory()


def _ask_cgroup_mounts(config: Config, host: Host, log: Log) -> None:
    """What depends on the cgroups that the container will have."""
    if any(mount.get("type") in ("cgroup", "cgroup2") for mount in config.get("mounts") or ()):
        from pyrunc.linux.mounts.cgroupfs import changes_flags, warnings

        for warning in warnings(config, host):
            log.warning(warning)
        if changes_flags(config, host):
            from pyrunc.linux.cgroups.layout import unified_flags

            host.cgroup_flags = unified_flags()


def _listen_fds() -> int:
    """How many sockets systemd passes to this process (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    text = os.environ.get("LISTEN_FDS", "")
    return int(text) if text.isdecimal() else 0
