"""linux.netDevices: devices move in with name, addresses and attributes, and come back only where create fails.

Everything happens in network namespaces that the tests make; the host's own devices are never touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.netns import NetworkNamespace, addresses
from tests.support.runtime import Runtime, wait_for

MAC = "02:00:00:00:12:34"


@pytest.fixture
def outside() -> Iterator[NetworkNamespace]:
    """The network namespace that stands for the host's, with a device `data0`, whose peer is `peer0`."""
    namespace = NetworkNamespace()
    try:
        namespace.ip(
            "link", "add", "data0", "address", MAC, "mtu", "1400", "type", "veth", "peer", "name", "peer0"
        )
        for words in (
            ["192.0.2.7/24", "broadcast", "192.0.2.255", "label", "data0:one", "dev", "data0"],
            ["192.0.2.8/24", "label", "data0", "dev", "data0"],
            ["198.51.100.1", "peer", "198.51.100.2/32", "dev", "data0", "metric", "77", "noprefixroute"],
            ["203.0.113.9/24", "dev", "data0", "valid_lft", "5000", "preferred_lft", "4000"],
            ["100.64.0.10/24", "dev", "data0", "scope", "link"],
            ["2001:db8::7/64", "dev", "data0", "nodad"],
            ["2001:db8:1::7/64", "dev", "data0", "nodad", "preferred_lft", "0"],
        ):
            namespace.ip("address", "add", *words)
        namespace.ip("link", "set", "data0", "up")
        namespace.ip("link", "set", "peer0", "up")
        yield namespace
    finally:
        namespace.end()


@pytest.fixture
def other() -> Iterator[NetworkNamespace]:
    """A second network namespace, to be joined by its path."""
    namespace = NetworkNamespace()
    yield namespace
    namespace.end()


KEPT4 = [("192.0.2.7", 24, "data0:one"), ("192.0.2.8", 24, "data0"), ("198.51.100.1", 32, "data0")]
KEPT6 = [("2001:db8::7", 64, ""), ("2001:db8:1::7", 64, "")]


def bundle_with(runtime: Runtime, devices: dict[str, Any]) -> Bundle:
    bundle = runtime.bundle()
    bundle.linux["netDevices"] = devices
    return bundle


def seen_inside(pid: int) -> dict[str, Any]:
    """The devices of the network namespace of process `pid`, by name."""
    words = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-json", "-details", "address"]
    shown = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return {link["ifname"]: link for link in shown}


def test_moved_with_addresses_and_attributes(runtime: Runtime, outside: NetworkNamespace) -> None:
    """Permanent addresses of global scope, both families; MTU, hardware address; up. Others stay behind."""
    caller = outside.around(runtime)
    bundle = bundle_with(runtime, {"data0": {}}).sleeper()
    before = outside.device("data0")
    assert ("203.0.113.9", 24, "data0") in addresses(before)
    with caller.running(bundle) as container:
        assert outside.names() == {"lo", "peer0"}
        device = seen_inside(container.pid)["data0"]
        assert (device["address"], device["mtu"]) == (MAC, 1400)
        assert "UP" in device["flags"]
        assert sorted(addresses(device)) == sorted(KEPT4 + KEPT6)
        by_address = {entry["local"]: entry for entry in device["addr_info"]}
        theirs = {entry["local"]: entry for entry in before["addr_info"]}
        assert by_address["198.51.100.1"]["address"] == "198.51.100.2"
        for local in [entry[0] for entry in KEPT4 + KEPT6]:
            for key in theirs[local]:
                assert by_address[local].get(key) == theirs[local][key], (local, key)
        assert by_address["2001:db8:1::7"]["preferred_life_time"] == 0
        assert by_address["2001:db8::7"]["valid_life_time"] == 2**32 - 1


def test_seen_from_inside_and_carries_traffic(runtime: Runtime, outside: NetworkNamespace) -> None:
    caller = outside.around(runtime)
    outside.ip("address", "add", "192.0.2.1/24", "dev", "peer0")
    bundle = bundle_with(runtime, {"data0": {"name": "eth0"}})
    bundle.process["capabilities"]["effective"] += ["CAP_NET_RAW"]
    for kind in ("bounding", "permitted"):
        bundle.process["capabilities"][kind] += ["CAP_NET_RAW"]
    bundle.shell(
        "cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address; cat /proc/net/if_inet6 /proc/net/dev; "
        "busybox ping -c 1 -W 3 192.0.2.1"
    )
    outcome = caller.run(bundle).ok()
    assert outcome.out.startswith(f"1400\n{MAC}\n"), outcome
    assert "20010db8000000000000000000000007" in outcome.out and "eth0:" in outcome.out
    assert "data0" not in outcome.out
    assert "1 packets received" in outcome.out, outcome


