"""The room for resctrl on a file system that behaves like it (tests/support/resctrl.py).

No machine at hand has the hardware, so what was not exercised: the kernel's own resctrl, its shares at work, and
that children of the container's process are where it is.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux import intel_rdt
from tests.support.resctrl import Resctrl

L3, MB = "L3:0=f;1=ff", "MB:0=50;1=70"


@pytest.fixture
def resctrl(folder: Path) -> Iterator[Resctrl]:
    mounted = Resctrl(folder / "resctrl")
    yield mounted
    mounted.end()


@pytest.fixture
def process() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "100"])
    yield child.pid
    child.kill()
    child.wait()


@pytest.fixture
def choose(resctrl: Resctrl) -> Callable[..., intel_rdt.Group]:
    def choose(**wanted: Any) -> intel_rdt.Group:
        typed: Any = wanted
        return intel_rdt.choose(typed, "box", str(resctrl.path))

    return choose


Choose = Callable[..., intel_rdt.Group]


def test_without_closid_a_group_of_its_own(resctrl: Resctrl, choose: Choose, process: int) -> None:
    """MUST: named after the container; nothing is written to schemata without one; removed on delete."""
    group = choose()
    assert set(resctrl.shares) == {""}, "choosing touches nothing"
    record = group.record()
    assert record["remove"] == [f"{resctrl.path}/box"]
    group.create()
    assert group.record() == record
    group.enter(process)
    assert resctrl.writes == [("box/tasks", f"{process}\n")]
    assert (resctrl.path / "box" / "tasks").read_text() == f"{process}\n"
    intel_rdt.remove(record)
    assert set(resctrl.shares) == {""} and resctrl.tasks == {}
    intel_rdt.remove(record)  # again, after a delete that was interrupted


def test_a_group_that_was_there_is_not_removed(resctrl: Resctrl, choose: Choose) -> None:
    """MUST NOT remove what the runtime has not made, though it has the container's name."""
    resctrl.group("box")
    group = choose()
    group.create()
    assert group.record()["remove"] == []
    group.discard()
    assert "box" in resctrl.shares


def test_order_of_the_writes(resctrl: Resctrl, choose: Choose) -> None:
    """MUST: l3CacheSchema first, then memBwSchema, schemata last, each line one element."""
    lines = ["L3:0=3", "MB:1=30"]
    choose(closID="gold", l3CacheSchema=L3, memBwSchema=MB, schemata=lines).create()
    assert [text for path, text in resctrl.writes if path == "gold/schemata"] == [
        f"{L3}\n",
        f"{MB}\n",
        "L3:0=3\nMB:1=30\n",
    ]
    assert resctrl.shares["gold"] == {"MB": {"0": 50, "1": 30}, "L3": {"0": 3, "1": 0xFF}}


@pytest.mark.parametrize(
    "wanted, text",
    [
        ({"l3CacheSchema": L3}, L3),
        ({"memBwSchema": MB}, MB),
        ({"schemata": [L3, MB]}, f"{L3}\n{MB}"),
    ],
)
@pytest.mark.parametrize("closid", ["", "gold"])
def test_each_alone(resctrl: Resctrl, choose: Choose, wanted: dict[str, Any], text: str, closid: str) -> None:
    """MUST: each is written where it is given; MUST: the directory is made where it does not exist."""
    choose(closID=closid, **wanted).create()
    assert resctrl.writes == [(f"{closid or 'box'}/schemata", f"{text}\n")]


def test_bandwidth_in_the_schema_of_the_cache_gives_way(resctrl: Resctrl, choose: Choose) -> None:
    """MUST: of l3CacheSchema only what is not MB: is written where memBwSchema is given."""
    choose(l3CacheSchema="MB:0=10;1=10\nL3:0=f\nMB:1=20", memBwSchema="MB:0=50").create()
    assert resctrl.writes == [("box/schemata", "L3:0=f\n"), ("box/schemata", "MB:0=50\n")]
    choose(closID="gold", l3CacheSchema="MB:0=10", memBwSchema="MB:0=50").create()
    choose(closID="tin", l3CacheSchema="L3:0=f\nMB:0=10").create()
    assert resctrl.writes[2:] == [("gold/schemata", "MB:0=50\n"), ("tin/schemata", "L3:0=f\nMB:0=10\n")]


