"""cgroup v1 on the hierarchies of this host: which devices may be opened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from pyrunc.linux.cgroups import files
from pyrunc.linux.cgroups.layout import Layout
from pyrunc.linux.cgroups.manager import choose, restore
from tests.support.cgroup_v1 import HOST, NEEDS_V1, SLEEP, held

pytestmark = NEEDS_V1


def test_denied_device_bites(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": False, "access": "rwm"}]})
    for device, works in (
        ("/dev/null", True),
        ("/dev/urandom", True),
        ("/dev/kmsg", False),
        ("/dev/fuse", False),
    ):
        if os.path.exists(device):
            process = start(manager, "/bin/sh", "-c", f": < {device}", stderr=subprocess.PIPE)
            word = process.stderr.read()
            assert (process.wait() == 0) == works, (device, word)
            assert works or b"not permitted" in word
    assert "c 1:3 rwm" in held(manager, "devices", "devices.list")


def test_device_list_is_updated_without_a_gap(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    extra = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}
    manager = make({"devices": [extra]})
    start(manager, *SLEEP)
    os.mkdir(manager.paths()["devices"] + "/inner")
    assert "c 1:11 rwm" in held(manager, "devices", "devices.list")
    manager = restore(json.loads(json.dumps(manager.record())))
    manager.apply({"devices": []})
    assert "c 1:11" not in held(manager, "devices", "devices.list")
    assert "c 1:3 rwm" in held(manager, "devices", "devices.list")


def test_privileged_allows_every_device(make: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": True, "access": "rwm"}]})
    assert held(manager, "devices", "devices.list") == "a *:* rwm"
    manager.apply({"devices": []})
    assert "a " not in held(manager, "devices", "devices.list")


@pytest.mark.skipif(HOST.v2 is None, reason="this host has no unified hierarchy")
def test_devices_and_freezer_without_their_v1_hierarchies(top: str, start: Callable[..., Any]) -> None:
    """Where these are not mounted, the unified hierarchy of a hybrid host does the same."""
    v1 = tuple(h for h in HOST.v1 if not {"devices", "freezer"} & set(h.controllers))
    config: Any = {"linux": {"cgroupsPath": f"{top}/box"}}
    manager: Any = choose(config, "id", Layout(v1, HOST.v2), rootless=False)
    manager.create()
    try:
        manager.apply({})
        process = start(manager, "/bin/sh", "-c", ": < /dev/null; : < /dev/kmsg", stderr=subprocess.PIPE)
        assert b"/dev/kmsg: Operation not permitted" in process.stderr.read()
        process = start(manager, *SLEEP)
        manager.freeze()
        assert manager.frozen()
        assert files.read(manager.paths()[""], "cgroup.freeze") == "1"
        manager.thaw()
        assert not manager.frozen()
        manager.kill()
        assert process.wait() == -signal.SIGKILL
    finally:
        manager.remove()
