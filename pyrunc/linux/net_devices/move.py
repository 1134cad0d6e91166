"""Moving devices into the container's network namespace, and back where the container comes to nothing.

What the kernel does at once, in one request, is not done in steps: it checks that the device can go, takes it
down, takes its addresses, moves and renames it. So a device that cannot be moved is left as it was.

The container's side is spoken with over a socket that a child of the runtime opens there. The runtime itself
enters no namespace of a container. Init could open the socket, but where a network namespace of the host is
joined together with a new user namespace, init's rights do not reach it.

A container that has been created keeps its devices: the specification has nobody move them out again. While
`create` may still fail, the socket holds the namespace, so that the devices outlive even a dead init. Only where
`create` itself is killed outright, devices go the way of the namespace: with a new one virtual devices end and
physical ones return to the initial namespace (network_namespaces(7)), in a joined one they stay.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SOCK_CLOEXEC, SOCK_SEQPACKET, socketpair
from _socket import socket as Socket
from errno import EEXIST, ENODEV
from struct import pack, unpack

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLONE_NEWNET, SCM_RIGHTS, SOL_SOCKET
from pyrunc.kernel.native import syscall
from pyrunc.linux.net_devices import TEMPLATE
from pyrunc.linux.net_devices.netlink import Link, Netlink, open_here
from pyrunc.validate.report import member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.linux.net_devices.netlink import Address

#: What the kernel itself calls a device whose name is taken in the namespace to which it returns.
_HOMELESS: Final = "dev%d"


class Namespaces:
    """The runtime's network namespace and the container's: a descriptor and a socket for each.

    They are closed when nobody may want a device back any more, which is when nothing refers to this object.
    """

    def __init__(self, init: int) -> None:
        self.descriptors = []
        for process in ("self", str(init)):
            self.descriptors.append(os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self.host_namespace, self.container_namespace = self.descriptors
        self.host = Netlink(open_here())
        self.container = Netlink(_open_in(self.container_namespace))

    def __del__(self) -> None:
        for name in ("host", "container"):
            if name in self.__dict__:
                self.__dict__[name].close()
        for descriptor in self.descriptors:
            os.close(descriptor)


class Device:
    """A device of the host that goes to the container as `inside`, a name or a template."""

    def __init__(self, namespaces: Namespaces, path: str, outside: str, inside: str) -> None:
        self.namespaces = namespaces
        self.path = path
        self.outside = outside
        self.inside = inside
        self.link: Link | None = None
        self.addresses: list[Address] = []
        self.there: frozenset[int] = frozenset()

    def take(self) -> None:
        """Move it, give it its addresses, and bring it up. Raises PyruncError."""
        host, container = self.namespaces.host, self.namespaces.container
        try:
            link = host.link(self.outside)
        except KernelError as error:
            if error.number != ENODEV:
                raise
            raise KernelError(
                f"{self.path}: find network device {self.outside}",
                ENODEV,
                remedy="it has to be in the network namespace of pyrunc",
            ) from error
        self.inside = inside = self.inside or link.name
        if not inside.endswith(TEMPLATE) and _named(container, inside):
            # The kernel would notice that after the move.
            raise KernelError(
                f"{self.path}: move network device {self.outside} into the container",
                EEXIST,
                detail=f'the container has a network device "{inside}"',
                remedy=f'give another name, or a template such as "net{TEMPLATE}"',
            )
        self.addresses = [address for address in host.addresses(link.index) if address.kept]
        self.there = frozenset([other.index for other in container.links()])
        self.link = link  # from here on it may have moved
        step = f"{self.path}: move network device {self.outside} into the container"
        host.move(link.index, self.namespaces.container_namespace, inside, step)
        moved = _newest(container, self.there, link)
        if moved is None:
            raise PyruncError(
                f"{step}: it is not there", remedy="did somebody take it away?", code="invalid-config"
            )
        # Before it is up, so that it never is without them.
        self._settle(container, moved, f"network device {moved.name} in the container")
        container.bring_up(moved.index, f"{self.path}: bring up network device {moved.name} in the container")

    def give_back(self) -> None:
        """Move it back, under its name, with its addresses, up if it was. Nothing if it was not moved."""
        host, container, link = self.namespaces.host, self.namespaces.container, self.link
        moved = _newest(container, self.there, link) if link else None
        if link is None or moved is None:
            return
        name = _HOMELESS if _named(host, link.name) else link.name
        there = frozenset([other.index for other in host.links()])
        step = f"return network device {link.name} to the host"
        container.move(moved.index, self.namespaces.host_namespace, name, step)
        returned = _newest(host, there, link)
        if returned is None:
            raise PyruncError(
                f"{step}: it is not there", remedy="did somebody take it away?", code="invalid-config"
            )
        self._settle(host, returned, f"the returned network device {returned.name}")
        if link.up:
            host.bring_up(returned.index, f"bring up the returned network device {returned.name}")

    def _settle(self, netlink: Netlink, link: Link, what: str) -> None:
        assert self.link is not None
        for address in self.addresses:
            netlink.add(
                address.request(link.index, self.link.name, link.name),
                f"{self.path}: give {what} its address {address.text}",
            )


def move(config: Config, init: int, undo: Callable[[Callable[[], object]], None]) -> None:
    """Move every device of linux.netDevices into the network namespace of process `init`.

    `undo` is told, before each, what gives it back. Raises PyruncError.
    """
    namespaces = Namespaces(init)
    if os.path.sameopenfile(*namespaces.descriptors):
        raise PyruncError(
            "linux.netDevices: the container is in the network namespace of pyrunc",
            remedy="give it another in linux.namespaces",
            code="invalid-config",
        )
    for outside, wanted in (config.get("linux", {}).get("netDevices") or {}).items():
        path = member("linux.netDevices", outside)
        device = Device(namespaces, path, outside, wanted.get("name") or "")
        undo(device.give_back)
        device.take()


def _named(netlink: Netlink, name: str) -> bool:
    try:
        netlink.link(name)
    except KernelError as error:
        if error.number != ENODEV:
            raise
        return False
    return True


def _newest(netlink: Netlink, there: frozenset[int], link: Link) -> Link | None:
    """The device that was `link` elsewhere, which is none of those that were `there`.

    The kernel lets it keep its index unless that is taken, and does not tell the new one.
    """
    found = [
        other for other in netlink.links() if other.index not in there and other.identity == link.identity
    ]
    found.sort(key=lambda other: other.index != link.index)
    return found[0] if found else None


def _open_in(namespace: int) -> Socket:
    """A netlink socket in the network namespace `namespace`, opened by a child of this process."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        # Nothing of the parent's may be finished twice, whatever happens: this process only ever _exits.
        try:
            syscall("setns", namespace, CLONE_NEWNET)
            opened = open_here()
            theirs.sendmsg([pack("=i", 0)], [(SOL_SOCKET, SCM_RIGHTS, pack("=i", opened.fileno()))])
        except OSError as error:
            theirs.send(pack("=i", error.errno or 0))
        finally:
            os._exit(0)
    theirs.close()
    data, ancillary, _, _ = ours.recvmsg(4, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
    ours.close()
    os.waitpid(pid, 0)
    if not ancillary:
        raise KernelError(
            "open a netlink socket in the container's network namespace", unpack("=i", data)[0] if data else 0
        )
    (descriptor,) = unpack("=i", ancillary[0][2])
    return Socket(fileno=descriptor)
