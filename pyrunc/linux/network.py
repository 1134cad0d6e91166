"""Network: the loopback device of a new network namespace is brought up; users rely on it."""

from __future__ import annotations

from struct import pack

from pyrunc.kernel.constants import SIOCSIFFLAGS
from pyrunc.linux.namespaces import is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.program import Program

AF_INET, SOCK_DGRAM, SOCK_CLOEXEC = 2, 2, 0o2000000
IFF_UP: Final = 1


def plan_loopback(config: Config, program: Program) -> None:
    """Emit setting `lo` up (netdevice(7)) where the network namespace is new."""
    if not is_new(config, "network"):
        return
    socket = program.register()
    program.call(
        "socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, step="open a socket to set up loopback", into=socket
    )
    request = program.data(pack("<16sh22x", b"lo", IFF_UP))
    program.call(
        "ioctl", socket, SIOCSIFFLAGS, request, step="bring up the loopback device", of="linux.namespaces"
    )
    program.call("close", socket, step="close the socket")
    program.release(socket)
