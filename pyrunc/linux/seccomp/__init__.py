"""System call filter of the container process (config-linux.md "Seccomp"; seccomp(2)).

The runtime compiles the profile to BPF (`compile`, through libseccomp) or finds it compiled (`cache`); init only
loads it. Where a rule has the action SCMP_ACT_NOTIFY an agent is given a say: `notify`.
"""

from __future__ import annotations

from struct import pack

from pyrunc.config.annotations import refuses_unknown_calls, seccomp_agent
from pyrunc.kernel.constants import (
    SECCOMP_FILTER_FLAG_LOG,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    SECCOMP_SET_MODE_FILTER,
)
from pyrunc.kernel.numbers import SYSCALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, Seccomp, SyscallRule
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The flags of the spec as flags of seccomp(2). TSYNC means nothing here, because init has one thread; left out it
#: cannot collide with a listener (SECCOMP_FILTER_FLAG_TSYNC_ESRCH). WAIT_KILLABLE_RECV is about notifications: without
#: any it means nothing either, and the kernel would refuse it.
FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

NOTIFY: Final = "SCMP_ACT_NOTIFY"

#: Actions that let a call pass, or leave it to a tracer.
LENIENT: Final = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
#: Actions that carry a number, with its highest value: MAX_ERRNO, and the message for a tracer.
HIGHEST: Final = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 65535}


def check(config: Config, host: Host, report: Report) -> None:
    """An errno only for an action that has one, names of system calls that exist somewhere, an agent if needed."""
    profile = config.get("linux", {}).get("seccomp")
    if not profile:
        return
    where = "linux.seccomp"
    number = profile.get("defaultErrnoRet")
    if number is not None:
        _check_errno(f"{where}.defaultErrnoRet", profile["defaultAction"], number, report)
    for index, rule in enumerate(profile.get("syscalls") or ()):
        number = rule.get("errnoRet")
        if number is not None:
            _check_errno(f"{where}.syscalls[{index}].errnoRet", rule["action"], number, report)
        # The calls of this machine first: the list of all is not even imported for a profile without others.
        foreign = [name for name in rule["names"] if name not in SYSCALLS]
        if foreign:
            strict = refuses_unknown_calls(config)
            _check_names(f"{where}.syscalls[{index}].names", profile, rule, foreign, strict, report)
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        report.error(f"{where}.listenerMetadata", "must not be set without listenerPath", "remove it")
    if notifies(profile):
        from pyrunc.linux.seccomp import notify

        notify.check(profile, seccomp_agent(profile, config.get("annotations")), report)


def _check_errno(where: str, action: str, number: int, report: Report) -> None:
    highest = HIGHEST.get(action)
    if highest is None:
        report.error(where, f"the action {action} has no errno", "remove it, or use SCMP_ACT_ERRNO")
    elif number > highest:
        report.error(where, f"{number} is too large for {action}", f"give at most {highest}")


def _check_names(
    where: str, profile: Seccomp, rule: SyscallRule, foreign: list[str], strict: bool, report: Report
) -> None:
    """A name that Linux does not have is a slip of the pen, or belongs to a kernel that is newer than this program.

    Its rule cannot be carried out. Where the call is refused all the same, as by the allow lists of the engines,
    that is a warning; where it would be let through instead, or `strict`, an error.
    """
    from pyrunc.linux.seccomp.names import NAMES

    for name in foreign:
        if name in NAMES:
            continue
        from difflib import get_close_matches

        close = get_close_matches(name, NAMES, 1, 0.8)
        remedy = f"did you mean {close[0]}?" if close else "syscalls(2) lists the names"
        weaker = profile["defaultAction"] in LENIENT and rule["action"] != profile["defaultAction"]
        tell = report.error if weaker or strict else report.warn
        tell(f"{where}[{rule['names'].index(name)}]", f'unknown system call "{name}"', remedy)


def filter_of(config: Config, state_root: str) -> bytes | None:
    """The compiled filter of the config's profile, or None if it has none. Raises PyruncError.

    Compiled filters are kept below `state_root`, because to load libseccomp costs more than all the rest.
    """
    profile = config.get("linux", {}).get("seccomp")
    if not profile:
        return None
    from pyrunc.linux.seccomp import cache

    key = cache.key_of(profile)
    bpf = cache.load(state_root, key)
    if bpf is None:
        from pyrunc.linux.seccomp.compile import compile_profile

        bpf = compile_profile(profile)
        cache.save(state_root, key, bpf)
    return bpf


def flags_of(profile: Seccomp) -> int:
    """The flags for seccomp(2). A profile without a list of flags gets SPEC_ALLOW, as with runc."""
    listed = profile.get("flags")
    flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW if listed is None else 0
    for flag in listed or ():
        flags |= FLAGS[flag]
    if notifies(profile):
        return flags | SECCOMP_FILTER_FLAG_NEW_LISTENER
    return flags & ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV


def notifies(profile: Seccomp) -> bool:
    """Whether an agent is to be notified of a system call."""
    if profile["defaultAction"] == NOTIFY:
        return True
    return any(rule["action"] == NOTIFY for rule in profile.get("syscalls") or ())


def plan(config: Config, program: Program, bpf: bytes, *, wait: bool = True) -> None:
    """Emit the load of the filter. It needs no_new_privs, or CAP_SYS_ADMIN in init's user namespace.

    Where the profile notifies, init says SAY_LISTENER and, with `wait`, waits, see `notify`.
    """
    profile = config["linux"]["seccomp"]
    flags = flags_of(profile)
    listener = program.register() if notifies(profile) else None
    # struct sock_fprog of linux/filter.h: the number of instructions, and where they are.
    filter_program = program.data(pack("<HxxxxxxQ", len(bpf) // 8, program.data(bpf)))
    program.call(
        "seccomp",
        SECCOMP_SET_MODE_FILTER,
        flags,
        filter_program,
        step=f"load the seccomp filter of {len(bpf) // 8} instructions",
        of="linux.seccomp",
        into=listener,
    )
    if listener is not None:
        from pyrunc.linux.seccomp.notify import plan_hand_over

        plan_hand_over(profile, program, listener, wait=wait)
        program.release(listener)