def test_renamed_with_its_labels(runtime: Runtime, outside: NetworkNamespace) -> None:
    with outside.around(runtime).running(
        bundle_with(runtime, {"data0": {"name": "container_eth0"}}).sleeper()
    ) as container:
        devices = seen_inside(container.pid)
        assert set(devices) == {"lo", "container_eth0"}
        labels = [label for _, _, label in addresses(devices["container_eth0"]) if label]
        assert labels == ["container_eth0:", "container_eth0", "container_eth0"]  # 15 bytes


def test_several_kinds_of_devices(runtime: Runtime, outside: NetworkNamespace) -> None:
    """A bridge cannot be told from a wire; a macvlan has its parent elsewhere; a device that was down is up, too."""
    outside.ip("link", "add", "wire1", "type", "veth", "peer", "name", "wire2")
    outside.ip("link", "add", "mac0", "link", "peer0", "type", "macvlan")
    outside.ip("address", "add", "192.0.2.77/24", "dev", "mac0")
    bundle = bundle_with(
        runtime, {"mac0": {"name": "eth1"}, "wire1": {}, "wire2": {"name": "eth0"}}
    ).sleeper()
    with outside.around(runtime).running(bundle) as container:
        devices = seen_inside(container.pid)
        assert set(devices) == {"lo", "wire1", "eth0", "eth1"}
        assert all("UP" in device["flags"] for device in devices.values())
        assert addresses(devices["eth1"]) == [("192.0.2.77", 24, "eth1")]
        assert outside.names() == {"lo", "data0", "peer0"}


@pytest.mark.parametrize("taken", [(), ("net0", "data0"), ("net0", "net1")])
def test_template(
    runtime: Runtime, outside: NetworkNamespace, other: NetworkNamespace, taken: tuple[str, ...]
) -> None:
    """The kernel puts in a free number, also where the old name or the first number is taken there."""
    if taken:
        other.ip("link", "add", taken[0], "type", "veth", "peer", "name", taken[1])
    bundle = bundle_with(runtime, {"data0": {"name": "net%d"}}).sleeper()
    bundle.namespace("network", other.path)
    with outside.around(runtime).running(bundle):
        (name,) = other.names() - {"lo", *taken}
        assert name.startswith("net") and name[3:].isdecimal()
        device = other.device(name)
        assert device["address"] == MAC
        assert sorted(entry[:2] for entry in addresses(device)) == sorted(e[:2] for e in KEPT4 + KEPT6)


@pytest.mark.parametrize("inside", ["data0", "eth7"])
def test_name_that_is_taken(
    runtime: Runtime, outside: NetworkNamespace, other: NetworkNamespace, inside: str
) -> None:
    """MUST: an existing device of that name is an error; nothing has changed on either side."""
    other.ip("link", "add", inside, "type", "veth", "peer", "name", "eth8")
    bundle = bundle_with(runtime, {"data0": {"name": inside}}).namespace("network", other.path)
    before = outside.state(), other.state()
    outside.around(runtime).run(bundle).fails("linux.netDevices.data0", "file exists", f'"{inside}"', "%d")
    assert (outside.state(), other.state()) == before


def test_joined_namespace(runtime: Runtime, outside: NetworkNamespace, other: NetworkNamespace) -> None:
    """It keeps the device after the container has gone: moving it out again is nobody's business."""
    bundle = bundle_with(runtime, {"data0": {"name": "eth0"}}).sleeper().namespace("network", other.path)
    with outside.around(runtime).running(bundle):
        assert other.names() == {"lo", "eth0"}
    assert other.names() == {"lo", "eth0"} and "UP" in other.device("eth0")["flags"]
    assert outside.names() == {"lo", "peer0"}


def test_user_namespace_and_a_joined_network(
    runtime: Runtime, outside: NetworkNamespace, other: NetworkNamespace
) -> None:
    """The container's root has no rights over the joined namespace; the device is moved all the same."""
    bundle = bundle_with(runtime, {"data0": {}}).sleeper().map_ids().namespace("network", other.path)
    bundle.give_rootfs(200000, 200000)
    bundle.without_mount("/sys")  # sysfs shows a network namespace that is not the user namespace's
    with outside.around(runtime).running(bundle):
        assert sorted(addresses(other.device("data0"))) == sorted(KEPT4 + KEPT6)


def test_new_user_namespace(runtime: Runtime, outside: NetworkNamespace) -> None:
    bundle = bundle_with(runtime, {"data0": {}}).sleeper().map_ids()
    bundle.give_rootfs(200000, 200000)
    with outside.around(runtime).running(bundle) as container:
        assert sorted(addresses(seen_inside(container.pid)["data0"])) == sorted(KEPT4 + KEPT6)


