"""`update`: the rules for devices change without a gap, and are put back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.limits import only_v1
from tests.support.runtime import Runtime, wait_for
from tests.support.updating import answers, obstacle, saved, waiting, with_json

NOTHING = {"allow": False, "access": "rwm"}
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}


@pytest.fixture
def kmsg(runtime: Runtime) -> Bundle:
    """A bundle with the device 1:11 at /area/kmsg."""
    bundle = runtime.bundle()
    bundle.process["capabilities"] = {kind: ["CAP_SYSLOG"] for kind in ("bounding", "effective", "permitted")}
    os.mknod(bundle.rootfs / "area" / "kmsg", 0o20666, os.makedev(1, 11))
    return bundle


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("before", "after", "opens"),
    [
        pytest.param([NOTHING], [NOTHING, KMSG], [False, True], id="one more"),
        pytest.param([NOTHING, KMSG], [NOTHING], [True, False], id="one less"),
        pytest.param([{"allow": True, "access": "rwm"}], [NOTHING], [True, False], id="none of all"),
        pytest.param([NOTHING], [{"allow": True, "access": "rwm"}], [False, True], id="all instead of none"),
        pytest.param(
            [NOTHING],
            [{"allow": True, "access": "rwm"}, {**KMSG, "allow": False}],
            [False, False],
            id="all but one",
        ),
    ],
)
def test_devices(
    runtime: Runtime, kmsg: Bundle, before: list[Any], after: list[Any], opens: list[bool]
) -> None:
    kmsg.linux["resources"] = {"devices": before}
    with runtime.running(waiting(kmsg, "open /area/kmsg r", "open /dev/null rw")) as container:
        container.says("first")
        with_json(container, {"devices": after}).ok()
        assert saved(container)["devices"] == after
        expected = []
        for may in opens:
            expected += [0 if may else {"errno": "EPERM"}, 0]
        assert answers(container) == expected


@pytest.mark.needs_root
@pytest.mark.parametrize("rules", [[NOTHING, KMSG], [{"allow": True, "access": "rwm"}]], ids=["one", "all"])
def test_devices_are_put_back(runtime: Runtime, kmsg: Bundle, rules: list[Any]) -> None:
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(waiting(kmsg, "open /area/kmsg r", "open /dev/null rw")) as container:
        container.says("first")
        obstacle(container)
        with_json(container, {"devices": rules}).fails("save", "config.json", "is a directory")
        assert answers(container) == [{"errno": "EPERM"}, 0] * 2


@pytest.mark.needs_root
def test_devices_after_a_kill(runtime: Runtime, kmsg: Bundle, folder: Path) -> None:
    """Whoever asks for the former rules again gets them, though the saved configuration has never had others."""
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    file = folder / "resources.json"
    file.write_text(json.dumps({"devices": [NOTHING, KMSG]}))
    with runtime.running(waiting(kmsg, "open /area/kmsg r")) as container:
        container.says("first")
        fifo = runtime.root / container.id / ".config.json.new"
        os.mkfifo(fifo)  # where it waits for a reader, the rules in place, the configuration not saved
        killed = runtime.spawn("update", "-r", str(file), container.id)
        wchan = Path(f"/proc/{killed.process.pid}/wchan")
        wait_for(lambda: wchan.read_text() in ("wait_for_partner", "fifo_open"))
        killed.process.kill()
        killed.process.wait()
        fifo.unlink()
        with_json(container, {"devices": [NOTHING]}).ok()
        assert answers(container) == [{"errno": "EPERM"}] * 2


@pytest.mark.needs_root
def test_devices_at_no_moment(runtime: Runtime, kmsg: Bundle) -> None:
    """While the rules change this way and that, /dev/null can always be opened, and memory never."""
    os.mknod(kmsg.rootfs / "area" / "mem", 0o20666, os.makedev(1, 1))
    kmsg.process["capabilities"]["effective"] = kmsg.process["capabilities"]["permitted"] = ["CAP_SYS_RAWIO"]
    kmsg.process["capabilities"]["bounding"] = ["CAP_SYS_RAWIO"]
    kmsg.shell(
        "exec 2>/dev/zero; echo up; while :; do true < /area/mem && echo memory; done & "
        "while :; do true < /dev/null || echo no null; done"
    )
    mem = {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "rwm"}
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(kmsg) as container:
        container.says("up")
        for _ in range(5):
            for rules in ([NOTHING, KMSG], [{"allow": True, "access": "rwm"}, mem], [NOTHING]):
                with_json(container, {"devices": rules}).ok()
        assert container.out == "up\n"


@only_v1  # nobody can add to a device program
@pytest.mark.needs_root
def test_devices_that_somebody_else_has_allowed(runtime: Runtime, kmsg: Bundle) -> None:
    """An engine that sends all resources again, the rules unchanged, does not take them away."""
    kmsg.linux["resources"] = {"devices": [NOTHING]}
    with runtime.running(waiting(kmsg, "open /area/kmsg r")) as container:
        container.says("first")
        (container.cgroup("devices") / "devices.allow").write_text("c 1:11 r")
        with_json(container, {"devices": [NOTHING], "pids": {"limit": 50}}).ok()
        assert answers(container) == [{"errno": "EPERM"}, 0]
