"""The whole check: real configurations pass, every room is asked, all problems come at once."""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import pyrunc.linux
from pyrunc.config.example import example
from pyrunc.errors import Rejected
from pyrunc.linux.mounts.facts import gather
from pyrunc.plan.host import Host, probe
from pyrunc.validate.check import ROOMS, SELDOM, check, room

CONFIGS = Path(__file__).parents[1] / "data" / "configs"


def host(config: Any, bundle: Path) -> Host:
    """The facts about this machine, with `bundle` as the bundle."""
    (bundle / "rootfs").mkdir()
    facts = probe()
    gather(facts, config, str(bundle), False)
    return facts


def test_no_room_is_forgotten() -> None:
    """Every module of pyrunc.linux that offers a check is asked."""
    offering = {
        module.name
        for module in pkgutil.iter_modules(pyrunc.linux.__path__)
        if callable(getattr(room(module.name), "check", None))
    }
    assert offering == set(ROOMS) | {name for name, _, _ in SELDOM}


def test_a_missing_room_is_an_error() -> None:
    with pytest.raises(ImportError):
        room("none")


@pytest.mark.parametrize("cgroup_v2", [False, True])
@pytest.mark.parametrize("rootless", [False, True])
def test_the_example_passes(tmp_path: Path, rootless: bool, cgroup_v2: bool) -> None:
    config = example(rootless, 1000, 1000, cgroup_v2)
    assert check(config, host(config, tmp_path)).problems == []


def test_every_rooms_problems_come_at_once(tmp_path: Path) -> None:
    config: Any = example(False, 0, 0, False)
    config["ociVersion"] = "2.0.0"
    config["linux"]["namespaces"] = [{"type": "pid"}, {"type": "pid"}, {"type": "mount"}]
    with pytest.raises(Rejected) as caught:
        check(config, host(config, tmp_path))
    paths = [problem.path for problem in caught.value.problems]
    assert paths[0] == "ociVersion"
    assert "hostname" in paths  # needs the UTS namespace that is gone
    assert any(path.startswith("linux.namespaces") for path in paths)


def test_a_wrong_shape_is_reported_before_any_room_can_stumble() -> None:
    with pytest.raises(Rejected, match=r"^invalid config\.json: process: must be an object, is a list$"):
        check({"ociVersion": "1.0.0", "root": {"path": "r"}, "process": []}, probe())  # type: ignore[typeddict-item]


def test_no_property_is_left_out(tmp_path: Path) -> None:
    """Of a configuration that has every property of `process` and `linux`, none is refused as unknown to pyrunc."""
    config = json.loads((CONFIGS / "everything.json").read_text(encoding="utf-8"))
    with pytest.raises(Rejected) as caught:
        check(config, host(config, tmp_path))
    assert not [problem.path for problem in caught.value.problems if "not supported" in problem.text]
