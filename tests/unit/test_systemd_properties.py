"""The properties of a unit, from config.json; those of the unit itself are seen in tests/runtime."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.systemd.properties import (
    INFINITY,
    bit_mask,
    of_annotations,
    of_devices,
    of_resources,
    of_resources_v1,
    of_unit,
    rounded,
)
from pyrunc.linux.cgroups.systemd.unit import unit

NEW, OLD = 257, 239


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"memory": {"limit": 100}}, {"MemoryMax": 100}),
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"memory": {"reservation": 50}}, {"MemoryLow": 50}),
        ({"memory": {"limit": 100, "swap": 150}}, {"MemoryMax": 100, "MemorySwapMax": 50}),
        ({"memory": {"limit": 100, "swap": 100}}, {"MemoryMax": 100, "MemorySwapMax": 0}),
        ({"memory": {"limit": 100, "swap": -1}}, {"MemoryMax": 100, "MemorySwapMax": INFINITY}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
        (
            {"cpu": {"quota": 20000, "period": 50000}},
            {"CPUQuotaPerSecUSec": 400_000, "CPUQuotaPeriodUSec": 50000},
        ),
        ({"cpu": {"quota": 12345}}, {"CPUQuotaPerSecUSec": 130_000}),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": INFINITY}),
        ({"cpu": {"period": 50000}}, {"CPUQuotaPeriodUSec": 50000}),
        (
            {"cpu": {"cpus": "0-2,9", "mems": "1"}},
            {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x02"},
        ),
        ({"pids": {"limit": 5}}, {"TasksMax": 5}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"blockIO": {"weight": 10}}, {"IOWeight": 1}),
        ({"blockIO": {"weight": 1}}, {"IOWeight": 1}),  # BFQ's alone, written by pyrunc
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 9}]}},
            {"IODeviceWeight": [("/dev/block/8:0", 1)]},
        ),
        ({"blockIO": {"weight": 1000}}, {"IOWeight": 10000}),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}},
            {"IODeviceWeight": [("/dev/block/8:0", 10000)]},
        ),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 601}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 602}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 603}],
                }
            },
            {
                "IOReadBandwidthMax": [("/dev/block/8:0", 600)],
                "IOWriteBandwidthMax": [("/dev/block/8:0", 601)],
                "IOReadIOPSMax": [("/dev/block/8:0", 602)],
                "IOWriteIOPSMax": [("/dev/block/8:16", 603)],
            },
        ),
        (
            {"unified": {"memory.high": "64M", "memory.min": "max"}},
            {"MemoryHigh": 64 << 20, "MemoryMin": INFINITY},
        ),
        ({"unified": {"memory.oom.group": "1"}}, {"OOMPolicy": "kill"}),
        ({"unified": {"memory.oom.group": "0"}}, {"OOMPolicy": "continue"}),
        ({"unified": {"memory.zswap.max": "5"}}, {"MemoryZSwapMax": 5}),
        ({"unified": {"cpu.weight": "77", "pids.max": "9"}}, {"CPUWeight": 77, "TasksMax": 9}),
        ({"unified": {"cpu.idle": "1"}}, {"CPUWeight": 0}),
        (
            {"unified": {"cpu.max": "5000 10000"}},
            {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 10000},
        ),
        ({"unified": {"cpu.max": "max"}}, {"CPUQuotaPerSecUSec": INFINITY}),
        (
            {"unified": {"cpuset.cpus": "1", "cpuset.mems": "0"}},
            {"AllowedCPUs": b"\2", "AllowedMemoryNodes": b"\1"},
        ),
        # What unified says comes last, as it is written last.
        ({"pids": {"limit": 5}, "unified": {"pids.max": "6"}}, {"TasksMax": 6}),
        # No property, or no value: the kernel has the word when pyrunc writes it.
        ({"unified": {"hugetlb.2MB.max": "5", "memory.high": "much", "cpu.idle": "x"}}, {}),
        ({"cpu": {"burst": 5, "cpus": "a"}}, {}),
    ],
)
def test_limits(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: value for name, (_, value) in of_resources(resources, NEW).items()} == expected


@pytest.mark.parametrize(
    "resources",
    [
        {"unified": {"memory.max": "9" * 30}},
        {"unified": {"memory.max": "9" * 5000}},
        {"unified": {"memory.max": "99999999T"}},
        {"unified": {"memory.max": "\u0661\u0662"}},
        {"unified": {"cpu.max": "9" * 30}},
        {"unified": {"cpuset.cpus": "9" * 5000}},
        {"cpu": {"quota": 2**63 - 1}},
        {"cpu": {"cpus": "0-" + "9" * 5000}},
    ],
)
def test_what_no_property_can_hold_is_left_to_the_kernel(resources: dict[str, Any]) -> None:
    """Which says what it does not take when the file is written; so it is no limit that is lost."""
    assert of_resources(resources, NEW) == {}


def test_an_old_systemd_is_not_asked_for_what_it_does_not_know() -> None:
    resources = {
        "cpu": {"period": 50000, "quota": 5000, "cpus": "0", "mems": "0", "idle": 1, "shares": 1024},
        "unified": {"memory.oom.group": "1", "memory.zswap.max": "5"},
    }
    assert set(of_resources(resources, OLD)) == {"CPUQuotaPerSecUSec", "CPUWeight"}
    assert of_resources(resources, OLD)["CPUWeight"] == ("t", 100)


def test_limits_of_cgroup_v1() -> None:
    resources = {
        "memory": {"limit": 100, "swap": 200},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000},
        "blockIO": {"weight": 500},
        "pids": {"limit": 5},
    }
    assert of_resources_v1(resources, NEW) == {
        "MemoryLimit": ("t", 100),
        "CPUShares": ("t", 512),
        "CPUQuotaPerSecUSec": ("t", 400_000),
        "CPUQuotaPeriodUSec": ("t", 50000),
        "BlockIOWeight": ("t", 500),
        "TasksMax": ("t", 5),
    }


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [(20000, 50000, 20000), (12345, 50000, 12500), (12345, 0, 13000), (1, 100000, 1000), (-1, 50000, -1)],
)
def test_the_quota_that_pyrunc_writes_is_the_one_that_systemd_writes(
    quota: int, period: int, expected: int
) -> None:
    """systemd knows it in steps of 10 ms of a second; its next write must not change it."""
    asked = {"cpu": {"quota": quota, "period": period, "shares": 5}, "pids": {"limit": 5}}
    assert rounded(asked) == {"cpu": {"quota": expected, "period": period, "shares": 5}, "pids": {"limit": 5}}
    assert asked["cpu"]["quota"] == quota


def test_the_lowest_weight_that_systemd_takes_on_cgroup_v1() -> None:
    assert of_resources_v1({"blockIO": {"weight": 1}}, NEW) == {"BlockIOWeight": ("t", 10)}


def test_bit_mask() -> None:
    assert bit_mask("0") == b"\1"
    assert bit_mask("0,7-8") == b"\x81\1"
    assert bit_mask("63") == bytes(7) + b"\x80"
    assert [bit_mask(text) for text in ("", "a", "2-1", "1-", "1,,2", "99999")] == [b""] * 6


def devices(*rules: dict[str, Any]) -> tuple[str, set[tuple[str, str]]]:
    found = of_devices(rules)
    return found["DevicePolicy"][1], set(found["DeviceAllow"][1])


DENY = {"allow": False, "access": "rwm"}
DEFAULT = {
    ("block-*", "m"), ("char-*", "m"), ("char-136", "rwm"),
    *((f"/dev/char/{number}", "rwm") for number in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "10:200")),
}  # fmt: skip


def test_devices() -> None:
    assert devices(DENY) == ("strict", DEFAULT)
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    assert devices(DENY, rule) == ("strict", DEFAULT | {("/dev/char/10:229", "rwm")})
    assert devices(DENY, {**rule, "minor": -1}) == (
        "strict",
        DEFAULT - {("/dev/char/10:200", "rwm")} | {("char-10", "rwm")},
    )
    assert devices({"allow": True, "access": "rwm"}) == ("auto", set())


def test_systemd_never_denies_what_the_rules_allow() -> None:
    """It has no word for a minor of every major, nor for taking away: then it allows more, and eBPF denies."""
    policy, allowed = devices(DENY, {"allow": True, "type": "b", "minor": 5, "access": "r"})
    assert policy == "strict"
    assert ("block-*", "rm") in allowed
    policy, allowed = devices(
        {"allow": True, "access": "rwm"}, {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "w"}
    )
    assert policy == "strict"
    assert {("block-*", "rwm"), ("char-*", "rwm"), ("/dev/block/8:0", "rm")} == allowed


def test_the_unit_itself() -> None:
    scope = of_unit(unit("a.slice:p:n", "n", rootless=False), 42)
    assert scope["Slice"] == ("s", "a.slice")
    assert scope["PIDs"] == ("au", [42])
    assert scope["Delegate"] == ("b", True)
    assert scope["DefaultDependencies"] == ("b", False)
    slice = of_unit(unit("a.slice:p:a-n.slice", "n", rootless=False), 42)
    assert slice["Wants"] == ("as", ["a.slice"])
    assert not {"Slice", "PIDs", "Delegate"} & set(slice)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", ("t", 5))),
        # runc's convenience: the suffix of unit files.
        ("TimeoutStopSec", "5", ("TimeoutStopUSec", ("t", 5_000_000))),
        ("TimeoutStopSec", "0.5", ("TimeoutStopUSec", ("t", 500_000))),
        ("RuntimeMaxUSec", "uint64 7", ("RuntimeMaxUSec", ("t", 7))),
        ("CollectMode", "'inactive'", ("CollectMode", ("s", "inactive"))),
        ("After", "['a.service']", ("After", ("as", ["a.service"]))),
    ],
)
def test_annotation(name: str, text: str, expected: tuple[str, Any]) -> None:
    found = of_annotations(
        {f"org.systemd.property.{name}": text, "org.example": "x", "org.systemd.property.": "x"}
    )
    assert found == dict([expected])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("Ab", "'x'", "no property's name"),
        ("Cpu9", "'x'", "no property's name"),
        ("A.B.C", "'x'", "no property's name"),
        ("Äöü", "'x'", "no property's name"),
        ("TimeoutStopUSec", "five", "'five' is not a value"),
        ("TimeoutStopSec", "'5'", "a number of seconds is due"),
        ("TimeoutStopSec", "-5", "a number of seconds is due"),
        ("PIDs", "[uint32 1]", "pyrunc's to set"),
        ("Slice", "'x.slice'", "pyrunc's to set"),
    ],
)
def test_an_annotation_that_is_none_names_itself(name: str, text: str, words: str) -> None:
    key = f"org.systemd.property.{name}"
    with pytest.raises(PyruncError) as caught:
        of_annotations({key: text})
    assert key in str(caught.value)
    assert words in str(caught.value)
