"""Every bundle in `bundles/` does here what its README says, or is refused with the reason that its README names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.intel_rdt import mount_point
from pyrunc.linux.lsm import SELINUX, enabled
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime

BUNDLES = REPOSITORY / "bundles"
NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/config.json"))


def has_controller(name: str) -> bool:
    found = layout()
    hierarchies = [*found.v1, *([found.v2] if found.v2 else [])]
    return any(name in hierarchy.controllers for hierarchy in hierarchies)


def has_resctrl() -> bool:
    try:
        return bool(mount_point())
    except PyruncError:
        return False


#: What a bundle needs of a host beyond an ordinary one, and what it is refused with where that is missing.
NEEDS: dict[str, tuple[Callable[[], bool], tuple[str, ...]]] = {
    "cgroups-hugetlb": (lambda: has_controller("hugetlb"), ("hugepageLimits", "hugetlb")),
    "cgroups-network": (lambda: has_controller("net_cls"), ("linux.resources.network.classID",)),
    # No test machine has the device that it names.
    "cgroups-rdma": (lambda: False, ("linux.resources.rdma", "rdma")),
    "cgroups-unified": (lambda: layout().pure_v2, ("linux.resources.unified", "cgroup v1")),
    "cgroups-v1": (lambda: not layout().pure_v2, ("linux.resources.memory.swappiness", "cgroup v2")),
    "intel-rdt": (has_resctrl, ("linux.intelRdt", "resctrl is not mounted")),
    "selinux": (lambda: SELINUX in enabled(), ("process.selinuxLabel", "linux.mountLabel", "SELinux")),
}
#: Those that need something prepared, with a test of their own.
PREPARED = {"cgroups-block-io", "hooks", "net-devices", "seccomp-notify"}


@pytest.fixture(autouse=True)
def busybox() -> None:
    """`make rootfs`."""
    subprocess.run([BUNDLES / "busybox" / "make-rootfs"], check=True)


def copied(name: str, folder: Path) -> tuple[Path, Any]:
    """A copy of a bundle that may be changed, and its configuration."""
    path = folder / name
    shutil.copytree(BUNDLES / name, path)
    config = json.loads((path / "config.json").read_text())
    config["root"]["path"] = str(BUNDLES / "busybox" / "rootfs")
    return path, config


def write(path: Path, config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


def run(runtime: Runtime, path: Path, **how: Any) -> Any:
    return runtime.verb("run", "--bundle", str(path), runtime.new_id(), **how)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PREPARED])
def test_a_bundle_shows_what_its_readme_says(runtime: Runtime, name: str) -> None:
    has, words = NEEDS.get(name, (lambda: True, ()))
    outcome = run(runtime, BUNDLES / name)
    if has():
        outcome.ok()
    else:
        outcome.fails(*words)


def test_hooks(runtime: Runtime, folder: Path) -> None:
    path, config = copied("hooks", folder)
    said = folder / "said"
    for kind, listed in config["hooks"].items():
        if kind != "startContainer":
            listed[0]["args"][2] = listed[0]["args"][2].replace("/run/pyrunc-hooks", str(said))
    run(runtime, write(path, config)).ok()
    moments = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    assert said.read_text().split() == moments


def test_block_io(runtime: Runtime, folder: Path) -> None:
    path, config = copied("cgroups-block-io", folder)
    disks = [
        disk for disk in Path("/sys/block").iterdir() if not disk.name.startswith(("loop", "ram", "zram"))
    ]
    major, minor = (disks[0] / "dev").read_text().split(":")
    for entries in config["linux"]["resources"]["blockIO"].values():
        entries[0] |= {"major": int(major), "minor": int(minor)}
    run(runtime, write(path, config)).ok()


def test_net_devices(runtime: Runtime) -> None:
    """In a network namespace of its own, with the link that the README says."""
    script = 'ip link add pyrunc-demo type veth peer name pyrunc-peer; exec "$@"'
    words = runtime.words("run", "--bundle", str(BUNDLES / "net-devices"), runtime.new_id())
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, "sh", *words], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def agent(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "agent"))
        listener.listen()
        listener.settimeout(20)
        yield listener


def test_seccomp_notify(runtime: Runtime, folder: Path, agent: socket.socket) -> None:
    """The agent goes away with the descriptor: the kernel then refuses the calls with ENOSYS."""
    path, config = copied("seccomp-notify", folder)
    config["linux"]["seccomp"]["listenerPath"] = str(folder / "agent")
    started = runtime.spawn("run", "--bundle", str(write(path, config)), runtime.new_id())
    connection, _ = agent.accept()
    with connection:
        data, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
    state = json.loads(data)
    assert state["metadata"] == "a word for the agent"
    assert state["fds"] == ["seccompFd"] and len(descriptors) == 1
    os.close(descriptors[0])
    outcome = started.wait(20)
    assert outcome.status == 1
    assert "not implemented" in outcome.err
