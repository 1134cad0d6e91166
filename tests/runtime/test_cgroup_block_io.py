"""blockIO on cgroup v1 and v2, on a loop device of one's own: limits that are to be seen, and that are felt inside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.limits import V2, held, limited, value
from tests.support.runtime import Runtime
from tests.support.updating import with_json

THROTTLES = {
    "throttleReadBpsDevice": ("read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("write_iops_device", "wiops"),
}


@pytest.fixture
def disk(folder: Path) -> Iterator[tuple[int, int]]:
    """The numbers of a loop device of one's own."""
    image = folder / "disk"
    image.write_bytes(bytes(8 << 20))
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this host makes no loop devices: {made.stderr}")
    path = made.stdout.strip()
    number = os.stat(path).st_rdev
    numbers = os.major(number), os.minor(number)
    scheduler_of(numbers).write_text("none")
    yield numbers
    scheduler_of(numbers).write_text("none")
    subprocess.run(["losetup", "-d", path], check=True)


def scheduler_of(numbers: tuple[int, int]) -> Path:
    """The file that chooses the I/O scheduler of a device."""
    return Path(f"/sys/dev/block/{numbers[0]}:{numbers[1]}/queue/scheduler")


def with_disk(runtime: Runtime, numbers: tuple[int, int], **block: Any) -> Bundle:
    """A bundle that may use the device as /dev/disk."""
    disk = dict(zip(("major", "minor"), numbers, strict=True))
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "access": "rw", **disk}]
    limits = {name: [{**disk, **entry}] for name, entry in block.items()}
    bundle = limited(runtime, devices=rules, **({"blockIO": limits} if limits else {}))
    bundle.linux["devices"] = [{"path": "/dev/disk", "type": "b", "fileMode": 0o666, **disk}]
    return bundle


@pytest.mark.parametrize(
    ("name", "way", "rate"),
    [
        ("throttleReadBpsDevice", "r", 1 << 20),
        ("throttleWriteBpsDevice", "w", 1 << 20),
        ("throttleReadIOPSDevice", "r", 16),
        ("throttleWriteIOPSDevice", "w", 16),
    ],
)
def test_block_throttles(runtime: Runtime, disk: tuple[int, int], name: str, way: str, rate: int) -> None:
    """2 MiB in blocks of 64 KiB take two seconds at each of these rates."""
    question = f"direct /dev/disk {way} 2048"
    assert runtime.ask(with_disk(runtime, disk), question)[question] < 1000
    slow = runtime.ask(with_disk(runtime, disk, **{name: {"rate": rate}}), question)[question]
    assert 1500 < slow < 6000


def test_all_throttles_together(runtime: Runtime, disk: tuple[int, int]) -> None:
    name = f"{disk[0]}:{disk[1]}"
    bundle = with_disk(runtime, disk, **{key: {"rate": 5000 + i} for i, key in enumerate(THROTTLES)})
    with runtime.running(bundle) as container:
        if V2:
            assert value(container, "", "io.max") == f"{name} rbps=5000 wbps=5001 riops=5002 wiops=5003"
            return
        for i, (file, _) in enumerate(THROTTLES.values()):
            assert value(container, "blkio", f"blkio.throttle.{file}") == f"{name} {5000 + i}"


def test_weight(runtime: Runtime) -> None:
    with runtime.running(limited(runtime, blockIO={"weight": 500})) as container:
        if not V2:
            assert value(container, "blkio", "blkio.bfq.weight") == "500"
        elif (container.cgroup() / "io.bfq.weight").exists():
            assert value(container, "", "io.bfq.weight") == "default 500"
        else:
            assert value(container, "", "io.weight") == "default 4950"


def test_a_weight_that_only_bfq_holds(runtime: Runtime, disk: tuple[int, int]) -> None:
    """Its files take 1 to 1000, io.weight what 10 to 1000 become; where there is no BFQ, the lower ones are refused."""
    numbers = dict(zip(("major", "minor"), disk, strict=True))
    by_device = {"weightDevice": [{**numbers, "weight": 9}]}
    with runtime.running(limited(runtime, blockIO={"weight": 10})) as container:
        bfq = not V2 or (container.cgroup() / "io.bfq.weight").exists()
        file = "blkio/blkio.bfq.weight" if not V2 else "io.bfq.weight" if bfq else "io.weight"
        before = held(container, file)
        outcome = with_json(container, {"blockIO": {"weight": 5}})
        if bfq:
            outcome.ok()
            assert held(container, file) == ["5" if not V2 else "default 5"]
        else:
            outcome.fails("linux.resources.blockIO.weight: is 5", "io.weight", "use 10 to 1000")
            with_json(container, {"blockIO": by_device}).fails(
                "blockIO.weightDevice[0].weight: is 9", "io.weight"
            )
            assert held(container, file) == before
    bundle, other = limited(runtime, blockIO={"weight": 5}), limited(runtime, blockIO=by_device)
    footprint = runtime.footprint(bundle, other)
    if bfq:
        with runtime.running(bundle) as container:
            assert held(container, file) == ["5" if not V2 else "default 5"]
    else:
        runtime.run(bundle).fails("linux.resources.blockIO.weight: is 5", "io.weight", "use 10 to 1000")
        runtime.run(other).fails("blockIO.weightDevice[0].weight: is 9", "io.weight")
    footprint.assert_unchanged()


