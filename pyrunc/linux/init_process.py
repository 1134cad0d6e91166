"""An init of the container's own (`--init`): pyrunc-init stays the first process, and the program runs as its child.

It forwards every signal to the child, reaps whoever is left to it, and ends with the child's status (128 + n after
signal n), as users know it of such inits. It is no other program: the last steps of init's own, and a loop.

What it is allowed. Nobody in the container may gain by what the first process is. It has the process's ids and groups,
for a process may signal those of its own user; of the process's capabilities CAP_KILL at most, for a program that has
changed its user; the process's AppArmor profile; no_new_privs. It stays under the container's seccomp filter: a
process of the same user outside of it would be a way around it (ptrace(2)); and, from the loop on, under one of its
own, which leaves it the four calls of that. Nothing is left in its memory that the container is not to see (paths of
the host, the environment of hooks), and of its descriptors stdio. So it may be as dumpable as any program, and
/proc/1/fd/1, to which images write their logs, is open to its user. /proc/1/exe is sealed (`pyrunc.spawn.init`).
SELinux would have to allow a change of domain without execve(2), which policies for containers do not: there it stays
in pyrunc's own domain.

The order. The child is forked last, when all that can fail for the process has been done, so that it is what the
process is without an init. It waits until its init has given up its rights and descriptors: no program of the
container ever runs beside one that has more than it, such as a procfs without masks. The conversation with the runtime
goes on with the child alone, and ends when that has executed its program, as without an init: had init a part in it, a
program could stop init there, and `start` would never return. A child that is killed before it has executed something
cannot tell it; init ends then with another name (`pyrunc.plan.talk.NAME_BEFORE`).

The child has the signal mask of init's caller, a session of its own, and the terminal as its controlling one. So job
control is between the terminal and the child; the init is in another session, where no SIGTTIN or SIGTTOU reaches it.
"""

from __future__ import annotations

from errno import EAGAIN, ECHILD, EPERM, EPIPE, ESRCH
from struct import pack

from pyrunc.config.annotations import INIT, wants_init
from pyrunc.kernel.constants import (
    O_CLOEXEC,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    SECCOMP_SET_MODE_FILTER,
    SIG_BLOCK,
    SIG_SETMASK,
    SIGCHLD,
    SIGKILL,
    WNOHANG,
)
from pyrunc.linux import capabilities, environment, terminal
from pyrunc.linux.namespaces import is_new
from pyrunc.plan.program import ANY, ARENA, DETAIL, EQ, NE, PAGE, STEP, STEPS, TALK
from pyrunc.plan.talk import NAME, NAME_BEFORE, SAY_PID, hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

#: linux/wait.h, __WCLONE.
_WCLONE: Final = 0x8000_0000
#: The one calls of the loop.
_LOOP: Final = ("rt_sigtimedwait", "wait4", "kill", "exit_group")
_SIGNALS: Final = b"\xff" * 8
_LAST: Final = 0xFFFF_FFFF


def check(config: Config, host: Host, report: Report) -> None:
    """A value that is one; no scheduling policy that fork(2) refuses, or resets in the child."""
    value = (config.get("annotations") or {}).get(INIT, "")
    if value not in ("1", "true", "0", "false", ""):
        from pyrunc.validate.report import member

        report.error(member("annotations", INIT), f"is {value[:40]!r}", "use true or false")
    wanted = config["process"].get("scheduler") if "process" in config else None
    if not wanted or not wants_init(config.get("annotations")):
        return
    remedy = "do without --init, or choose another policy"
    if wanted["policy"] == "SCHED_DEADLINE":
        report.error("process.scheduler.policy", "a process under SCHED_DEADLINE has no children", remedy)
    elif "SCHED_FLAG_RESET_ON_FORK" in (wanted.get("flags") or ()):
        text = "the program is a child of the container's init, and would not have the policy"
        report.error("process.scheduler.flags", text, remedy)


def plan_probe(program: Program) -> None:
    """Emit trying out what the container's filter, loaded by now, has to allow; the rest every program calls."""
    status = program.buffer(16)
    for name, arguments, tolerate in (
        ("rt_sigtimedwait", (status, 0, status, 8), (EAGAIN,)),  # no signal of none, in no time
        ("wait4", (-1, 0, WNOHANG, 0), (ECHILD,)),
        ("kill", (0, 0), ()),
        ("close_range", (_LAST, _LAST, 0), ()),
        ("prctl", (PR_SET_NAME, NAME_BEFORE, 0, 0, 0), ()),
    ):
        step = f"check that the seccomp filter allows {name}, which the container's init needs"
        program.call(name, *arguments, step=step, of="linux.seccomp", tolerate=tolerate)


