"""AppArmor profile of the container process (config.md "Linux process: apparmorProfile"; apparmor(7)).

The profile is bound to the next execve(2) of init and inherited by what init forks. So it is written after
createContainer hooks, which are programs of the host and stay what they are, and before startContainer hooks, which are
programs of the image and must not run with less confinement than the container's own. As early as that it is also
before no_new_privs and a seccomp filter, under which a change of profile may be refused.
"""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, EPERM

from pyrunc.linux.lsm import APPARMOR, VALUE_MAX, plan_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

UNCONFINED: Final = "unconfined"
_WHERE: Final = "process.apparmorProfile"


def check(config: Config, host: Host, report: Report) -> None:
    """A profile takes AppArmor; whether this one is loaded the kernel says when init asks for it."""
    profile = config["process"].get("apparmorProfile", "")
    if not _is_needed(profile, host):
        return
    if APPARMOR not in host.security_modules:
        report.error(
            _WHERE,
            f"AppArmor is not enabled on this host, and the profile {profile[:80]} cannot be applied",
            "remove it, or boot with apparmor=1 security=apparmor",
        )
    if len(profile.encode("utf-8", "surrogateescape")) > VALUE_MAX:
        report.error(_WHERE, f"is longer than {VALUE_MAX} bytes", "no profile has such a name")


def _is_needed(profile: str, host: Host) -> bool:
    # Without AppArmor every process is unconfined. Engines may ask for just that, wherever they run.
    return profile != "" and (profile != UNCONFINED or APPARMOR in host.security_modules)


def plan(config: Config, host: Host, program: Program, proc: Register) -> None:
    """Emit asking for the profile, through the procfs in `proc`."""
    profile = config["process"].get("apparmorProfile", "")
    if not _is_needed(profile, host):
        return
    value = b"exec " + profile.encode("utf-8", "surrogateescape")
    # The file of its own since Linux 5.8; before that, the one for whichever module is the only one.
    names = ("apparmor/exec", "exec")
    plan_attribute(program, proc, names, value, step=f"apply the AppArmor profile {profile}", of=_WHERE)


def plan_change(config: Config, host: Host, program: Program, proc: Register) -> None:
    """Emit changing to the profile at once, for an init that executes nothing any more (aa_change_profile(2))."""
    profile = config["process"].get("apparmorProfile", "")
    if profile == UNCONFINED or not _is_needed(profile, host):
        return
    value = b"changeprofile " + profile.encode("utf-8", "surrogateescape")
    names = ("apparmor/current", "current")
    step = f"apply the AppArmor profile {profile} to the container's init"
    plan_attribute(program, proc, names, value, step=step, of=_WHERE)


def explain(number: int) -> str:
    """What the kernel's errno leaves out (aa_change_profile() in security/apparmor/domain.c)."""
    return {
        ENOENT: "it is not loaded; load it with apparmor_parser, or have the engine do so",
        EACCES: "the profile that pyrunc itself runs under allows no change to it",
        EPERM: "pyrunc itself runs with no_new_privs, under a profile that this one is not part of",
        EINVAL: "the kernel does not take it for the name of a profile",
    }.get(number, "")
