"""rtnetlink(7) as far as moving a device takes it: links and addresses, asked for and changed.

Own code and no library: pyroute2 was measured, and takes 110 ms and 330 modules to import (asyncio and
multiprocessing among them) where a whole `create` takes a tenth of that.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, inet_ntop
from _socket import socket as Socket
from struct import Struct

from pyrunc.errors import KernelError
from pyrunc.kernel.rtnetlink import (
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_CACHEINFO,
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
    IFA_FLAGS,
    IFA_LABEL,
    IFA_LOCAL,
    IFA_PROTO,
    IFA_RT_PRIORITY,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_NET_NS_FD,
    IFLA_PARENT_DEV_NAME,
    IFLA_PERM_ADDRESS,
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    RT_SCOPE_UNIVERSE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    SOL_NETLINK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: struct nlmsghdr: length, type, flags, sequence number, port.
_HEADER: Final = Struct("=IHHII")
#: struct rtattr: length, type.
_ATTRIBUTE: Final = Struct("=HH")
#: struct ifinfomsg: family, ARPHRD_ type, index, flags, which of them change.
_LINK: Final = Struct("=BxHiII")
#: struct ifaddrmsg: family, length of the prefix, flags, scope, index of the device.
_ADDRESS: Final = Struct("=BBBBI")
_NUMBER: Final = Struct("=I")
_ERROR: Final = Struct("=i")
#: The type of an attribute is without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
_TYPE: Final = 0x3FFF
_BUFFER: Final = 1 << 16

#: What makes up an address; the rest of what RTM_GETADDR tells is of the place where it is.
_KEPT: Final = (IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_RT_PRIORITY, IFA_PROTO)
#: The kernel's own findings among the flags.
_FOUND: Final = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_PERMANENT | IFA_F_SECONDARY | IFA_F_TENTATIVE


class Link:
    """A network device: index and name in its namespace, whether it is up, and its `identity`.

    The identity goes with it wherever it goes: what kind it is, its hardware address, and what a virtual device
    cannot pretend to have: the address it was made with, and the hardware that it is.
    """

    __slots__ = ("identity", "index", "name", "up")

    def __init__(self, body: bytes) -> None:
        _, kind, self.index, flags, _ = _LINK.unpack_from(body)
        values = _attributes(body, _LINK.size)
        self.name = os.fsdecode(values[IFLA_IFNAME].rstrip(b"\0"))
        self.up = bool(flags & IFF_UP)
        driver = _attributes(values.get(IFLA_LINKINFO, b""), 0).get(IFLA_INFO_KIND)
        told = [values.get(each) for each in (IFLA_ADDRESS, IFLA_PERM_ADDRESS, IFLA_PARENT_DEV_NAME)]
        self.identity = (kind, driver, *told)


class Address:
    """An address of the device `index`."""

    __slots__ = ("family", "flags", "index", "prefix", "scope", "values")

    def __init__(self, body: bytes) -> None:
        self.family, self.prefix, self.flags, self.scope, self.index = _ADDRESS.unpack_from(body)
        self.values = _attributes(body, _ADDRESS.size)
        if IFA_FLAGS in self.values:  # all of them; the structure has room for eight
            (self.flags,) = _NUMBER.unpack(self.values[IFA_FLAGS])

    @property
    def kept(self) -> bool:
        """Whether the specification wants it in the container: permanent, and of global scope."""
        return bool(self.flags & IFA_F_PERMANENT) and self.scope == RT_SCOPE_UNIVERSE

    @property
    def text(self) -> str:
        """It in words: "192.0.2.7/24"."""
        raw = self.values.get(IFA_LOCAL) or self.values.get(IFA_ADDRESS, b"")
        known = self.family in (AF_INET, AF_INET6)
        return f"{inet_ntop(self.family, raw) if known else raw.hex()}/{self.prefix}"

    def request(self, index: int, before: str, now: str) -> bytes:
        """The body of RTM_NEWADDR for the same address on device `index`, which was called `before`, and is `now`.

        A label begins with the name of its device, and the kernel renames it so, too (ip-address(8)).
        """
        flags = self.flags & ~_FOUND
        body = _ADDRESS.pack(self.family, self.prefix, flags & 0xFF, self.scope, index)
        for kind in _KEPT:
            value = self.values.get(kind)
            if value is None:
                continue
            if kind == IFA_LABEL:
                label = os.fsdecode(value.rstrip(b"\0"))
                if label.startswith(before):
                    label = now + label[len(before) :]
                value = os.fsencode(label)[:15] + b"\0"
            body += _attribute(kind, value)
        return body + _attribute(IFA_FLAGS, _NUMBER.pack(flags))


class Netlink:
    """A socket that speaks with one network namespace: the one in which it was opened, for good."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._count = 0
        socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)  # say in words what is wrong
        socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # without repeating the request

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def link(self, name: str) -> Link:
        """The device `name` (or with this alternative name). Raises KernelError, ENODEV where there is none."""
        body = _LINK.pack(0, 0, 0, 0, 0) + _attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        return Link(self._ask(RTM_GETLINK, NLM_F_ACK, body, f'find the network device "{name}"')[0])

    def links(self) -> list[Link]:
        """All devices of the namespace."""
        body = _LINK.pack(0, 0, 0, 0, 0)
        return [Link(found) for found in self._ask(RTM_GETLINK, NLM_F_DUMP, body, "list the network devices")]

    def addresses(self, index: int) -> list[Address]:
        """The addresses, of every family, of the device `index`."""
        body = _ADDRESS.pack(0, 0, 0, 0, 0)
        found = map(
            Address, self._ask(RTM_GETADDR, NLM_F_DUMP, body, "list the addresses of network devices")
        )
        return [address for address in found if address.index == index]

    def move(self, index: int, namespace: int, name: str, step: str) -> None:
        """Move the device `index` to the namespace with the descriptor `namespace`, under the name `name`.

        The kernel takes it down and its addresses away, after it has found that it can be moved.
        """
        body = _LINK.pack(0, 0, index, 0, 0)
        body += _attribute(IFLA_NET_NS_FD, _NUMBER.pack(namespace))
        body += _attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        self._ask(RTM_NEWLINK, NLM_F_ACK, body, step)

    def bring_up(self, index: int, step: str) -> None:
        """Set the device `index` up."""
        self._ask(RTM_NEWLINK, NLM_F_ACK, _LINK.pack(0, 0, index, IFF_UP, IFF_UP), step)

    def add(self, address: bytes, step: str) -> None:
        """Add an address (`Address.request`)."""
        self._ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, address, step)

    def _ask(self, kind: int, flags: int, body: bytes, step: str) -> list[bytes]:
        """Send a request; the bodies of the replies. Raises KernelError with the kernel's own words, if it has any."""
        try:
            while True:
                self._count += 1
                length = _HEADER.size + len(body)
                self._socket.send(_HEADER.pack(length, kind, NLM_F_REQUEST | flags, self._count, 0) + body, 0)
                replies = self._replies(step)
                if replies is not None:
                    return replies
        except OSError as error:
            raise KernelError.of(step, error) from error

    def _replies(self, step: str) -> list[bytes] | None:
        """What is said up to the end; None if the list changed meanwhile, and has to be asked for again."""
        found: list[bytes] = []
        consistent = True
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at < len(data):
                length, kind, flags, count, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if count != self._count:
                    continue  # left from a request that a signal has interrupted
                consistent = consistent and not flags & NLM_F_DUMP_INTR
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    if number := -_ERROR.unpack_from(body)[0]:
                        raise KernelError(step, number, detail=_words(body, flags))
                    return found if consistent else None
                found.append(body)


def _words(body: bytes, flags: int) -> str:
    """What the kernel says besides the errno (extended acknowledgement), or ""."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    text = _attributes(body, _ERROR.size + _HEADER.size).get(NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode("utf-8", "replace")


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Type → value of the attributes in `body` from `at` on."""
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def open_here() -> Socket:
    """A socket for `Netlink` in the network namespace of this process. Raises OSError."""
    socket = Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
    socket.bind((0, 0))
    return socket
