"""Network devices of the host that move into the container (config-linux.md "Network Devices").

Here are the rules; `move` moves, over `netlink`. Both are loaded only where a configuration has netDevices.
"""

from __future__ import annotations

import os

from pyrunc.linux.namespaces import has
from pyrunc.validate.report import member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

#: IFNAMSIZ of linux/if.h without the NUL: bytes of a device's name.
NAME_MAX: Final = 15
#: At the end of a name: the kernel puts in a number that is free.
TEMPLATE: Final = "%d"


def check(config: Config, host: Host, report: Report) -> None:
    """A network namespace apart from the host's, a caller who may move devices, names that the kernel takes."""
    devices = config.get("linux", {}).get("netDevices") or {}
    if not devices:
        return
    where = "linux.netDevices"
    if not has(config, "network"):
        report.error(
            where,
            "unable to move network devices without a network namespace of the container",
            'add {"type": "network"} to linux.namespaces',
        )
    if host.rootless:
        report.error(where, "network devices are not supported for rootless containers", "run pyrunc as root")
    taken: dict[str, str] = {}
    for outside, device in devices.items():
        path = member(where, outside)
        if why := _wrong(outside):
            report.error(path, f'invalid name of a network device "{outside}": {why}')
        inside = device.get("name") or outside
        if inside != outside and (why := _wrong(inside.removesuffix(TEMPLATE)) or _too_long(inside)):
            report.error(f"{path}.name", f'invalid name of a network device "{inside}": {why}')
        if inside in taken and not inside.endswith(TEMPLATE):
            report.error(path, f'"{inside}" is the name of {taken[inside]} in the container, too')
        taken[inside] = path


def _wrong(name: str) -> str:
    """Why the kernel would refuse `name` (dev_valid_name of net/core/dev.c), or ""."""
    if not name:
        return "it is empty"
    if name in (".", ".."):
        return '"." and ".." are no names'
    for sign in "/:":
        if sign in name:
            return f'it has a "{sign}" in it'
    if any(byte.isspace() or ord(byte) == 0xA0 for byte in os.fsencode(name).decode("latin-1")):
        return "it has a blank in it"
    if "%" in name:
        return f'only "{TEMPLATE}" at the end of the name in the container has a meaning'
    return _too_long(name)


def _too_long(name: str) -> str:
    return f"it is longer than {NAME_MAX} bytes" if len(os.fsencode(name)) > NAME_MAX else ""
