"""Host name and domain name of the container (config.md "Hostname", "Domainname"; uts_namespaces(7))."""

from __future__ import annotations

from pyrunc.linux.namespaces import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: __NEW_UTS_LEN of linux/utsname.h: the longest name, in bytes.
LONGEST: Final = 64


def check(config: Config, host: Host, report: Report) -> None:
    """Both names need a UTS namespace of the container's own, and at most 64 bytes."""
    names = (("hostname", config.get("hostname")), ("domainname", config.get("domainname")))
    for key, name in names:
        if not name:
            continue
        if not has(config, "uts"):
            report.error(
                key,
                f"unable to set {key} without a private UTS namespace",
                f'add {{"type": "uts"}} to linux.namespaces or remove {key}',
            )
        size = len(name.encode("utf-8", "surrogateescape"))
        if size > LONGEST:
            report.error(key, f"has {size} bytes", f"the kernel takes at most {LONGEST}")


def plan(config: Config, host: Host, program: Program) -> None:
    """Emit sethostname(2) and setdomainname(2); an empty name is left as the namespace has it."""
    hostname = config.get("hostname")
    if hostname:
        raw = hostname.encode("utf-8", "surrogateescape")
        program.call("sethostname", raw, len(raw), step=f"set host name to {hostname}", of="hostname")
    domainname = config.get("domainname")
    if domainname:
        raw = domainname.encode("utf-8", "surrogateescape")
        program.call("setdomainname", raw, len(raw), step=f"set domain name to {domainname}", of="domainname")
