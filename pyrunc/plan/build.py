"""The order of a container: every room's steps, one after the other, with the reason for each place."""

from __future__ import annotations

from errno import EBADF

from pyrunc.config import CREATE_CONTAINER, START_CONTAINER
from pyrunc.kernel.constants import CLOSE_RANGE_CLOEXEC, PR_SET_NAME, SOCK_CLOEXEC
from pyrunc.linux import (
    capabilities,
    cpu_affinity,
    credentials,
    cwd,
    devices,
    environment,
    executable,
    hooks,
    hostname,
    idmap,
    keyring,
    masking,
    namespaces,
    network,
    personality,
    procfs,
    rootfs,
    seccomp,
    sysctl,
    terminal,
    time_offsets,
)
from pyrunc.linux.mounts import plan as mounts
from pyrunc.plan.program import TALK, Program
from pyrunc.plan.talk import HOME, HOOKS, NAME, NAME_BEFORE, PID, PRIORITIES, READY, hear, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.linux.mounts.plan import Late
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Register


_NEEDS_ACCEPT = "check that the seccomp filter allows accept4, with which init waits for start"


class Choices:
    """What the caller chose that is not in the config, and what the program turned out to need.

    `extra_descriptors`: how many from 3 on the container keeps, `listen_fds` of them for LISTEN_FDS.
    `listen_names`: their names, LISTEN_FDNAMES. `keyring`: the name of a new session keyring (`keyring.new_name`), ""
    to keep the caller's. `socket`: init waits on start.sock (create) or for the last word
    of the conversation (run). `init`: the container has an init of its own.
    Set by `compile_program`: `asks_home`, `asks_pid`, `asks_priorities`, and `started_at`, the first step that `start`
    lets init take.
    """

    __slots__ = (
        "asks_home",
        "asks_pid",
        "asks_priorities",
        "container_id",
        "extra_descriptors",
        "init",
        "keyring",
        "listen_fds",
        "listen_names",
        "no_pivot",
        "socket",
        "started_at",
    )

    def __init__(
        self,
        *,
        container_id: str,
        keyring: str,
        no_pivot: bool = False,
        extra_descriptors: int = 0,
        listen_fds: int = 0,
        listen_names: str = "",
        socket: bool = True,
        init: bool = False,
    ) -> None:
        self.container_id = container_id
        self.keyring = keyring
        self.no_pivot = no_pivot
        self.extra_descriptors = extra_descriptors
        self.listen_fds = listen_fds
        self.listen_names = listen_names
        self.socket = socket
        self.init = init
        self.asks_home = False
        self.asks_pid = False
        self.asks_priorities = False
        self.started_at = 0


def compile_program(
    config: Config, host: Host, choices: Choices, bpf: bytes | None, manager: Manager
) -> Program:
    """Compile the whole life of init, from its namespaces to execve. Pure: reads only its arguments.

    First of all init enters its cgroup: from then on everything is accounted and limited.
    """
    program = _new_program(config, host, 3 + choices.extra_descriptors)
    program.set(TALK, program.inherit("talk"))
    # For ps(1), where the kernel would show the number of a descriptor, and for `start`.
    name = NAME_BEFORE if choices.init else NAME
    program.call("prctl", PR_SET_NAME, name, 0, 0, 0, step="set the name of the process")
    manager.plan_entry(program)
    cpu_affinity.plan(program)
    namespaces.plan_join(config, host, program)
    if namespaces.has(config, "user"):
        hear(program, "wait for the id maps")
    # What the host keeps from others is opened while init still has the runtime's own uid.
    root = rootfs.plan_enter(config, host, program)
    sources = mounts.plan_sources(config, host, program)
    idmap.plan_root(config, program)
    proc = procfs.plan_open(program) if _writes_to_proc(config) else None
    _plan_before_root(config, host, choices, program, proc)
    # All before pivot_root, while sources can be reached. The console is a mount point in the new /dev.
    late = mounts.plan(config, host, program, root, sources)
    devices.plan(config, host, program, root)
    slave = terminal.plan_console(config, host, program, root)
    say(program, HOOKS, "tell the runtime that it may run its hooks")
    hear(program, "wait for the hooks of the runtime")
    if (config.get("hooks") or {}).get(CREATE_CONTAINER):
        # As runc: these hooks find the root file system in their working directory, before it becomes `/`.
        program.call(
            "fchdir", root, step="enter the root for the createContainer hooks", of="hooks.createContainer"
        )
    _plan_hooks(config, CREATE_CONTAINER, program)
    rootfs.plan_switch(config, host, program, root)
    _plan_inside(config, host, program, late, proc)
    # What is before must not be seen by the container, should init stay with it.
    early = program.fold() if choices.init else 0
    envp, pid_text = _plan_environment(config, choices, program)
    # No descriptor of the runtime survives execve; now, because a filter may not know close_range(2).
    first = 3 + choices.extra_descriptors
    program.call(
        "close_range", first, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC, step="close the runtime's descriptors on exec"
    )
    _plan_seldom(config, host, program, proc)
    _plan_priorities(config, choices, program)
    found = _plan_process(config, host, choices, program, bpf, slave)
    _plan_wait(choices, program)
    choices.started_at = len(program)
    if config["process"].get("noNewPrivileges") and bpf:
        # As late as can be, for it must allow all that follows; but a hook in the container is under it too.
        _plan_filter(config, choices, program, bpf)
    _plan_hooks(config, START_CONTAINER, program)
    # Last of all, so that an init of the container's own has no more rights than its process.
    if early:
        from pyrunc.linux import init_process

        fork = init_process.plan_fork(config, program, early, pid_text)
        executable.plan_exec(config, program, found, envp)
        init_process.plan_rest(config, host, program, early, proc, fork)
    else:
        executable.plan_exec(config, program, found, envp)
    return program


