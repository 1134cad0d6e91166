"""The room for resctrl: the rules, and where resctrl is mounted. Groups: tests/kernel/test_intel_rdt.py."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.errors import PyruncError, Rejected
from pyrunc.linux import intel_rdt
from pyrunc.plan.host import Host
from pyrunc.validate.check import check_shape
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})
TABLE = r"""25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
99 25 0:49 /gold /mnt/part rw - resctrl resctrl rw
98 25 0:49 / /sys/fs/res\040ctrl\134x rw,relatime shared:8 master:3 - resctrl resctrl rw,cdp
97 25 0:50 / /sys/fs/other rw - tmpfs resctrl rw
"""


def judged(**wanted: Any) -> Report:
    config: Any = {"linux": {"intelRdt": wanted}}
    report = Report()
    intel_rdt.check(config, HOST, report)
    return report


@pytest.mark.parametrize("closid", ["", "/", "gold", "a.b", "...", "info2"])
def test_closids(closid: str) -> None:
    assert judged(closID=closid).problems == []


@pytest.mark.parametrize(
    "closid", [".", "..", "a/b", "/a", "a/", "../a", "//", "a\nb", "info", "mon_data", "mon_groups"]
)
def test_closids_that_are_none(closid: str) -> None:
    (problem,) = judged(closID=closid).problems
    assert str(problem).startswith("linux.intelRdt.closID: invalid closID ")


def test_lines() -> None:
    """MUST NOT contain newlines (schemata), SHOULD be one line that starts with L3: (l3CacheSchema)."""
    assert judged(schemata=["L3:0=f", "MB:0=50"], l3CacheSchema="L3:0=f").problems == []
    (problem,) = judged(schemata=["L3:0=f", "MB:0=50\nL3:0=1"]).problems
    assert str(problem).startswith("linux.intelRdt.schemata[1]: ")
    for schema in ("MB:0=50", "L3:0=f\nMB:0=50"):
        report = judged(l3CacheSchema=schema)
        assert report.problems == [] and len(report.warnings) == 1


@pytest.mark.parametrize(
    ("change", "schemata"),
    [
        ({"l3CacheSchema": "L3:0=3"}, ["MB:0=50", "L3:0=f;1=f", "L3:0=3"]),
        ({"l3CacheSchema": "L3:0=3;1=3"}, ["MB:0=50", "L3:0=3;1=3"]),
        ({"memBwSchema": "MB:0=20;1=20"}, ["L3:0=f;1=f", "MB:0=20;1=20"]),
        ({"schemata": ["MB:1=30", "L2:0=1"]}, ["MB:0=50", "L3:0=f;1=f", "MB:1=30", "L2:0=1"]),
        ({"l3CacheSchema": "L3:0=3\nMB:0=10", "memBwSchema": "MB:0=20"}, ["L3:0=f;1=f", "L3:0=3", "MB:0=20"]),
    ],
)
def test_what_holds_after_an_update(change: Any, schemata: list[str]) -> None:
    """What was asked for before stays as far as no line of the change names the same cache."""
    wanted: Any = {"closID": "a", "l3CacheSchema": "L3:0=ff", "schemata": ["MB:0=50", "L3:0=f;1=f"]}
    assert intel_rdt.merged(wanted, change) == {**wanted, "schemata": schemata}


def test_where_it_is_mounted() -> None:
    assert intel_rdt.mount_point(TABLE.encode()) == r"/sys/fs/res ctrl\x"
    with pytest.raises(PyruncError, match="resctrl is not mounted"):
        intel_rdt.mount_point("".join(TABLE.splitlines(True)[0::3]).encode())


def test_ids_that_are_no_names() -> None:
    with pytest.raises(PyruncError, match="cannot be a closID"):
        intel_rdt.Group("/nowhere", {}, "mon_groups")
    assert intel_rdt.Group("/nowhere", {"closID": "a"}, "mon_groups").directory == "/nowhere/a"


@pytest.mark.parametrize(
    "schema, right",
    [("MB:0=50", True), ("MB:", True), ("L3:0=f", False), ("MB:0=5\nMB:1=5", False), ("", False)],
)
def test_mem_bw_schema(schema: str, right: bool) -> None:
    """MUST start with MB: and MUST NOT contain newlines; the schema says so."""
    config = {"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": {"intelRdt": {"memBwSchema": schema}}}
    if right:
        check_shape(config)
    else:
        with pytest.raises(Rejected, match="memBwSchema"):
            check_shape(config)
