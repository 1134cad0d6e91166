"""A procfs of the container that runs, for `running`: it shows the PID namespace of the process that opens its context.

So some process has to be in the container's PID namespace, where the container's processes see it, may stop it, and
with CAP_SYS_PTRACE over the runtime's user namespace may trace it and look through its /proc/PID/root. It is one that
has nothing to give away. A *first stage* enters the container's namespaces, goes on to a new user and mount namespace
in those, and closes every descriptor but one end of a socket. Only its child, the *second stage*, is in the PID
namespace: it has capabilities in a user namespace of its own alone, the container's files for its root, and all that it
does is to open a context (fsopen(2)) and to send it. What arrives is not trusted: `plan_check`, `bind.require_proc`.
"""

from __future__ import annotations

from struct import pack

from pyrunc.kernel.constants import (
    AF_UNIX,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    FSCONFIG_SET_STRING,
    FSOPEN_CLOEXEC,
    MSG_CMSG_CLOEXEC,
    O_CLOEXEC,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    SIGCHLD,
    SIGKILL,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    WUNTRACED,
)
from pyrunc.kernel.structs import CLONE_ARGS_SIZE
from pyrunc.linux import namespaces
from pyrunc.linux.idmap import plan_root
from pyrunc.linux.mounts.facts import destination_of, is_bind
from pyrunc.plan.program import DETAIL_SIZE, EQ, NE, TALK
from pyrunc.plan.talk import SAY_FAILED, SAY_MOUNT, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.program import Program, Register

#: A message of init without its detail: what is said, the step, the value.
_HEAD: Final = 16
#: The low byte of what wait4(2) says of a process that was stopped.
_STOPPED: Final = 0x7F


def plan_contexts(config: Config, joins: Collection[str], whose: str, program: Program) -> dict[int, int]:
    """Emit opening a context for each procfs of `config["mounts"]`, if the container has a PID namespace of its own.

    Before anything of the container is joined or opened. Returns index of the mount → address that will hold the
    context's descriptor. `joins`, `whose`: as in `running.plan_add` and `namespaces.plan_setns`.
    """
    steps = {
        index: f"mount proc on {destination_of(mount)}"
        for index, mount in enumerate(config["mounts"])
        if not is_bind(mount) and mount["type"] == "proc"
    }
    if not steps or "pid" not in joins:
        return {}
    ends = program.buffer(8)
    flags = SOCK_SEQPACKET | SOCK_CLOEXEC
    program.call("socketpair", AF_UNIX, flags, 0, ends, step="make a socket for a procfs")
    ours, theirs = program.register(), program.register()
    program.load(ours, ends, 4)
    program.load(theirs, ends + 4, 4)
    first, done = program.label(), program.label()
    pid = _plan_clone(program, "clone a process for a procfs")
    program.branch(pid, EQ, 0, first)
    program.call("close", theirs, step="close a descriptor")  # else there would be no end of file
    kept = {index: _plan_take(program, ours, step, f"mounts[{index}]") for index, step in steps.items()}
    program.call("wait4", pid, 0, 0, 0, step="wait for the process")
    program.call("close", ours, step="close a descriptor")
    program.jump(done)
    program.place(first)
    _plan_stages(config, joins, whose, program, theirs, steps)
    program.place(done)
    program.release(pid, ours, theirs)
    return kept


def plan_check(program: Program, context: Register, step: str, of: str) -> None:
    """Emit failing unless this is a context of procfs, before anything is done with it that takes rights."""
    # What every procfs has for its default, and no other file system knows.
    program.call("fsconfig", context, FSCONFIG_SET_STRING, "hidepid", "0", 0, step=step, of=of)


def plan_unseen(program: Program) -> None:
    """Emit being closed to others, and ending with the parent. New ids undo it (prctl(2))."""
    # The files of /proc/PID then ask for rights over the user namespace of the runtime, in which this was executed.
    program.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0, step="make init not dumpable")
    # While it waits for a file system of the container's it does not hear that the runtime has gone.
    program.call("prctl", PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, step="end with the runtime")


def _plan_clone(program: Program, step: str) -> Register:
    pid = program.register()
    # struct clone_args of clone3(2): flags, pidfd, child_tid, parent_tid, exit_signal, the rest zero.
    arguments = program.data(pack("<5Q6Q", 0, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0))
    program.call("clone3", arguments, CLONE_ARGS_SIZE, step=step, into=pid)
    return pid


def _plan_stages(
    config: Config,
    joins: Collection[str],
    whose: str,
    program: Program,
    socket: Register,
    steps: dict[int, str],
) -> None:
    plan_unseen(program)
    namespaces.plan_setns(dict.fromkeys(joins, whose), program)
    plan_root(config, program)
    plan_unseen(program)
    program.call(
        "unshare",
        CLONE_NEWUSER | CLONE_NEWNS,
        step="create a user namespace for making a procfs; ENOSPC: user.max_user_namespaces is reached",
    )
    # From here on what fails is said on the socket, and sent on.
    talk = program.inherit("talk")
    program.call("dup3", socket, talk, O_CLOEXEC, step="keep the socket")
    program.call("close_range", talk + 1, 0xFFFF_FFFF, 0, step="close all other descriptors")
    second, ended = program.label(), program.label()
    pid = _plan_clone(program, "clone a process into the container's PID namespace")
    program.branch(pid, EQ, 0, second)
    status, word = program.buffer(8), program.register()
    program.call("wait4", pid, status, WUNTRACED, 0, step="wait for the process")
    program.load(word, status, 1)
    program.branch(word, NE, _STOPPED, ended)
    program.call("kill", pid, SIGKILL, step="end the process, which the container has stopped")
    program.call("wait4", pid, 0, 0, 0, step="wait for its end")
    program.place(ended)
    program.call("exit_group", 0, step="end the first stage")
    program.place(second)
    plan_unseen(program)
    context = program.register()
    for index, step in steps.items():
        of = f"mounts[{index}]"
        program.call("fsopen", "proc", FSOPEN_CLOEXEC, step=step, of=of, into=context)
        send(program, context, SAY_MOUNT, index, step=step, of=of)
        program.call("close", context, step="close a descriptor")
    program.call("exit_group", 0, step="end the second stage")
    program.release(pid, word, context)


def _plan_take(program: Program, socket: Register, step: str, of: str) -> int:
    """Emit taking a descriptor from the socket, or passing on why there is none. The address that will hold it."""
    size = _HEAD + DETAIL_SIZE
    message = program.buffer(size)
    part = program.data(pack("<QQ", message, size))
    # As in `talk.send`. The descriptor is none, should none come.
    control = program.data(pack("<QiiiI", 0, 0, 0, -1, 0))
    header = program.data(pack("<QIIQQQQiI", 0, 0, 0, part, 1, control, 24, 0, 0))
    length, said = program.register(), program.register()
    came, nothing = program.label(), program.label()
    program.call("recvmsg", socket, header, MSG_CMSG_CLOEXEC, step=step, of=of, into=length)
    program.load(said, message, 4)
    program.branch(said, EQ, SAY_MOUNT, came)
    program.branch(said, NE, SAY_FAILED, nothing)
    program.call("write", TALK, message, length, step="tell the runtime why")
    program.call("exit_group", 1, step="end, because the process has failed")
    program.place(nothing)
    program.fail(0, f"{step}: the process that was to make it in the container's PID namespace was ended", of)
    program.place(came)
    program.load(said, control + 16, 4)
    kept = program.buffer(8)
    program.store(kept, said, 8)
    program.release(length, said)
    return kept