def _writes_to_proc(config: Config) -> bool:
    process = config["process"]
    labels = process.get("apparmorProfile") or process.get("selinuxLabel")
    return bool(labels or config.get("linux", {}).get("sysctl"))


def _new_program(config: Config, host: Host, first_slot: int) -> Program:
    if host.old_mounts or host.data_pages:
        from pyrunc.linux.mounts.old import OldProgram

        return OldProgram(first_slot, idmap.root_ids(config), translating=host.old_mounts)
    return Program(first_slot)


def _plan_before_root(
    config: Config, host: Host, choices: Choices, program: Program, proc: Register | None
) -> None:
    """What needs nothing but the namespaces. A session first: no terminal of the caller stays attached.

    The root of a cgroup namespace is the cgroup of its maker, which init has entered by now.
    """
    program.call("setsid", step="start a new session")
    if choices.keyring:
        if proc is not None and config["process"].get("selinuxLabel"):
            from pyrunc.linux import selinux

            selinux.plan_keys(config, program, proc)
        keyring.plan(config, choices.keyring, program)
    namespaces.plan_cgroup(config, program)
    time_offsets.plan(config, host, program)
    network.plan_loopback(config, program)
    hostname.plan(config, host, program)
    personality.plan(config, host, program)


def _plan_inside(config: Config, host: Host, program: Program, late: Late, proc: Register | None) -> None:
    """Emit what is left to do to the tree once it is `/`, and nothing of the host can be reached any more.

    Read-only comes after the last file is made, and after sysctl, whose files are usually below a read-only
    path. Masked last: nothing is looked up after that.
    """
    devices.plan_stdio(config, host, program)
    cwd.plan_create(config, host, program)
    rootfs.plan_finish(config, host, program)
    mounts.plan_late(program, late)
    if proc is not None:
        sysctl.plan(config, host, program, proc)
    masking.plan(config, host, program)


def _plan_environment(config: Config, choices: Choices, program: Program) -> tuple[int, int]:
    """The environment; the address of envp, and that of LISTEN_PID's value if a child of init is to ask for it, else 0.

    The runtime is asked for HOME where process.env has none, and for LISTEN_PID where it is not 1.
    """
    extra: list[str | int] = []
    pid = 0
    if choices.listen_fds:
        extra, pid = environment.plan_listen(
            config, program, choices.listen_fds, choices.listen_names, first=not choices.init
        )
    envp, home = environment.plan(config, program, extra)
    if pid and not choices.init:
        choices.asks_pid = True
        say(program, PID, "ask the runtime for LISTEN_PID")
        hear(program, "wait for LISTEN_PID", pid, environment.PID_SIZE)
    if home:
        choices.asks_home = True
        say(program, HOME, "ask the runtime for HOME")
        hear(program, "wait for HOME", home, environment.HOME_SIZE)
    return envp, pid if choices.init else 0


