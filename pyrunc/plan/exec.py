"""The order of a process that joins a running container (`pyrunc exec`), with the reason for each place.

The container's processes are hostile, and the joining process begins with the runtime's privileges. What it needs
those for it does as a *first stage*, which is in the container's namespaces but for the PID namespace: only its
children get there (setns(2)). Nobody in the container sees it, so nobody can signal or trace it, whatever
capabilities they have. Then it becomes who the process is to be, and clones the *second stage*: that is what the
container gets to see, and it has no more rights than the process itself will have. (One exception: `filters_early`.)

A container that shares its PID namespace with the runtime has one stage only. There, and for the rest of the second
stage, holds what CVE-2016-9962 taught: it is not dumpable, so that only who has CAP_SYS_PTRACE in the user namespace
that it was executed in, which is the runtime's, may trace it or look into its /proc/PID; and no descriptor of the host
is open any more, but for its end of the conversation.
"""

from __future__ import annotations

from pyrunc.kernel.constants import (
    AT_FDCWD,
    CLONE_NEWPID,
    CLONE_PARENT,
    CLOSE_RANGE_CLOEXEC,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_PDEATHSIG,
    SIGKILL,
)
from pyrunc.linux import (
    capabilities,
    cpu_affinity,
    credentials,
    cwd,
    environment,
    executable,
    keyring,
    limits,
    namespaces,
)
from pyrunc.plan.program import TALK, Program
from pyrunc.plan.talk import NAME, PRIORITIES, READY, hear, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.plan.host import Host


class Joining:
    """What the program depends on beside the config, whose `process` is the one that joins.

    `flags`: the namespaces to join (`namespaces.apart`). `keyring`: the name of the container's session keyring, "" to
    keep the caller's. `extra_descriptors`: how many from 3 on the process keeps. `present`: from `limits.own_limits`.
    `waits`: the first stage waits until the runtime has put it into what it cannot enter by itself. `early`: it asks
    for scheduler and I/O priority, which the second stage inherits. `filtered`: it loads the filter, `filters_early`.
    `frozen`: its cgroup is.
    """

    __slots__ = ("early", "extra_descriptors", "filtered", "flags", "frozen", "keyring", "present", "waits")

    def __init__(
        self,
        flags: int,
        *,
        keyring: str = "",
        extra_descriptors: int = 0,
        present: dict[str, tuple[int, int]] | None = None,
        waits: bool = False,
        early: bool = False,
        filtered: bool = False,
        frozen: bool = False,
    ) -> None:
        self.flags = flags
        self.keyring = keyring
        self.extra_descriptors = extra_descriptors
        self.present = present or {}
        self.waits = waits
        self.early = early
        self.filtered = filtered
        self.frozen = frozen


def filters_early(config: Config, flags: int) -> bool:
    """Whether the first stage of a process that joins the namespaces `flags` loads the filter of the config.

    Then the container gets to see no process without the filter, nor with the CAP_SYS_ADMIN that it takes to load one
    without no_new_privs: with CAP_SYS_PTRACE, and no user namespace, they could make either their own. But all that
    comes after it has to pass the filter. Where a profile refuses some of it, or leaves it to an agent, the second
    stage loads the filter, and has that one capability until then.
    """
    process, profile = config["process"], config["linux"]["seccomp"]
    if not flags & CLONE_NEWPID:
        return False
    from pyrunc.linux.seccomp import notifies
    from pyrunc.linux.seccomp.passing import passes

    # Beside what `pyrunc.plan.build` needs under a filter, too.
    names = ["write", "exit_group", "read", "setsid"]
    if process.get("terminal"):
        names.append("ioctl")
    if process.get("rlimits"):
        names.append("prlimit64")
    if process.get("noNewPrivileges"):
        names += ["statx", "faccessat2"]
    if notifies(profile):
        names += ["sendmsg", "close"]
        if not process.get("noNewPrivileges"):
            names += ["prctl", "capset"]
    return passes(profile, "clone", CLONE_PARENT) and all(passes(profile, name) for name in names)


def compile_exec(
    config: Config, host: Host, joining: Joining, bpf: bytes | None, manager: Manager
) -> Program:
    """Compile the whole way of the process into the container, up to execve(2). Pure: reads only its arguments."""
    first = 3 + joining.extra_descriptors
    program = Program(first)
    program.set(TALK, program.inherit("talk"))
    # First of all: what is opened from here on is close-on-exec anyway.
    program.call(
        "close_range", first, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC, step="close the runtime's descriptors on exec"
    )
    _plan_outside(config, host, joining, program, manager)
    # Before any of its ids or namespaces is the container's.
    _plan_hidden(program)
    namespaces.plan_enter(joining.flags, program)
    envp = _plan_inside(config, host, joining, program, bpf)
    two_stages = bool(joining.flags & CLONE_NEWPID)
    if two_stages:
        namespaces.plan_second_stage(0, program)
        program.call("setsid", step="start a new session")
    _plan_visible(config, host, joining, program, bpf, envp)
    return program


