"""Execution domain of the container process (config-linux.md "Personality"; personality(2))."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The spec's domains, by their value in linux/personality.h.
DOMAINS: Final = {"LINUX": 0x0000, "LINUX32": 0x0008}


def check(config: Config, host: Host, report: Report) -> None:
    """No flags: the spec defines none, and a value that is not supported is an error."""
    wanted = config.get("linux", {}).get("personality")
    if not wanted:
        return
    for index, flag in enumerate(wanted.get("flags") or ()):
        report.error(
            f"linux.personality.flags[{index}]", f'unknown flag "{flag}"', "no flags are defined; remove it"
        )


def plan(config: Config, host: Host, program: Program) -> None:
    """Emit personality(2)."""
    wanted = config.get("linux", {}).get("personality")
    if wanted:
        domain = wanted["domain"]
        program.call(
            "personality", DOMAINS[domain], step=f"set personality to {domain}", of="linux.personality"
        )
