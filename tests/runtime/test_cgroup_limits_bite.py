"""Limits of cgroups as the container feels them: what exceeds one is slowed down, refused or killed.

The same on cgroup v1, on v2 and on a host with both; memory, pids and devices are in `test_cgroups`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.limits import V2, limited, only_v1, value
from tests.support.runtime import Runtime, wait_for

#: Huge pages of 2 MB that the kernel may take from other memory while a test wants them.
OVERCOMMIT = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages")


# -- processors ------------------------------------------------------------------------------------------


def test_cpu_quota_leaves_little_time(runtime: Runtime) -> None:
    said = runtime.ask(limited(runtime, cpu={"quota": 5000, "period": 50000}), "spin 1")["spin 1"]
    assert said < 0.2, "a tenth of a processor"


def test_cpuset_confines(runtime: Runtime) -> None:
    bundle = limited(runtime, cpu={"cpus": "1", "mems": "0"})
    said = runtime.ask(bundle, "affinity", "read /proc/self/status")
    assert said["affinity"] == [1]
    assert "Mems_allowed_list:\t0\n" in said["read /proc/self/status"]


@pytest.mark.parametrize("low", [{"shares": 64}, {"idle": 1}], ids=["shares", "idle"])
def test_the_lower_share_gets_less_time(runtime: Runtime, low: dict[str, int]) -> None:
    """Two containers that want one processor, side by side."""
    bundles = [limited(runtime, cpu={"cpus": "0", **values}) for values in ({"shares": 1024}, low)]
    containers = [runtime.container(bundle.shell("while :; do :; done")) for bundle in bundles]
    for container in containers:
        container.create().ok()
    for container in containers:
        container.start().ok()

    def used() -> list[int]:
        words = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return [int(user) + int(system) for user, system in [(word[11], word[12]) for word in words]]

    pids = [container.pid for container in containers]
    before = used()
    wait_for(lambda: sum(used()) - sum(before) >= 100, 30, "a second of use")
    much, little = (now - then for now, then in zip(used(), before, strict=True))
    assert little < much / 3, (much, little)


# -- memory ----------------------------------------------------------------------------------------------


def test_run_says_that_the_oom_killer_was_at_work(runtime: Runtime) -> None:
    eater = "x=a; while :; do x=$x$x; done"
    done = runtime.run(limited(runtime, memory={"limit": 16 << 20}).shell(eater))
    assert done.status == 137
    assert "OOM-killed (memory limit too low?)" in done.err
    done = runtime.run(limited(runtime, memory={"limit": 16 << 20}).shell("exit 137"))
    assert done.status == 137 and not done.err


@only_v1
def test_without_the_oom_killer_the_process_waits(runtime: Runtime) -> None:
    bundle = limited(runtime, memory={"limit": 16 << 20, "disableOOMKiller": True})
    container = runtime.container(bundle.ask("eat 200"))
    container.create().ok()
    container.start().ok()
    wait_for(lambda: "under_oom 1" in value(container, "memory", "memory.oom_control"), say="lack of memory")
    assert container.status == "running"
    container.delete("--force").ok()


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Let the kernel make a few huge pages when they are asked for; without a limit 8 MB of them are to be had."""
    if not OVERCOMMIT.exists():
        pytest.skip("the kernel has no huge pages of 2 MB")
    before = OVERCOMMIT.read_text()
    OVERCOMMIT.write_text("16")
    yield
    OVERCOMMIT.write_text(before)


@pytest.mark.needs_root
def test_huge_pages_are_refused(runtime: Runtime, huge_pages: None) -> None:
    where = Path("/sys/fs/cgroup") / ("" if V2 else "unified") / "cgroup.controllers"
    if not os.path.exists("/sys/fs/cgroup/hugetlb") and "hugetlb" not in where.read_text():
        pytest.skip("the kernel has no hugetlb controller")
    free = runtime.ask(runtime.bundle(), "huge 8")
    if free["huge 8"] != 0:
        pytest.skip("this host has no memory for huge pages")
    bundle = limited(runtime, hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}])
    said = runtime.ask(bundle, "huge 4", "huge 8")
    assert said == {"huge 4": 0, "huge 8": {"errno": "ENOMEM"}}


