"""Stage 2 on one page: whether the configuration is sound, and whether this version can carry all of it out.

First the shape (the compiled form of specs/), then, since the shapes are certain now, the rules that a schema cannot
express: `basics` for what belongs to no room, and every room's own `check`.
"""

from __future__ import annotations

from pyrunc.config.annotations import INIT
from pyrunc.errors import Rejected
from pyrunc.validate import basics
from pyrunc.validate._accept import accept
from pyrunc.validate.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.config.spec import Config, Process
    from pyrunc.plan.host import Host

#: The rooms of `pyrunc.linux` that judge a configuration, in the order in which their problems are reported.
#: (`hooks` has none: the schema says all there is to say about them.)
ROOMS = (
    "namespaces",
    "time_offsets",
    "idmap",
    "rootfs",
    "mounts",
    "devices",
    "masking",
    "terminal",
    "credentials",
    "capabilities",
    "limits",
    "personality",
    "sysctl",
    "hostname",
    "seccomp",
    "cgroups",
)

#: Those of them that judge a process, also one that joins a container later.
PROCESS_ROOMS = ("credentials", "capabilities", "limits")
TERMINAL = ("terminal", "process", ("terminal", "consoleSize"))

#: Rooms for what few configurations have, each with where its properties are: not even loaded without them.
SELDOM = (
    ("cpu_affinity", "process", ("execCPUAffinity",)),
    ("net_devices", "linux", ("netDevices",)),
    ("intel_rdt", "linux", ("intelRdt",)),
    ("scheduler", "process", ("scheduler",)),
    ("apparmor", "process", ("apparmorProfile",)),
    ("selinux", "process", ("selinuxLabel",)),
    ("selinux", "linux", ("mountLabel",)),
    ("memory_policy", "linux", ("memoryPolicy",)),
    ("init_process", "annotations", (INIT,)),
)


def check(config: Config, host: Host) -> Report:
    """Check everything, and return the report with its warnings; raises `Rejected` with every problem at once."""
    report = check_shape(config)
    check_rules(config, host, report)
    return report


def check_rules(config: Config, host: Host, report: Report) -> None:
    """Ask `basics` and every room about `config`, whose shape is sound.

    Raises `Rejected` with every problem at once.
    """
    basics.check(config, host, report)
    for name in ROOMS:
        room(name).check(config, host, report)
    seldom = []
    for name, part, properties in SELDOM:
        values: Any = config.get(part) or {}
        if any(values.get(key) or values.get(key) == {} for key in properties):
            seldom.append(name)
    for name in dict.fromkeys(seldom):  # each once
        room(name).check(config, host, report)
    if report.problems:
        raise Rejected(report.problems)


def check_process(process: Process, config: Config, host: Host, source: str) -> Report:
    """Check `process`, which is to join the container of the sound `config`, as if it were that config's own.

    `source` names it in errors. Returns the report with its warnings; raises `Rejected` with every problem at once.
    """
    alone: Config = {"ociVersion": config["ociVersion"], "root": config["root"], "process": process}
    report = check_shape(alone, source)
    joined: Config = {**config, "process": process}
    names = [*PROCESS_ROOMS]
    values: Any = process
    for name, part, properties in (*SELDOM, TERMINAL):
        if part == "process" and any(values.get(key) or values.get(key) == {} for key in properties):
            names.append(name)
    for name in names:
        room(name).check(joined, host, report)
    if report.problems:
        raise Rejected(report.problems, source)
    return report


def check_shape(config: object, source: str = "config.json") -> Report:
    """Hold `config` against specs/config.schema.json; raises `Rejected` with every problem at once.

    Nothing may look into a configuration before: only from here on do its types hold.
    """
    report = Report()
    if accept(config):
        return report
    from pyrunc.validate.explain import problems

    found = problems(config)
    if found:
        raise Rejected(found, source)
    # jsonschema is the authority. That the two differ is a mistake in the compiled check, which tests look for.
    report.warn(
        "", "the compiled check refuses this configuration, the schema does not", "please report this"
    )
    return report


def room(name: str) -> Any:
    """The module `pyrunc.linux.<name>`; raises ImportError if it is missing."""
    return __import__(f"pyrunc.linux.{name}", fromlist=("check",))