def test_virtual_devices_end_with_the_container(runtime: Runtime, outside: NetworkNamespace) -> None:
    """The network namespace goes, and with it what is in it: not held by pyrunc, not moved back."""
    bundle = bundle_with(runtime, {"data0": {}}).shell("exit 3")
    assert outside.around(runtime).run(bundle).status == 3
    wait_for(lambda: outside.names() == {"lo"}, say="the end of both ends of the wire")


def test_a_foreground_run_holds_nothing(runtime: Runtime, outside: NetworkNamespace) -> None:
    """Once it has started, pyrunc has neither a descriptor of the network namespace nor a netlink socket."""
    caller = outside.around(runtime)
    container = caller.container(bundle_with(runtime, {"data0": {}}).shell("echo started; exec sleep 100"))
    call = caller.spawn("run", "--bundle", caller.put(container.bundle, container.id), container.id)
    call.says("started")
    wait_for(lambda: container.status == "running")

    def held() -> list[str]:
        return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{call.process.pid}/fd")]

    # The program may speak before pyrunc, which has heard that it was executed, has closed them.
    wait_for(lambda: not [link for link in held() if link.startswith("net:")], say="closing the namespaces")
    netlink = Path(f"/proc/{call.process.pid}/net/netlink").read_text().split()
    assert not [link for link in held() if link.startswith("socket:[") and link[8:-1] in netlink]
    container.kill("KILL").ok()
    call.wait()


def test_before_the_hooks_and_the_parameters(
    runtime: Runtime, outside: NetworkNamespace, folder: Path
) -> None:
    """Hooks find it there, to configure it; sysctl may name it."""
    bundle = bundle_with(runtime, {"data0": {"name": "eth0"}}).ask(
        "read /proc/sys/net/ipv4/conf/eth0/forwarding"
    )
    pid = "$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*')"
    bundle.hook("prestart", f"nsenter --net=/proc/{pid}/ns/net ip -o link > {folder}/seen")
    bundle.linux["sysctl"] = {"net.ipv4.conf.eth0.forwarding": "1"}
    said = outside.around(runtime).run(bundle).ok().testimony
    assert said["read /proc/sys/net/ipv4/conf/eth0/forwarding"].strip() == "1"
    assert " eth0" in (folder / "seen").read_text()


# -- back, where create comes to nothing ----------------------------------------------------------------------


def fails_at(bundle: Bundle, place: str, folder: Path) -> tuple[list[str], str]:
    """Let create fail at `place`; flags for it, and a word of the error."""
    if place == "hook":
        bundle.hook("createRuntime", "echo no; exit 9")
        return [], "createruntime"
    if place == "init":
        bundle.process["args"] = ["/nowhere"]
        return [], "no such file or directory"
    if place == "init killed":
        bundle.hook("createContainer", "kill -9 $PPID; sleep 5").without_namespace("pid")
        return [], "signal 9"
    return ["--pid-file", f"{folder}/missing/pid"], "pid file"


@pytest.mark.parametrize("place", ["hook", "init", "init killed", "pid file"])
@pytest.mark.parametrize("joined", [False, True])
def test_returned_where_create_fails(
    runtime: Runtime,
    outside: NetworkNamespace,
    other: NetworkNamespace,
    folder: Path,
    place: str,
    joined: bool,
) -> None:
    """Under its name, with its addresses, up as before: also from a dead init's namespace, also if renamed."""
    outside.ip("link", "add", "down0", "type", "veth", "peer", "name", "down1")
    outside.ip("address", "add", "192.0.2.99/32", "dev", "down0")
    bundle = bundle_with(runtime, {"data0": {"name": "eth%d"}, "down0": {"name": "peer0"}})
    if joined:
        bundle.namespace("network", other.path)
    flags, word = fails_at(bundle, place, folder)
    container = outside.around(runtime).container(bundle)
    footprint = runtime.footprint(bundle)
    before = {name: outside.device(name) for name in ("data0", "down0")}
    container.create(*flags)
    assert word in container.err.lower(), container.err
    assert "left behind" not in container.err
    after = {name: outside.device(name) for name in ("data0", "down0")}
    assert outside.names() == {"lo", "data0", "peer0", "down0", "down1"}
    assert other.names() == {"lo"}
    assert sorted(addresses(after["data0"])) == sorted(KEPT4 + KEPT6)
    assert addresses(after["down0"]) == [("192.0.2.99", 32, "down0")]
    for name in after:
        for key in ("address", "mtu", "txqlen", "operstate"):
            assert after[name][key] == before[name][key], (name, key)
        assert ("UP" in after[name]["flags"]) == (name == "data0")
    footprint.assert_unchanged()