# -- network ---------------------------------------------------------------------------------------------


@pytest.fixture
def network_hierarchy(folder: Path) -> Iterator[list[str]]:
    """The words before a command that see net_cls and net_prio mounted, in a mount namespace of their own."""
    enabled = {
        line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines() if line.endswith("1")
    }
    if not {"net_cls", "net_prio"} <= enabled:
        pytest.skip("the kernel has no net_cls and net_prio")
    if V2:
        pytest.skip("this host has cgroup v2 only, where these do not exist")

    def bound() -> bool:
        return any(":net_cls" in line for line in Path("/proc/self/cgroup").read_text().splitlines())

    if bound():
        pytest.skip("this host has these controllers mounted")
    place = folder / "net"
    place.mkdir()
    mount = f"mount --make-rprivate / && mount -t cgroup -o net_cls,net_prio none {place} && "
    yield ["unshare", "-m", "sh", "-c", mount + 'exec "$@"', "sh"]

    def released() -> bool:
        # A hierarchy lives on unseen if a removed cgroup still was dying at the unmount; then once more.
        again = f"sleep 0.3 && umount {place} && sleep 0.3"
        if bound():
            subprocess.run(["unshare", "-m", "sh", "-c", mount + again], check=False)
        return not bound()

    wait_for(released, 30, "the end of the hierarchy")


def test_network_priority(runtime: Runtime, network_hierarchy: list[str]) -> None:
    """A packet leaves with the priority of its interface."""
    bundle = limited(runtime, network={"priorities": [{"name": "lo", "priority": 5}]})
    bundle.without_namespace("network").without_mount("/sys")
    runtime.prefix = network_hierarchy
    assert runtime.ask(bundle, "datagram")["datagram"] == 5
    bundle.linux["resources"]["network"]["priorities"][0]["name"] = "nosuch0"
    runtime.run(bundle).fails("linux.resources.network.priorities[0]", "no such device", "no such interface")


def test_network_class(runtime: Runtime, network_hierarchy: list[str]) -> None:
    """A firewall tells the container's packets by their class."""
    bundle = limited(runtime, network={"classID": 0x100001}).ask("datagram")
    iptables = shutil.which("iptables-legacy") or shutil.which("iptables")
    if not iptables:
        pytest.skip("this host has no iptables")
    rule = f"{iptables} -w -A OUTPUT -m cgroup --cgroup 0x100001 -j REJECT"
    pid = r"""$(sed 's/.*"pid": *\([0-9]*\).*/\1/')"""
    bundle.hook("createRuntime", f"nsenter -t {pid} -n {rule}")
    runtime.prefix = network_hierarchy
    assert runtime.ask(bundle, "datagram")["datagram"] == {"errno": "EPERM"}
    bundle.linux["resources"]["network"]["classID"] = 0x100002
    assert runtime.ask(bundle, "datagram")["datagram"] == 0


@pytest.mark.parametrize(
    "network", [{"classID": 1}, {"priorities": [{"name": "lo", "priority": 1}]}], ids=["class", "priority"]
)
def test_network_limits_without_their_controllers(runtime: Runtime, network: dict[str, Any]) -> None:
    """On cgroup v2 they do not exist; on v1 somebody has to mount them."""
    bundle = limited(runtime, network=network)
    before = runtime.footprint(bundle)
    (name,) = network
    outcome = runtime.run(bundle)
    if not outcome.status:
        assert any(":net_cls" in line for line in Path("/proc/self/cgroup").read_text().splitlines())
        return
    words = "cgroup v2 cannot hold" if V2 else "is not available on this host"
    outcome.fails(f"linux.resources.network.{name}", words)
    before.assert_unchanged()


def test_rdma(runtime: Runtime) -> None:
    """Without an RDMA device, or without the controller, the limit is refused by its name."""
    bundle = limited(runtime, rdma={"nosuch0": {"hcaHandles": 3, "hcaObjects": 5}})
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.resources.rdma")
    before.assert_unchanged()
