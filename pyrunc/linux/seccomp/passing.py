"""Which system calls a profile lets through for certain: pyrunc-init makes some under the filter itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Seccomp, SyscallRule

#: Actions after which the call is made.
PASSING: Final = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")


def passes(profile: Seccomp, name: str, *arguments: int) -> bool:
    """Whether the profile lets the system call `name` through: with these first arguments, whatever the others."""
    rules = [rule for rule in profile.get("syscalls") or () if name in rule["names"]]
    if any(rule["action"] not in PASSING for rule in rules):
        return False
    return profile["defaultAction"] in PASSING or any(_holds(rule, arguments) for rule in rules)


def _holds(rule: SyscallRule, arguments: tuple[int, ...]) -> bool:
    """Whether all conditions hold. Of operators the one of the engines' profiles (for clone) is known, no other."""
    return all(
        condition["index"] < len(arguments)
        and condition["op"] == "SCMP_CMP_MASKED_EQ"
        and arguments[condition["index"]] & condition["value"] == condition.get("valueTwo", 0)
        for condition in rule.get("args") or ()
    )
