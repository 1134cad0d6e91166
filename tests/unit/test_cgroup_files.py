"""Which files of a cgroup get which text, where no host of ours has them: a folder with plain files of these names.

That the kernel takes such texts is shown where it has the files (tests/kernel/test_cgroup_v1_limits.py and _v2.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import hugetlb, rdma
from pyrunc.linux.cgroups.v1 import blkio
from pyrunc.linux.cgroups.v2 import io


def home(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).touch()
    return str(folder)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.stat().st_size}


@pytest.mark.parametrize(("version", "word"), [(1, "limit_in_bytes"), (2, "max")])
@pytest.mark.parametrize("reservations", [True, False])
def test_huge_pages(tmp_path: Path, version: int, word: str, reservations: bool) -> None:
    """config-linux.md: the limit is one of reservations if the kernel has them, else one of faults."""
    names = {f"hugetlb.2MB.{word}"} | ({f"hugetlb.2MB.rsvd.{word}"} if reservations else set())
    hugetlb.limit(home(tmp_path, *names), [{"pageSize": "2MB", "limit": 4096}], version)
    assert texts(tmp_path) == dict.fromkeys(names, "4096")


def test_huge_pages_without_any(tmp_path: Path) -> None:
    with pytest.raises(PyruncError, match="no huge pages of 2MB .the kernel has no huge pages at all"):
        hugetlb.limit(str(tmp_path), [{"pageSize": "2MB", "limit": 0}], 1)


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"hcaHandles": 3, "hcaObjects": 10000}, "mlx5_1 hca_handle=3 hca_object=10000"),
        ({"hcaObjects": 0}, "mlx5_1 hca_object=0"),
    ],
)
def test_rdma(tmp_path: Path, limits: dict[str, int], line: str) -> None:
    rdma.limit(home(tmp_path, "rdma.max"), {"mlx5_1": limits})
    assert texts(tmp_path) == {"rdma.max": line}


WEIGHTS = {
    "weight": 20,
    "leafWeight": 30,
    "weightDevice": [{"major": 8, "minor": 16, "weight": 500, "leafWeight": 300}],
}


def test_weights_of_cfq(tmp_path: Path) -> None:
    names = ("blkio.weight", "blkio.weight_device", "blkio.leaf_weight", "blkio.leaf_weight_device")
    blkio.limit(home(tmp_path, *names, "blkio.bfq.weight"), WEIGHTS)
    assert texts(tmp_path) == {
        "blkio.weight": "20",
        "blkio.weight_device": "8:16 500",
        "blkio.leaf_weight": "30",
        "blkio.leaf_weight_device": "8:16 300",
    }


@pytest.mark.parametrize(
    ("name", "line"), [("io.bfq.weight", "8:16 500"), ("io.weight", "8:16 4950")], ids=["bfq", "iocost"]
)
def test_weights_of_v2(tmp_path: Path, name: str, line: str) -> None:
    io.limit(home(tmp_path, name), {"weightDevice": WEIGHTS["weightDevice"]})
    assert texts(tmp_path) == {name: line}


def test_a_rate_of_zero_is_no_limit(tmp_path: Path) -> None:
    entry = [{"major": 8, "minor": 16, "rate": 0}]
    io.limit(home(tmp_path, "io.max"), {"throttleReadIOPSDevice": entry})
    assert texts(tmp_path) == {"io.max": "8:16 riops=max"}