def test_closid_is_not_removed(resctrl: Resctrl, choose: Choose, process: int) -> None:
    """MUST NOT: a group with a closID stays, though the container's create has made it."""
    group = choose(closID="gold", memBwSchema=MB)
    group.create()
    group.enter(process)
    assert group.record()["remove"] == []
    intel_rdt.remove(group.record())
    assert "gold" in resctrl.shares and resctrl.tasks[process] == ("gold", "")


@pytest.mark.parametrize("group", ["gold", "/"])
def test_closid_alone_joins(resctrl: Resctrl, choose: Choose, process: int, group: str) -> None:
    """MUST: assigned to a group that exists ("/": the root), whose schemata MUST NOT be written."""
    resctrl.group("gold", MB={"0": 20, "1": 20})
    chosen = choose(closID=group)
    chosen.create()
    chosen.enter(process)
    name = group.strip("/")
    assert resctrl.writes == [(f"{name}/tasks".lstrip("/"), f"{process}\n")]
    assert resctrl.tasks[process] == (name, "")
    chosen.discard()
    assert name in resctrl.shares


def test_closid_alone_that_does_not_exist(resctrl: Resctrl, choose: Choose) -> None:
    """MUST generate an error; also where it goes away between the look and the deed."""
    with pytest.raises(KernelError, match="gold: no such file or directory"):
        choose(closID="gold")
    resctrl.group("gold")
    group = choose(closID="gold")
    del resctrl.shares["gold"]
    with pytest.raises(KernelError, match="no such file or directory"):
        group.create()
    assert "gold" not in resctrl.shares


@pytest.mark.parametrize("closid", ["gold", "/", ""])
@pytest.mark.parametrize(
    "wanted",
    [
        {"l3CacheSchema": "L3:0=f"},
        {"l3CacheSchema": "L3:0=0f;1=fff"},
        {"memBwSchema": "MB:1=70"},
        {"memBwSchema": "MB:1=61"},  # as the kernel rounds it
        {"schemata": ["MB:0=100", "L3:1=FFF"]},
        {"l3CacheSchema": "L3:0=1", "schemata": ["L3:0=f"]},  # the last counts
    ],
)
def test_existing_group_that_matches(
    resctrl: Resctrl, choose: Choose, wanted: dict[str, Any], closid: str
) -> None:
    resctrl.group(closid.strip("/") if closid else "box", MB={"0": 100, "1": 70}, L3={"0": 0xF, "1": 0xFFF})
    choose(closID=closid, **wanted).create()
    assert resctrl.writes == []


@pytest.mark.parametrize("closid", ["gold", "/", ""])
@pytest.mark.parametrize(
    "wanted, words",
    [
        ({"l3CacheSchema": "L3:0=1"}, "L3:0=1 is wanted, L3:0=f is there"),
        ({"memBwSchema": "MB:0=100;1=80"}, "MB:1=80 is wanted, MB:1=70 is there"),
        ({"memBwSchema": "MB:1=60"}, "MB:1=60 is wanted, MB:1=70 is there"),
        ({"schemata": ["L3:0=f", "L2:0=f"]}, "there is no L2:0"),
        ({"schemata": ["L3:7=f"]}, "there is no L3:7"),
        ({"l3CacheSchema": "L3:0=nonsense"}, "L3:0=nonsense is wanted"),
        ({"l3CacheSchema": "L3:nonsense"}, "there is no L3:nonsense"),
    ],
)
def test_existing_group_that_differs(
    resctrl: Resctrl, choose: Choose, wanted: dict[str, Any], words: str, closid: str
) -> None:
    """MUST compare and generate an error; the group stays as it is."""
    resctrl.group(closid.strip("/") if closid else "box", MB={"0": 100, "1": 70}, L3={"0": 0xF, "1": 0xFFF})
    with pytest.raises(PyruncError, match="exists with other shares") as caught:
        choose(closID=closid, **wanted)
    assert words in str(caught.value)
    assert resctrl.writes == []


def test_two_at_once(resctrl: Resctrl, choose: Choose) -> None:
    """The one that comes second finds the group with its shares, and takes it or refuses it."""
    first, second = choose(closID="gold", memBwSchema=MB), choose(closID="gold", memBwSchema=MB)
    third = choose(closID="gold", memBwSchema="MB:0=10")
    for group in (first, second):
        group.create()
    with pytest.raises(PyruncError, match="other shares"):
        third.create()
    for group in (third, second):
        group.discard()
    assert len(resctrl.writes) == 1 and "gold" in resctrl.shares