def _plan_outside(config: Config, host: Host, joining: Joining, program: Program, manager: Manager) -> None:
    """Emit what is done on the host, with the runtime's privileges there.

    The cgroup is entered first, so that all is accounted, limited, and found by who kills the container. The labels are
    bound to the next execve(2), and inherited by the second stage (proc_pid_attr(5)); they are written to the host's
    /proc, which nobody in the container can put another file system over.
    """
    program.call("prctl", PR_SET_NAME, NAME, 0, 0, 0, step="set the name of the process")
    # A session of its own: the signals of the caller's terminal are for the runtime, which passes them on.
    program.call("setsid", step="start a new session")
    if joining.waits:
        hear(program, "wait for the runtime to put it where it belongs")
    if joining.frozen:
        # The end of the conversation ends it as well, but not as long as the cgroup holds it.
        program.call("prctl", PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, step="end with the runtime")
    manager.plan_entry(program)
    if joining.frozen:
        program.call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0, step="live on without the runtime")
    cpu_affinity.plan_final(config, program)
    limits.plan_oom_score_adj(config, program)
    limits.plan_raise(config, joining.present, program)
    process = config["process"]
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        _plan_labels(config, host, joining, program)


def _plan_labels(config: Config, host: Host, joining: Joining, program: Program) -> None:
    proc = program.register()
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    program.call("openat", AT_FDCWD, "/proc", flags, step="open the host's /proc", into=proc)
    from pyrunc.linux import apparmor, selinux

    if joining.keyring:
        selinux.plan_keys(config, program, proc)
    apparmor.plan(config, host, program, proc)
    selinux.plan(config, program, proc)
    program.call("close", proc, step="close the host's /proc")
    program.release(proc)


def _plan_hidden(program: Program) -> None:
    """Emit making the process not dumpable.

    A change of ids or user namespace sets it to fs.suid_dumpable, so this is emitted again after each.
    """
    program.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0, step="make the process not dumpable")


def _plan_inside(config: Config, host: Host, joining: Joining, program: Program, bpf: bytes | None) -> int:
    """Emit what takes the privileges of the container's root, and giving them up; the address of envp.

    The terminal is made while ids are root's, for the owner of a pty is who opens it. The working directory is entered
    as root first, see `cwd`. The policy for memory in the cgroup, and before a filter, which may refuse it.
    """
    _plan_seldom(config, host, program)
    if joining.keyring:
        keyring.plan_join(joining.keyring, program)
    if config["process"].get("terminal"):
        _plan_terminal(config, program)
    credentials.plan_stdio_owner(config, host, program)
    envp, _ = environment.plan(config, program)
    if joining.early:
        # While its ids are still those of whom the runtime may change without privileges.
        say(program, PRIORITIES, "ask the runtime for scheduler and I/O priority")
        hear(program, "wait for scheduler and I/O priority")
    again = cwd.plan_enter_before_user(config, host, program)
    capabilities.plan_before_user(config, host, program)
    credentials.plan_user(config, host, program)
    _plan_hidden(program)
    if bpf and not config["process"].get("noNewPrivileges"):
        capabilities.plan_between(config, host, program)
    else:
        capabilities.plan_after_user(config, host, program)
    cwd.plan_enter_after_user(config, host, program, again)
    credentials.plan_umask(config, host, program)
    credentials.plan_no_new_privileges(config, host, program)
    if bpf and joining.filtered:
        # The second stage waits before it makes a call that an agent may be asked about.
        _plan_filter(config, host, program, bpf, wait=False)
    return envp


def _plan_seldom(config: Config, host: Host, program: Program) -> None:
    """Emit what few containers have; whose rooms are not even loaded without."""
    linux = config.get("linux", {})
    if not namespaces.has(config, "mount"):
        from pyrunc.linux import rootfs

        rootfs.plan_follow(program)
    if namespaces.has(config, "user"):
        from pyrunc.linux import idmap

        idmap.plan_root(config, program)
        _plan_hidden(program)
    if linux.get("personality"):
        from pyrunc.linux import personality

        personality.plan(config, host, program)
    if linux.get("memoryPolicy"):
        from pyrunc.linux import memory_policy

        memory_policy.plan(config, host, program)


def _plan_terminal(config: Config, program: Program) -> None:
    from pyrunc.linux import terminal

    root = program.register()
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    program.call("openat", AT_FDCWD, "/", flags, step="open the container's root", into=root)
    slave = terminal.plan_pty(config, program, root)
    program.call("close", root, step="close the container's root")
    program.release(root)
    terminal.plan_stdio(program, slave)


def _plan_visible(
    config: Config, host: Host, joining: Joining, program: Program, bpf: bytes | None, envp: int
) -> None:
    """Emit what the process does in sight of the container, as nobody but itself.

    A filter that is not loaded by now is loaded as at create (`pyrunc.plan.build`): without no_new_privs as the last
    privileged step, with it as late as can be.
    """
    process = config["process"]
    if process.get("terminal"):
        from pyrunc.linux import terminal

        terminal.plan_control(program)
    limits.plan_rlimits(config, program)
    late = bpf is not None and not joining.filtered
    if bpf and late and not process.get("noNewPrivileges"):
        _plan_filter(config, host, program, bpf)
        late = False
    found = executable.plan_find(config, host, program, filtered=bpf is not None and not late)
    say(program, READY, "tell the runtime that the process is ready")
    hear(program, "wait for the last word of the runtime")
    if bpf and late:
        _plan_filter(config, host, program, bpf)
    executable.plan_exec(config, program, found, envp)


def _plan_filter(config: Config, host: Host, program: Program, bpf: bytes, *, wait: bool = True) -> None:
    """Emit loading the filter; without no_new_privs that is the last privileged step."""
    from pyrunc.linux import seccomp

    seccomp.plan(config, program, bpf, wait=wait)
    if not config["process"].get("noNewPrivileges"):
        capabilities.plan_after_user(config, host, program)