def test_returned_where_run_finds_no_program(runtime: Runtime, outside: NetworkNamespace) -> None:
    bundle = bundle_with(runtime, {"data0": {"name": "eth0"}})
    (bundle.rootfs / "bin" / "broken").write_bytes(b"\x7fELF nonsense")
    (bundle.rootfs / "bin" / "broken").chmod(0o755)
    bundle.process["args"] = ["/bin/broken"]
    outside.around(runtime).run(bundle).fails("exec format error")
    assert sorted(addresses(outside.device("data0"))) == sorted(KEPT4 + KEPT6)


def test_returned_under_another_name_if_its_own_is_taken(runtime: Runtime, outside: NetworkNamespace) -> None:
    """As the kernel does with the devices of a namespace that ends."""
    bundle = bundle_with(runtime, {"data0": {}})
    bundle.hook("createRuntime", "ip link add data0 type veth peer name data1; exit 9")
    outside.around(runtime).run(bundle).fails("createruntime")
    (name,) = outside.names() - {"lo", "peer0", "data0", "data1"}
    assert name.startswith("dev") and name[3:].isdecimal()
    device = outside.device(name)
    assert device["address"] == MAC and "UP" in device["flags"]
    assert ("192.0.2.8", 24, name) in addresses(device)


def test_no_other_device_is_returned(
    runtime: Runtime, outside: NetworkNamespace, other: NetworkNamespace
) -> None:
    """The owner of a joined namespace puts another kind in its place, with the same name and hardware address."""
    bundle = bundle_with(runtime, {"data0": {}}).namespace("network", other.path)
    other.ip("link", "add", "eth5", "type", "veth", "peer", "name", "eth6")
    inside = " ".join(other.inside)
    bundle.hook(
        "createRuntime",
        f"{inside} ip link set data0 netns {outside.holder.pid} name stolen0; "
        f"{inside} ip link add data0 link eth5 address {MAC} type macvlan; exit 9",
    )
    outside.around(runtime).run(bundle).fails("createruntime")
    assert other.names() == {"lo", "eth5", "eth6", "data0"} and outside.names() == {"lo", "stolen0", "peer0"}


def test_the_second_is_missing(runtime: Runtime, outside: NetworkNamespace) -> None:
    """The first has moved by then, and returns."""
    bundle = bundle_with(runtime, {"data0": {}, "nowhere0": {}})
    outside.around(runtime).run(bundle).fails("linux.netDevices.nowhere0", "no such device")
    assert sorted(addresses(outside.device("data0"))) == sorted(KEPT4 + KEPT6)
    assert "UP" in outside.device("data0")["flags"]


# -- refused ------------------------------------------------------------------------------------------------


def test_device_that_cannot_move(runtime: Runtime, outside: NetworkNamespace) -> None:
    """MUST check that the move is possible: loopback is bound to its namespace, and is left as it was."""
    outside.ip("link", "set", "lo", "up")
    outside.ip("address", "add", "192.0.2.200/32", "dev", "lo")
    before = outside.shown("address", "show", "dev", "lo")
    bundle = bundle_with(runtime, {"lo": {"name": "lo1"}})
    outcome = outside.around(runtime).run(bundle).fails("linux.netDevices.lo", "move network device lo")
    assert "immutable" in outcome.err or "invalid argument" in outcome.err  # what older kernels say
    assert outside.shown("address", "show", "dev", "lo") == before


def test_the_namespace_of_pyrunc_itself(runtime: Runtime, outside: NetworkNamespace) -> None:
    bundle = bundle_with(runtime, {"data0": {"name": "eth0"}}).namespace("network", outside.path)
    outside.around(runtime).run(bundle).fails("linux.netDevices", "network namespace of pyrunc")
    assert outside.names() == {"lo", "data0", "peer0"}


def test_without_a_network_namespace(runtime: Runtime, outside: NetworkNamespace) -> None:
    bundle = bundle_with(runtime, {"data0": {}}).without_namespace("network").without_mount("/sys")
    outside.around(runtime).run(bundle).fails("linux.netDevices", "without a network namespace")
    assert outside.names() == {"lo", "data0", "peer0"}


def test_rootless(runtime: Runtime) -> None:
    caller = runtime.as_user(1000, 1000)
    bundle = runtime.bundle().rootless(1000, 1000).namespace("network")
    bundle.linux["netDevices"] = {"data0": {}}
    os.chown(bundle.path, 1000, 1000)
    caller.run(bundle).fails("linux.netDevices", "rootless")
