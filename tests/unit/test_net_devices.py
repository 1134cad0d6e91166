"""The room for network devices: the rules for names and namespaces, and what of an address is given again."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from pyrunc.kernel.rtnetlink import IFA_ADDRESS, IFA_FLAGS, IFA_LABEL, IFA_LOCAL
from pyrunc.linux import net_devices
from pyrunc.linux.net_devices.netlink import Address, Link
from pyrunc.plan.host import Host
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})


def problems(devices: dict[str, Any], host: Host = HOST, *, network: str | None = "") -> list[str]:
    namespaces = [] if network is None else [{"type": "network", "path": network}]
    config: Any = {"linux": {"netDevices": devices, "namespaces": namespaces}}
    report = Report()
    net_devices.check(config, host, report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize("name", ["eth0", "a", "x" * 15, "é" * 7, "wlan-0.7_@", "..."])
def test_names(name: str) -> None:
    assert problems({name: {}}) == []
    assert problems({"host0": {"name": name}}) == []


@pytest.mark.parametrize(
    "name, why",
    [
        (".", '"." and ".."'),
        ("..", '"." and ".."'),
        ("a/b", '"/"'),
        ("eth0:1", '":"'),
        ("a b", "blank"),
        ("a\tb", "blank"),
        ("a\nb", "blank"),
        ("x" * 16, "15 bytes"),
        ("é" * 8, "15 bytes"),
        ("a%b", '"%d" at the end'),
        ("%d%d", '"%d" at the end'),
        ("%dx", '"%d" at the end'),
    ],
)
def test_names_that_the_kernel_refuses(name: str, why: str) -> None:
    (text,) = problems({name: {"name": "eth0"}})
    assert text.startswith("linux.netDevices") and why in text
    (text,) = problems({"host0": {"name": name}})
    assert text.startswith("linux.netDevices.host0.name: ") and why in text


def test_empty_names() -> None:
    (text,) = problems({"": {"name": "eth0"}})
    assert "it is empty" in text
    assert problems({"eth0": {"name": ""}}) == []


def test_templates() -> None:
    """Only for the name inside, as long as a name may be."""
    assert problems({"host0": {"name": "net%d"}, "host1": {"name": "net%d"}}) == []
    assert problems({"host0": {"name": "x" * 13 + "%d"}}) == []
    assert "15 bytes" in problems({"host0": {"name": "x" * 14 + "%d"}})[0]
    assert "it is empty" in problems({"host0": {"name": "%d"}})[0]
    assert "at the end" in problems({"host%d": {}})[0]


def test_one_name_for_two() -> None:
    (text,) = problems({"eth0": {}, "eth1": {"name": "eth0"}})
    assert text.startswith("linux.netDevices.eth1: ") and "linux.netDevices.eth0" in text


def test_needs_a_network_namespace_and_root() -> None:
    assert problems({"eth0": {}}, network="/run/netns/a") == []
    assert "without a network namespace" in problems({"eth0": {}}, network=None)[0]
    assert "rootless" in problems({"eth0": {}}, Host(1000, 1000, True, {}))[0]
    assert problems({}, Host(1000, 1000, True, {}), network=None) == []


def attribute(kind: int, value: bytes) -> bytes:
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def address(flags: int, scope: int = 0, label: bytes = b"eth0") -> Address:
    body = pack("=BBBBI", 2, 24, flags & 0xFF, scope, 7)
    body += attribute(IFA_ADDRESS, bytes((192, 0, 2, 9))) + attribute(IFA_LOCAL, bytes((192, 0, 2, 9)))
    return Address(body + attribute(IFA_LABEL, label + b"\0") + attribute(IFA_FLAGS, pack("=I", flags)))


def test_which_addresses_are_kept() -> None:
    assert address(0x80).kept
    assert address(0x280).kept
    assert not address(0x00).kept
    assert not address(0x80, scope=253).kept
    assert address(0x80).text == "192.0.2.9/24"


@pytest.mark.parametrize(
    "label, new",
    [
        (b"eth0", b"net0"),
        (b"eth0:a", b"net0:a"),
        (b"elsewhere", b"elsewhere"),
        (b"eth0:long-label", b"net0:long-label"),
    ],
)
def test_label_follows_the_name(label: bytes, new: bytes) -> None:
    again = Address(address(0x80, label=label).request(3, "eth0", "net0"))
    assert again.values[IFA_LABEL] == new + b"\0"
    assert (again.index, again.prefix) == (3, 24)


def test_flags_that_the_kernel_finds_itself_are_left_out() -> None:
    """NOPREFIXROUTE, MANAGETEMPADDR, NODAD stay; SECONDARY, DADFAILED, DEPRECATED, TENTATIVE, PERMANENT go."""
    again = Address(address(0x3EB).request(3, "eth0", "eth0"))
    assert again.flags == 0x302


def test_a_link() -> None:
    """A wire with the hardware address of another device is told from it by its driver."""
    body = pack("=BxHiII", 0, 1, 5, 0x1043, 0) + attribute(3, b"eth0\0") + attribute(1, b"\2\0\0\0\0\1")
    link, wire = Link(body), Link(body + attribute(18, attribute(1, b"veth\0")))
    assert (link.index, link.name, link.up) == (5, "eth0", True)
    assert link.identity == Link(body).identity != wire.identity
