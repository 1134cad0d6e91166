"""Stage 2 on one page: is the configuration sound, and can this version of pyrunc carry all of it out?

First the shape (the compiled form of specs/), then, since the shapes are certain now, the rules that a schema cannot
express: `basics` for what belongs to no room, and every room's own `check`.
"""

from __future__ import annotations

from pyrunc.errors import Rejected
from pyrunc.validate import basics
from pyrunc.validate._accept import accept
from pyrunc.validate.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host

#: The rooms of `pyrunc.linux` that judge a configuration, in the order in which their problems are reported.
ROOMS = (
    "namespaces",
    "idmap",
    "rootfs",
    "mounts",
    "devices",
    "masking",
    "terminal",
    "credentials",
    "capabilities",
    "limits",
    "sysctl",
    "hostname",
    "hooks",
    "seccomp",
    "cgroups",
)


def check(config: Config, host: Host) -> Report:
    """Check everything, and return the report with its warnings; raises `Rejected` with every problem at once."""
    report = Report()
    check_shape(config, report)
    basics.check(config, host, report)
    for name in ROOMS:
        room(name).check(config, host, report)
    if report.problems:
        raise Rejected(report.problems)
    return report


def check_shape(config: object, report: Report) -> None:
    """Hold `config` against specs/config.schema.json; raises `Rejected` with every problem at once."""
    if accept(config):
        return
    from pyrunc.validate.explain import problems

    found = problems(config)
    if found:
        raise Rejected(found)
    # jsonschema is the authority. That the two differ is a mistake in the compiled check, which tests look for.
    report.warn(
        "", "the compiled check refuses this configuration, the schema does not", "please report this"
    )


def room(name: str) -> Any:
    """The module `pyrunc.linux.<name>`; raises ImportError if it is missing."""
    return __import__(f"pyrunc.linux.{name}", fromlist=("check",))