def test_weight_of_a_device(runtime: Runtime, disk: tuple[int, int]) -> None:
    """Held by a device that knows weights; of another one the reason is named, and what would help."""
    name = f"{disk[0]}:{disk[1]}"
    scheduler = scheduler_of(disk)
    bundle = with_disk(runtime, disk, weightDevice={"weight": 300})
    costs = Path("/sys/fs/cgroup/io.cost.qos")
    # A device that once was enabled there, by an earlier run of this test, knows weights until the host's end.
    if not (costs.exists() and name in costs.read_text()):
        before = runtime.footprint(bundle)
        words = ("linux.resources.blockIO.weightDevice[0]", name, "operation not supported", "bfq")
        runtime.run(bundle).fails(*words)
        before.assert_unchanged()
    if "bfq" in scheduler.read_text():
        scheduler.write_text("bfq")
        directory, file, expected = "" if V2 else "blkio", "blkio.bfq.weight_device", f"{name} 300"
        file = "io.bfq.weight" if V2 else file
    else:
        costs.write_text(f"{name} enable=1")
        directory, file, expected = "", "io.weight", f"{name} 2930"
    try:
        with runtime.running(bundle) as container:
            assert expected in value(container, directory, file).splitlines()
    finally:
        if file == "io.weight":
            costs.write_text(f"{name} enable=0")


def test_leaf_weight(runtime: Runtime) -> None:
    """CFQ had them, up to Linux 4.20."""
    if not V2 and os.path.exists("/sys/fs/cgroup/blkio/blkio.leaf_weight"):
        pytest.skip("the kernel has leaf weights")
    bundle = limited(runtime, blockIO={"leafWeight": 500})
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.resources.blockIO.leafWeight" if not V2 else "blockIO.leafWeight")
    before.assert_unchanged()


def test_a_device_that_is_not_there(runtime: Runtime) -> None:
    bundle = limited(runtime, blockIO={"throttleReadBpsDevice": [{"major": 99, "minor": 7, "rate": 1000}]})
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("linux.resources.blockIO.throttleReadBpsDevice[0]", "99:7", "no such device")
    before.assert_unchanged()


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"weightDevice": [{"major": 7, "minor": 0}]}, "weightDevice[0]"),
        ({"throttleReadBpsDevice": [{"major": 7, "minor": 0}]}, "throttleReadBpsDevice[0].rate"),
        ({"throttleReadIOPSDevice": [{"minor": 0, "rate": 1}]}, "throttleReadIOPSDevice[0]"),
        ({"weight": 1001}, "weight"),
        ({"weight": 70000}, "weight"),
    ],
    ids=["no-weight", "no-rate", "no-major", "too-heavy", "no-uint16"],
)
def test_bad_block_limits(runtime: Runtime, block: dict[str, Any], path: str) -> None:
    """What config-linux.md requires of each entry."""
    bundle = limited(runtime, blockIO=block)
    runtime.run(bundle).fails(f"linux.resources.blockIO.{path}")


def test_update_by_device(runtime: Runtime, disk: tuple[int, int]) -> None:
    """An entry takes the place of the one for the same device; others stay; 0 takes it away."""
    numbers = dict(zip(("major", "minor"), disk, strict=True))
    bundle = limited(runtime, blockIO={"throttleReadBpsDevice": [{**numbers, "rate": 1000}]})
    name = f"{disk[0]}:{disk[1]}"
    files = ["io.max"] if V2 else [f"blkio/blkio.throttle.{way}_bps_device" for way in ("read", "write")]
    with runtime.running(bundle.sleeper()) as container:
        with_json(container, {"blockIO": {"throttleWriteBpsDevice": [{**numbers, "rate": 2000}]}}).ok()
        expected = (
            [f"{name} rbps=1000 wbps=2000 riops=max wiops=max"] if V2 else [f"{name} 1000", f"{name} 2000"]
        )
        assert held(container, *files) == expected
        nowhere = {"major": 999, "minor": 9, "rate": 5}
        change = {"throttleReadBpsDevice": [{**numbers, "rate": 3000}, nowhere]}
        with_json(container, {"blockIO": change}).fails("throttleReadBpsDevice[1]", "no such device")
        assert held(container, *files) == expected
        with_json(container, {"blockIO": {"throttleReadBpsDevice": [{**numbers, "rate": 0}]}}).ok()
        assert held(container, *files) == (
            [f"{name} rbps=max wbps=2000 riops=max wiops=max"] if V2 else ["", f"{name} 2000"]
        )