def test_waits_for_whoever_changes_groups(resctrl: Resctrl, choose: Choose) -> None:
    """The lock of Documentation/filesystems/resctrl.rst, "Locking"."""
    import fcntl

    held = os.open(resctrl.path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    thread = threading.Thread(target=choose().create)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and "box" not in resctrl.shares
    os.close(held)
    thread.join(10)
    assert "box" in resctrl.shares


@pytest.mark.parametrize("closid, group", [("", "box"), ("gold", "gold"), ("/", "")])
def test_monitoring(resctrl: Resctrl, choose: Choose, process: int, closid: str, group: str) -> None:
    """MUST: mon_groups/<container-id> below the group, with the process; deleted with the container."""
    if closid == "gold":
        resctrl.group("gold")
    chosen = choose(closID=closid, enableMonitoring=True)
    monitor = f"{group}/mon_groups/box".lstrip("/")
    assert chosen.record()["remove"][0] == f"{resctrl.path}/{monitor}"
    chosen.create()
    chosen.enter(process)
    assert resctrl.tasks[process] == (group, monitor)
    assert (resctrl.path / monitor / "tasks").read_text() == f"{process}\n"
    intel_rdt.remove(chosen.record())
    assert resctrl.monitors == set()
    assert resctrl.removed == [monitor, *(["box"] if not closid else [])]


def test_monitoring_that_cannot_be_had(resctrl: Resctrl, choose: Choose) -> None:
    """MUST: an error where the group cannot be made, here for want of RMIDs; what was made goes."""
    resctrl.limits = 4, 0
    group = choose(enableMonitoring=True)
    with pytest.raises(KernelError, match="no space left on device: Out of RMIDs"):
        group.create()
    group.discard()
    assert set(resctrl.shares) == {""}


def test_monitoring_group_of_somebody_else(resctrl: Resctrl, choose: Choose) -> None:
    resctrl.monitors.add("mon_groups/box")
    with pytest.raises(PyruncError, match="mon_groups/box exists already"):
        choose(closID="/", enableMonitoring=True)


@pytest.mark.parametrize(
    "wanted, words",
    [
        ({"l3CacheSchema": "L3:0=1000"}, "Mask out of range: 1000"),
        ({"memBwSchema": "MB:0=5"}, "MB value 5 out of range"),
        ({"schemata": ["L9:0=f"]}, "Unknown or unsupported resource name 'L9'"),
        ({"schemata": ["L3:0=f", "L3:0=1"]}, "Duplicate domain 0"),
    ],
)
def test_the_reason_of_the_kernel(
    resctrl: Resctrl, choose: Choose, wanted: dict[str, Any], words: str
) -> None:
    """What info/last_cmd_status says is in the message; a group made for nothing is removed, closID or not."""
    group = choose(closID="gold", **wanted)
    with pytest.raises(KernelError) as caught:
        group.create()
    assert "invalid argument" in str(caught.value) and words in str(caught.value)
    group.discard()
    assert "gold" not in resctrl.shares


def test_out_of_groups(resctrl: Resctrl, choose: Choose) -> None:
    resctrl.limits = 1, 0
    group = choose()
    with pytest.raises(KernelError, match="box: no space left on device: Out of CLOSIDs"):
        group.create()


def test_a_process_that_has_gone(resctrl: Resctrl, choose: Choose) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    group = choose()
    group.create()
    with pytest.raises(KernelError, match=f"no such process: No task {child.pid}"):
        group.enter(child.pid)


def test_discard_leaves_a_group_that_others_have_joined(
    resctrl: Resctrl, choose: Choose, process: int
) -> None:
    """To remove it would take its shares from them."""
    group = choose(closID="gold", memBwSchema=MB)
    group.create()
    other = choose(closID="gold", memBwSchema=MB)
    other.create()
    other.enter(process)
    group.discard()
    assert "gold" in resctrl.shares


def test_unmounted_meanwhile(folder: Path) -> None:
    intel_rdt.remove({"remove": [str(folder / "resctrl" / "box")]})
    assert not (folder / "resctrl").exists()