def _plan_seldom(config: Config, host: Host, program: Program, proc: Register | None) -> None:
    """Emit what is inherited by startContainer hooks, but is not for mounts and createContainer hooks.

    The memory policy in the cgroup, whose cpuset bounds it, and before a seccomp filter, which may not know
    set_mempolicy(2). The labels when nothing more is executed but what they are for (`pyrunc.linux.apparmor`), and
    before a filter and no_new_privs.
    """
    if config.get("linux", {}).get("memoryPolicy"):
        from pyrunc.linux import memory_policy

        memory_policy.plan(config, host, program)
    if proc is not None and config["process"].get("apparmorProfile"):
        from pyrunc.linux import apparmor

        apparmor.plan(config, host, program, proc)
    if proc is not None and config["process"].get("selinuxLabel"):
        from pyrunc.linux import selinux

        selinux.plan(config, program, proc)


def _plan_priorities(config: Config, choices: Choices, program: Program) -> None:
    """Emit waiting for the runtime to set scheduler and I/O priority, with its rights on the host.

    While init still is who the runtime may change without privileges; in its cgroup, whose real-time budget
    counts; and after createContainer hooks and mounts, which are not the container's process: under
    SCHED_DEADLINE a hook could not even be started.
    """
    if config["process"].get("scheduler") or config["process"].get("ioPriority"):
        choices.asks_priorities = True
        say(program, PRIORITIES, "ask the runtime for scheduler and I/O priority")
        hear(program, "wait for scheduler and I/O priority")


def _plan_process(
    config: Config,
    host: Host,
    choices: Choices,
    program: Program,
    bpf: bytes | None,
    slave: Register | None,
) -> Register:
    """Emit the identity of the container's process, in the order that the rooms' docstrings give reasons for.

    The working directory is entered while init still is root. A filter without no_new_privs needs
    CAP_SYS_ADMIN, so it is loaded before capabilities go, and as late as that, for it must allow all that
    follows. Ids change, then capabilities; the program is looked up with the rights that it will run with.
    """
    terminal.plan_attach(config, host, program, slave, controlling=not choices.init)
    credentials.plan_stdio_owner(config, host, program)
    again = cwd.plan_enter_before_user(config, host, program)
    filtered = bool(bpf) and not config["process"].get("noNewPrivileges")
    if bpf and filtered:
        _plan_filter(config, choices, program, bpf)
    capabilities.plan_before_user(config, host, program)
    credentials.plan_user(config, host, program)
    capabilities.plan_after_user(config, host, program)
    cwd.plan_enter_after_user(config, host, program, again)
    credentials.plan_umask(config, host, program)
    credentials.plan_no_new_privileges(config, host, program)
    return executable.plan_find(config, host, program, filtered)


def _plan_filter(config: Config, choices: Choices, program: Program, bpf: bytes) -> None:
    seccomp.plan(config, program, bpf)
    if choices.init:
        from pyrunc.linux import init_process

        init_process.plan_probe(program)


def _plan_wait(choices: Choices, program: Program) -> None:
    """Ready; then wait for `start` on its socket, or for the last word of the same runtime."""
    listener, connection = -1, program.register()
    if choices.socket:
        listener = program.inherit("listener")
        # While create can still say so: a seccomp filter may refuse what `start` will need.
        program.call(
            "accept4", -1, 0, 0, SOCK_CLOEXEC, step=_NEEDS_ACCEPT, of="linux.seccomp", tolerate=(EBADF,)
        )
    say(program, READY, "tell the runtime that init is ready")
    hear(program, "wait until the runtime has saved the state")
    if not choices.socket:
        return
    program.call("close", TALK, step="end the conversation with create")
    program.call("accept4", listener, 0, 0, SOCK_CLOEXEC, step="wait for start", into=connection)
    program.set(TALK, connection)
    program.call("close", listener, step="close the start socket")
    hear(program, "wait for the word of start")
    program.release(connection)


def _plan_hooks(config: Config, kind: Literal["createContainer", "startContainer"], program: Program) -> None:
    listed = (config.get("hooks") or {}).get(kind)
    if listed:
        state = program.inherit("hook-state" if kind == CREATE_CONTAINER else "start-hook-state")
        output = program.inherit("hook-output")
        files = hooks.slots(config, program)
        hooks.plan_hooks(
            program, kind, listed, state_fd=state, output_fd=output, files=files, process=config["process"]
        )