class Fork:
    """What `plan_fork` hands to `plan_rest`: the child's pid, and the ends of two pipes.

    `go`: init writes to it when it has given up what it has to. `ended`: init reads its end when the child has executed
    its program, or has ended. Their numbers are known while compiling, and follow each other, so that all others can be
    closed. `theirs`: the other ends, in registers. `resumed`: where init goes on.
    """

    __slots__ = ("child", "ended", "go", "resumed", "theirs")

    def __init__(self, program: Program) -> None:
        self.child = program.register()
        self.go, self.ended = program.inherit("reserved-go"), program.inherit("reserved-ended")
        self.theirs = program.register(), program.register()
        self.resumed = program.label()


def plan_fork(config: Config, program: Program, early: int, pid_text: int) -> Fork:
    """Emit the fork, and what the child does until execve(2), which the caller emits next; then `plan_rest`.

    `early`: where what the container may see of the arena begins. `pid_text`: the address for the value of LISTEN_PID,
    or 0.
    """
    fork = Fork(program)
    program.set(DETAIL, 0)
    program.call("munmap", ARENA, early - ARENA, step="forget what is none of the container's business")
    _plan_pipes(program, fork)
    before = program.buffer(8)
    # From here on they wait for the loop, so none is lost; the kernel keeps even those that a first process ignores.
    program.call("rt_sigprocmask", SIG_BLOCK, program.data(_SIGNALS), before, 8, step="block every signal")
    first = None
    if not is_new(config, "pid"):
        first = program.register()
        program.call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, step="adopt the container's orphans")
        program.call("getpid", step="ask for the pid of init", into=first)
    # It does not ask for SIGCHLD: so its init tells one that has executed something from one that has not.
    program.call("clone", 0, 0, 0, 0, 0, step="start the process beside its init", into=fork.child)
    program.branch(fork.child, NE, 0, fork.resumed)
    _plan_wait(program, fork)
    program.call("rt_sigprocmask", SIG_SETMASK, before, 0, 8, step="unblock the signals")
    if first is not None:
        _plan_end_with(program, first)
    program.call("setsid", step="start a session for the process")
    if config["process"].get("terminal"):
        terminal.plan_control(program)
    if pid_text:
        _plan_own_pid(program, pid_text)
    return fork


def _plan_pipes(program: Program, fork: Fork) -> None:
    """Emit making two pipes, which the child's execve(2) closes."""
    (wait, told), ours = fork.theirs, program.register()
    for reader, writer, number in ((wait, ours, fork.go), (ours, told, fork.ended)):
        pair = program.buffer(8)
        program.call("pipe2", pair, O_CLOEXEC, step="make a pipe between the process and its init")
        program.load(reader, pair, 4)
        program.load(writer, pair + 4, 4)
        program.call("dup3", ours, number, O_CLOEXEC, step="give init's end of a pipe its number")
        program.call("close", ours, step="close its former number")
    program.release(ours)


def _plan_wait(program: Program, fork: Fork) -> None:
    """Emit that the child waits for its init: no program runs beside one that still has more rights than it."""
    heard, length = program.label(), program.register()
    program.call("close", fork.go, step="close init's end of a pipe")
    program.call("close", fork.ended, step="close init's end of a pipe")
    program.call("read", fork.theirs[0], program.buffer(8), 1, step="wait for init", into=length)
    program.branch(length, NE, 0, heard)
    program.call("exit_group", 1, step="end, because init has gone")
    program.place(heard)
    program.release(length)


def _plan_end_with(program: Program, parent: Register) -> None:
    """Emit that the child ends with its init, as a PID namespace of its own would have it."""
    there, known = program.register(), program.label()
    program.call("prctl", PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, step="end with the container's init")
    program.call("getppid", step="look whether the container's init is there", into=there)
    program.branch(there, EQ, parent, known)
    program.call("exit_group", 1, step="end with the container's init")
    program.place(known)
    program.release(there)


def _plan_own_pid(program: Program, text: int) -> None:
    """Emit asking the runtime for the digits of the child's own pid."""
    pid = program.register()
    program.call("getpid", step="ask for the pid of the process", into=pid)
    message = program.data(pack("<IIq", SAY_PID, 0, 0))
    program.store(message + 8, pid, 8)
    program.call("write", TALK, message, 16, step="ask the runtime for LISTEN_PID")
    hear(program, "wait for LISTEN_PID", text, environment.PID_SIZE)
    program.release(pid)


