"""What is made of the files of a cgroup, with texts as the kernel's documentation and other kernels have them.

tests/runtime/test_events_stats.py compares with the files of this kernel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups import stats
from pyrunc.linux.cgroups.v1 import stats as v1
from pyrunc.linux.cgroups.v2 import stats as v2

MAX = (1 << 64) - 1
EMPTY = stats.empty()


class Given:
    """In place of a manager: its paths."""

    def __init__(self, **paths: Path) -> None:
        self._paths = {name.replace("unified", ""): str(path) for name, path in paths.items()}

    def paths(self) -> dict[str, str]:
        return self._paths


def read(**paths: Path) -> dict[str, Any]:
    return stats.read(Given(**paths))  # type: ignore[arg-type]


def put(home: Path, **files: str) -> Path:
    """A directory with these files; a dot in the name of a file is written as __."""
    home.mkdir(exist_ok=True)
    for name, text in files.items():
        (home / name.replace("__", ".")).write_text(text)
    return home


# -- cgroup v2 -------------------------------------------------------------------------------------------


def test_cgroup_without_controllers(tmp_path: Path) -> None:
    """Zeros where runc has zeros, nothing where it leaves out."""
    home = put(
        tmp_path / "box", cgroup__procs="10\n11\n", cpu__stat="usage_usec 7\nuser_usec 4\nsystem_usec 3\n"
    )
    assert read(unified=home) == {
        "cpu": {"usage": {"total": 7000, "kernel": 3000, "user": 4000}, "throttling": {}},
        "cpuset": dict.fromkeys(stats.CPUSET_FLAGS, 0),
        "memory": {kind: {"limit": 0, "failcnt": 0} for kind in ("usage", "swap", "kernel", "kernelTCP")},
        "pids": {"current": 2},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def memory(home: Path, **files: str) -> dict[str, Any]:
    stat = "anon 4096\nfile 8192\nnuma_locality 0 0 0\n"
    found: dict[str, Any] = read(unified=put(home, memory__stat=stat, **files))["memory"]
    return found


LIMITED = {"memory__current": "12288\n", "memory__max": "65536\n", "memory__peak": "20480\n"}
SWAPPING = {"memory__swap__current": "100\n", "memory__swap__max": "1000\n"}
EVENTS = "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"


def test_memory_of_v2(tmp_path: Path) -> None:
    found = memory(
        tmp_path, **LIMITED, **SWAPPING, memory__events=EVENTS, memory__swap__events="high 0\nmax 3\nfail 4\n"
    )
    assert found == {
        "cache": 8192,
        "raw": {"anon": 4096, "file": 8192},
        "usage": {"limit": 65536, "usage": 12288, "max": 20480, "failcnt": 9},
        "swap": {"limit": 66536, "usage": 12388, "failcnt": 3},
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
    }


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (SWAPPING | {"memory__swap__max": "max\n"}, MAX),
        (SWAPPING | {"memory__max": "max\n"}, MAX),
        ({"memory__swap__current": "0\n", "memory__swap__max": "0\n"}, 65536),
        ({}, 65536),  # a kernel that does not account swap
    ],
)
def test_limit_of_memory_and_swap(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    """Without a limit on either there is none on both; no sum overflows the 64 bits of whoever reads it."""
    assert memory(tmp_path, **LIMITED | files)["swap"]["limit"] == limit


def test_memory_before_linux_5_19(tmp_path: Path) -> None:
    files = {**LIMITED}
    del files["memory__peak"]
    assert memory(tmp_path, **files)["usage"] == {"limit": 65536, "usage": 12288, "failcnt": 0}


def test_throttling_of_v2(tmp_path: Path) -> None:
    text = "usage_usec 5\nuser_usec 0\nsystem_usec 0\nnr_periods 8\nnr_throttled 3\nthrottled_usec 20\nnr_bursts 0\n"
    found = read(unified=put(tmp_path, cpu__stat=text))["cpu"]
    assert found["throttling"] == {"periods": 8, "throttledPeriods": 3, "throttledTime": 20000}


def test_io_stat(tmp_path: Path) -> None:
    """cgroup-v2.rst; a line without numbers, and one with two names, as older kernels wrote for loop devices."""
    text = (
        "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
        "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021 cost.vrate=100.00\n"
        "253:0\n"
        "7:7 7:6 rbytes=0 wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n"
    )
    found = read(unified=put(tmp_path, io__stat=text))["blkio"]
    assert found["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 16, "op": "Read", "value": 1459200},
        {"major": 8, "minor": 16, "op": "Write", "value": 314773504},
        {"major": 8, "op": "Read", "value": 90430464},
        {"major": 8, "op": "Write", "value": 299008000},
        {"major": 7, "minor": 7, "op": "Read"},
        {"major": 7, "minor": 7, "op": "Write"},
    ]
    assert [entry.get("value", 0) for entry in found["ioServicedRecursive"]] == [192, 353, 8950, 1252, 0, 0]
    assert set(found) == {"ioServiceBytesRecursive", "ioServicedRecursive"}


def test_pids_of_v2(tmp_path: Path) -> None:
    assert read(unified=put(tmp_path, pids__current="3\n", pids__max="20\n"))["pids"] == {
        "current": 3,
        "limit": 20,
    }
    assert read(unified=put(tmp_path, pids__max="max\n"))["pids"] == {"current": 3}


def test_huge_pages_of_v2(tmp_path: Path) -> None:
    files = {
        "hugetlb__2MB__current": "0\n",
        "hugetlb__2MB__rsvd__current": "4194304\n",
        "hugetlb__2MB__events": "max 5\n",
        "hugetlb__1GB__current": "1073741824\n",  # a kernel that counts no reservations
        "hugetlb__1GB__events": "max 0\n",
    }
    assert read(unified=put(tmp_path, **files))["hugetlb"] == {
        "1GB": {"usage": 1 << 30, "failcnt": 0},
        "2MB": {"usage": 4 << 20, "failcnt": 5},
    }


def test_pressure(tmp_path: Path) -> None:
    """accounting/psi.rst; before Linux 5.13 cpu.pressure had one line."""
    some = "some avg10=0.30 avg60=1.25 avg300=12.00 total=1234567\n"
    full = "full avg10=0.00 avg60=0.00 avg300=0.50 total=7\n"
    data = read(unified=put(tmp_path, cpu__pressure=some, io__pressure=some + full))
    said = {"avg10": 0.3, "avg60": 1.25, "avg300": 12.0, "total": 1234567}
    assert data["cpu"]["psi"] == {"some": said, "full": dict.fromkeys(said, 0)}
    assert data["blkio"] == {
        "psi": {"some": said, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.5, "total": 7}}
    }
    assert "psi" not in data["memory"]


# -- cgroup v1 -------------------------------------------------------------------------------------------


def test_processors_of_v1(tmp_path: Path) -> None:
    home = put(
        tmp_path,
        cpuacct__usage="300\n",
        cpuacct__usage_percpu="100 200 \n",
        cpuacct__stat="user 5\nsystem 7\n",
        cpuacct__usage_all="cpu user system\n0 60 40\n1 150 50\n",
        cpu__stat="nr_periods 4\nnr_throttled 2\nthrottled_time 9000\n",
    )
    assert read(cpu=home, cpuacct=home)["cpu"] == {
        "usage": {
            "total": 300,
            "percpu": [100, 200],
            "percpu_kernel": [40, 50],
            "percpu_user": [60, 150],
            "kernel": 70_000_000,
            "user": 50_000_000,
        },
        "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 9000},
    }


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("0", [0]), ("0-3", [0, 1, 2, 3]), ("1,4-5,9", [1, 4, 5, 9])]
)
def test_lists_of_processors(text: str, numbers: list[int]) -> None:
    assert v1.members(text) == numbers


def test_memory_of_v1(tmp_path: Path) -> None:
    """A kernel without swap accounting, and without kernel memory."""
    files = {
        "memory__stat": "cache 8192\nrss 4096\n",
        "memory__limit_in_bytes": "65536\n",
        "memory__usage_in_bytes": "12288\n",
        "memory__max_usage_in_bytes": "20480\n",
        "memory__failcnt": "2\n",
    }
    found = read(memory=put(tmp_path, **files))["memory"]
    assert found["usage"] == {"limit": 65536, "usage": 12288, "max": 20480, "failcnt": 2}
    assert found["cache"] == 8192
    for kind in ("swap", "kernel", "kernelTCP"):
        assert found[kind] == {"limit": 0, "failcnt": 0}


BYTES = "8:0 Read 10\n8:0 Write 0\n8:0 Sync 10\n8:0 Async 0\n8:0 Total 10\nTotal 10\n"


def test_block_devices_by_cfq(tmp_path: Path) -> None:
    """admin-guide/cgroup-v1/blkio-controller.rst."""
    files = {
        "blkio__throttle__io_service_bytes": "8:0 Read 99\nTotal 99\n",  # the scheduler knows better
        "blkio__io_service_bytes_recursive": BYTES,
        "blkio__io_serviced_recursive": BYTES,
        "blkio__io_queued_recursive": BYTES,
        "blkio__io_service_time_recursive": BYTES,
        "blkio__io_wait_time_recursive": BYTES,
        "blkio__io_merged_recursive": BYTES,
        "blkio__time_recursive": "8:0 333\n",
        "blkio__sectors_recursive": "8:16 6792\n",
    }
    found = read(blkio=put(tmp_path, **files))["blkio"]
    entries = [
        {"major": 8, "op": "Read", "value": 10},
        {"major": 8, "op": "Write"},
        {"major": 8, "op": "Sync", "value": 10},
        {"major": 8, "op": "Async"},
        {"major": 8, "op": "Total", "value": 10},
    ]
    assert found.pop("ioTimeRecursive") == [{"major": 8, "value": 333}]
    assert found.pop("sectorsRecursive") == [{"major": 8, "minor": 16, "value": 6792}]
    assert found == dict.fromkeys(
        (
            "ioServiceBytesRecursive",
            "ioServicedRecursive",
            "ioQueueRecursive",
            "ioServiceTimeRecursive",
            "ioWaitTimeRecursive",
            "ioMergedRecursive",
        ),
        entries,
    )


@pytest.mark.parametrize("end", ["", "_recursive"])
def test_block_devices_without_a_scheduler_that_counts(tmp_path: Path, end: str) -> None:
    files = {f"blkio__throttle__{kind}{end}": BYTES for kind in ("io_service_bytes", "io_serviced")}
    nothing = {
        "blkio__bfq__io_service_bytes_recursive": "Total 0\n",
        "blkio__bfq__io_serviced_recursive": "Total 0\n",
    }
    found = read(blkio=put(tmp_path, **files, **nothing))["blkio"]
    assert set(found) == {"ioServiceBytesRecursive", "ioServicedRecursive"}
    assert found["ioServicedRecursive"][0] == {"major": 8, "op": "Read", "value": 10}


def test_huge_pages_of_v1(tmp_path: Path) -> None:
    files = {
        f"hugetlb__{name}": f"{number}\n"
        for name, number in {
            "2MB__usage_in_bytes": 0,
            "2MB__max_usage_in_bytes": 0,
            "2MB__failcnt": 0,
            "2MB__rsvd__usage_in_bytes": 4 << 20,
            "2MB__rsvd__max_usage_in_bytes": 6 << 20,
            "2MB__rsvd__failcnt": 5,
            "1GB__usage_in_bytes": 1 << 30,
            "1GB__max_usage_in_bytes": 2 << 30,
            "1GB__failcnt": 1,
        }.items()
    }
    assert read(hugetlb=put(tmp_path, **files))["hugetlb"] == {
        "1GB": {"usage": 1 << 30, "max": 2 << 30, "failcnt": 1},
        "2MB": {"usage": 4 << 20, "max": 6 << 20, "failcnt": 5},
    }


# -- both ------------------------------------------------------------------------------------------------


def test_each_controller_where_it_is_bound(tmp_path: Path) -> None:
    """On a hybrid host v1 hierarchies come first; what they do not have the unified one tells, pressure included."""
    psi = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
    unified = put(
        tmp_path / "unified",
        cpu__stat="usage_usec 1\n",
        pids__current="9\n",
        memory__stat="file 1\n",
        memory__pressure=psi,
        hugetlb__2MB__current="2097152\n",
    )
    cpuacct = put(tmp_path / "cpuacct", cpuacct__usage="300\n")
    memory = put(tmp_path / "memory", memory__stat="cache 2\n")
    data = read(unified=unified, cpuacct=cpuacct, memory=memory)
    assert data["cpu"]["usage"]["total"] == 300
    assert data["pids"] == {"current": 9}
    assert data["memory"]["raw"] == {"cache": 2}
    assert data["memory"]["psi"]["some"]["total"] == 5
    assert data["hugetlb"] == {"2MB": {"usage": 2 << 20, "failcnt": 0}}


def test_cgroups_that_are_gone(tmp_path: Path) -> None:
    for paths in ({"unified": tmp_path / "box"}, dict.fromkeys(v1.READERS, tmp_path / "box")):
        with pytest.raises(PyruncError, match=f"cgroup {tmp_path}/box is gone"):
            read(**paths)
    assert read(unified=tmp_path / "box", pids=put(tmp_path / "pids"))["pids"] == {}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").symlink_to("cpu.stat")
    with pytest.raises(KernelError, match=f"read cpu.stat in {tmp_path}: too many levels"):
        read(unified=tmp_path)


def test_reading_leaves_the_empty_document_alone() -> None:
    assert stats.empty() == EMPTY
    assert v2.pressure("") == {
        kind: {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0} for kind in ("some", "full")
    }
