"""The container's end of sd_notify(3): a socket of its own at /run/notify/notify.sock, named by NOTIFY_SOCKET.

Never the host's own socket: over that a container could tell the service manager that any process of the host is
its main process, hand descriptors to process 1, and widen who may speak for the unit. The runtime listens on the
container's socket and passes on what it understands (`pyrunc.lifecycle.notify`).

The directory lies in the container's state directory, so that it goes with the container. It is mounted read-only,
without devices, programs and set-uid bits: the container can speak to the socket in it, and nothing else.
"""

from __future__ import annotations

from pyrunc.linux.environment import value_of
from pyrunc.linux.namespaces import has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config

#: Name of the socket in the directory.
SOCKET: Final = "notify.sock"
#: Where the container finds the directory: runc's place, which programs have come to know.
MOUNT_POINT: Final = "/run/notify"


def is_wanted(config: Config) -> bool:
    """Whether the container can be given a socket.

    A config that sets NOTIFY_SOCKET itself (empty: it wants none) has somebody else to speak to, such as conmon.
    Without a mount namespace there is nowhere to mount it but on the host.
    """
    process = config.get("process")
    return (
        process is not None
        and has(config, "mount")
        and value_of(process.get("env") or (), "NOTIFY_SOCKET") is None
    )


def with_socket(config: Config, source: str, watchdog: str = "") -> Config:
    """`config` with the mount of the directory `source`, last of all mounts, and with NOTIFY_SOCKET.

    `watchdog`: the value for WATCHDOG_USEC (sd_watchdog_enabled(3)), unless the config has one; empty for none.
    """
    process = config["process"]
    environment = [*(process.get("env") or ()), f"NOTIFY_SOCKET={MOUNT_POINT}/{SOCKET}"]
    if watchdog and value_of(environment, "WATCHDOG_USEC") is None:
        environment.append(f"WATCHDOG_USEC={watchdog}")
    mounts = [
        *(config.get("mounts") or ()),
        {
            "destination": MOUNT_POINT,
            "type": "bind",
            "source": source,
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        },
    ]
    return {**config, "mounts": mounts, "process": {**process, "env": environment}}