def plan_rest(
    config: Config, host: Host, program: Program, early: int, proc: Register | None, fork: Fork
) -> None:
    """Emit what init does from the fork on. `early` as for `plan_fork`, `proc`: the procfs of `pyrunc.linux.procfs`."""
    program.place(fork.resumed)
    if proc is not None and config["process"].get("apparmorProfile"):
        from pyrunc.linux import apparmor

        apparmor.plan_change(config, host, program, proc)
    _plan_give_up(config, host, program)
    late = program.fold()
    program.call("munmap", early, late - early, step="forget what the process has taken over")
    if whole := len(program) * STEP // PAGE * PAGE:
        program.call("munmap", STEPS, whole, step="forget what has been carried out")
    program.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0, step="let the container see its init", tolerate=ANY)
    # Before a program of the container runs: it may take from init what that has (ptrace(2)). Stdio is kept: see above.
    step = "close every descriptor but stdio and the pipes"
    program.call("close_range", 3, fork.go - 1, 0, step=step)
    program.call("close_range", fork.ended + 1, _LAST, 0, step=step)
    program.set(TALK, -1)
    _plan_go(program, fork)
    program.call("close_range", fork.go, fork.ended, 0, step="close the pipes")
    program.call("prctl", PR_SET_NAME, NAME, 0, 0, 0, step="tell that the process runs", tolerate=ANY)
    _plan_confine(program)
    _plan_loop(program, fork.child)
    program.release(fork.child, *fork.theirs)


def _plan_go(program: Program, fork: Fork) -> None:
    """Emit letting the child go, and waiting until it has executed its program; ends init where it has not."""
    byte, runs = program.buffer(8), program.label()
    program.call("write", fork.go, byte, 1, step="let the process go on", tolerate=(EPIPE,))
    program.call("read", fork.ended, byte, 1, step="wait until the process has executed its program")
    # __WCLONE: of those that did not ask for SIGCHLD, which execve(2) does for everyone.
    program.call(
        "wait4",
        fork.child,
        0,
        WNOHANG | _WCLONE,
        0,
        step="look whether the process has executed its program",
        tolerate=(ECHILD,),
        otherwise=runs,
    )
    program.call(
        "exit_group", 1, step="end, because the process was killed before it could execute its program"
    )
    program.place(runs)


def _plan_give_up(config: Config, host: Host, program: Program) -> None:
    """Emit giving up rights. Where a filter of the container refuses that it is left with those of the process."""
    step = "keep the container's init from ever gaining privileges"
    program.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, step=step, tolerate=ANY)
    capabilities.plan_only("CAP_KILL", config, host, program)


def _plan_confine(program: Program) -> None:
    """Emit the filter of its own. Without one, on a kernel or under a filter that has none, the container's holds."""
    from pyrunc.linux.seccomp.narrow import narrow

    bpf = narrow(_LOOP)
    if bpf:
        # struct sock_fprog of linux/filter.h
        fprog = program.data(pack("<HxxxxxxQ", len(bpf) // 8, program.data(bpf)))
        step = "leave the container's init nothing but its loop"
        program.call("seccomp", SECCOMP_SET_MODE_FILTER, 0, fprog, step=step, tolerate=ANY)


def _plan_loop(program: Program, child: Register) -> None:
    """Emit the loop. A signal may stand for many children, and one that came before the loop for none."""
    reap, wait, exited = program.label(), program.label(), program.label()
    found, status = program.register(), program.buffer(8)
    signals = program.data(_SIGNALS)
    program.place(reap)
    program.call(
        "wait4",
        -1,
        status,
        WNOHANG,
        0,
        step="collect a child",
        into=found,
        tolerate=(ECHILD,),
        otherwise=wait,
    )
    program.branch(found, EQ, 0, wait)
    program.branch(found, NE, child, reap, "it was an orphan")
    program.load(found, status, 1)
    program.branch(found, EQ, 0, exited)
    # 128 + n for signal n. There is no adding up: the number becomes the lowest byte of an address in a table.
    table = program.data(bytes([128 | number for number in range(256)]), 256)
    entry = program.data(pack("<Q", table))
    program.store(entry, found, 1)
    program.load(found, entry, 8)
    program.load(found, found, 1)
    program.call("exit_group", found, step="end as the process was ended")
    program.place(exited)
    program.load(found, status + 1, 1)
    program.call("exit_group", found, step="end with the status of the process")
    program.place(wait)
    program.call("rt_sigtimedwait", signals, 0, 0, 8, step="wait for a signal", into=found)
    program.branch(found, EQ, SIGCHLD, reap)
    # EPERM: it is another user's by now.
    program.call("kill", child, found, step="forward the signal", tolerate=(EPERM, ESRCH))
    program.jump(wait)
    program.release(found)
