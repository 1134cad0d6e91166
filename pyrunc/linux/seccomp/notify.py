"""Notifications: system calls that an agent outside of the container decides (SCMP_ACT_NOTIFY, seccomp_unotify(2)).

The kernel gives the listener, a descriptor, to init as it loads the filter. From then on every call of init that the
profile notifies waits for an agent that does not have the listener yet. So between the load and the moment when the
agent has it, init makes no call that notifies: it gives the listener to the runtime with one call, waits with a second
until the runtime has sent it on (`pyrunc.lifecycle.seccomp_agent`), and closes its own copy with a third. For each
there are several to choose from, by the profile. Where sendmsg(2) is not to be called, init tells the descriptor's
number, and the runtime takes it (pidfd_getfd(2)), for which it needs the rights of a debugger. Later calls may notify:
whoever answers them is there.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOSYS
from struct import pack

from pyrunc.linux.seccomp import notifies
from pyrunc.linux.seccomp.passing import PASSING, passes
from pyrunc.plan.program import TALK
from pyrunc.plan.talk import SAY_LISTENER, give, hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Seccomp
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

#: With which init can give, wait and close; the first that passes is taken. Except for sendmsg and close_range the
#: first arguments mean the same.
GIVING: Final = ("sendmsg", "write", "sendto")
WAITING: Final = ("read", "recvfrom")
CLOSING: Final = ("close", "close_range")


def check(profile: Seccomp, agent: str, report: Report) -> None:
    """A profile that notifies needs an agent, whose socket is `agent`, and has to let init give the listener away."""
    if not agent:
        report.error(
            "linux.seccomp.listenerPath",
            "is missing, and the profile has SCMP_ACT_NOTIFY",
            "name the socket of the agent that is to be notified",
        )
    if not any(passes(profile, name) for name in GIVING):
        report.error(
            "linux.seccomp",
            f"SCMP_ACT_NOTIFY needs {' or '.join(GIVING)} to be allowed: init hands the listener over with it, "
            "before an agent could be notified",
            f"allow one of them without conditions ({PASSING[0]})",
        )


def _best(profile: Seccomp, names: tuple[str, ...]) -> str:
    return next((name for name in names if passes(profile, name)), names[0])


def plan_hand_over(profile: Seccomp, program: Program, listener: Register, *, wait: bool = True) -> None:
    """Emit giving the listener to the runtime, waiting until the agent has it, and closing it.

    `wait`: False where no call that may notify comes before init waits for the runtime anyway.
    """
    of = "linux.seccomp.listenerPath"
    giving, step = _best(profile, GIVING), "give the seccomp listener to the runtime"
    if giving == "sendmsg":
        give(program, listener, SAY_LISTENER, 0, step=step, of=of)
    else:
        message = program.data(pack("<IIq", SAY_LISTENER, 0, -1))
        program.store(message + 8, listener, 8)
        program.call(giving, TALK, message, 16, step=step, of=of)
    if wait:
        hear(program, "wait until the seccomp agent has the listener", call=_best(profile, WAITING))
    # Were it left open, a call that waits for an answer would go on waiting when the agent ends; so it gets ENOSYS.
    closing = _best(profile, CLOSING)
    last = (listener, 0) if closing == "close_range" else ()
    program.call(closing, listener, *last, step="close the seccomp listener", of=of)


def explain(profile: Seccomp, number: int, path: str) -> str:
    """The remedy for a step of init, from the JSON path `path`, that failed with the errno `number`; "" for none."""
    if not notifies(profile):
        return ""
    if path == "linux.seccomp":
        if number == EBUSY:
            return "this process is under a filter with a listener already, and the kernel allows one"
        if number == EINVAL:
            return "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19"
    return "the seccomp agent has ended without an answer" if number == ENOSYS else ""
