"""What `create` and `run` are asked to do: the options of the command line, understood."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.log import Log
    from pyrunc.store.store import Store


class Request:
    """A container to create. All paths are absolute; an empty one means that the option was not given.

    `config_name`: name of the configuration in the bundle. `preserve_fds`: how many descriptors after stdio
    and LISTEN_FDS the process keeps. `cgroup_manager`: one of `linux.cgroups.manager.KINDS`. `rootless`: the
    caller's word on cgroup permission errors, None for auto. `init`: the container gets an init of its own.
    """

    __slots__ = (
        "bundle",
        "cgroup_manager",
        "config_name",
        "console_socket",
        "container_id",
        "detach",
        "init",
        "keep",
        "log",
        "no_new_keyring",
        "no_pivot",
        "no_subreaper",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
        "rootless",
        "store",
    )

    def __init__(
        self,
        store: Store,
        container_id: str,
        bundle: str,
        log: Log,
        *,
        config_name: str = "config.json",
        console_socket: str = "",
        pidfd_socket: str = "",
        pid_file: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        init: bool = False,
        preserve_fds: int = 0,
        detach: bool = False,
        keep: bool = False,
        no_subreaper: bool = False,
        cgroup_manager: str = "cgroupfs",
        rootless: bool | None = None,
    ) -> None:
        self.store = store
        self.container_id = container_id
        self.bundle = bundle
        self.log = log
        self.config_name = config_name
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        self.pid_file = pid_file
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.init = init
        self.preserve_fds = preserve_fds
        self.detach = detach
        self.keep = keep
        self.no_subreaper = no_subreaper
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless
