"""The configuration that `pyrunc spec` writes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pyrunc.config.example import example
from pyrunc.config.writer import dumps

KINDS = list(itertools.product([False, True], [False, True]))


def kinds(config: Any) -> set[str]:
    return {namespace["type"] for namespace in config["linux"]["namespaces"]}


def test_for_root() -> None:
    config: Any = example(False, 0, 0, False)
    assert kinds(config) == {"pid", "ipc", "uts", "mount", "network"}
    assert config["process"]["args"] == ["sh"]
    assert config["process"]["terminal"] is True
    assert config["linux"]["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}
    assert "uidMappings" not in config["linux"]


@pytest.mark.parametrize("rootless", [False, True])
def test_it_has_the_default_file_systems(rootless: bool) -> None:
    """config-linux.md "Default Filesystems": they SHOULD be made available."""
    config: Any = example(rootless, 0, 0, False)
    types = {mount["destination"]: mount["type"] for mount in config["mounts"]}
    # An ordinary user's sysfs is the host's, bound: the kernel gives no new one without a network namespace.
    wanted = {
        "/proc": "proc",
        "/sys": "none" if rootless else "sysfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
    }
    assert {path: types.get(path) for path in wanted} == wanted


def test_for_an_ordinary_user() -> None:
    config: Any = example(True, 1000, 100, False)
    assert kinds(config) == {"pid", "ipc", "uts", "mount", "user"}
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 100, "size": 1}]
    assert "resources" not in config["linux"]
    assert not [
        option for mount in config["mounts"] for option in mount.get("options", []) if "id=" in option
    ]
    assert (
        next(mount for mount in config["mounts"] if mount["destination"] == "/sys")["options"][0] == "rbind"
    )


@pytest.mark.parametrize("rootless", [False, True])
def test_cgroup_v2_adds_a_cgroup_namespace(rootless: bool) -> None:
    assert kinds(example(rootless, 0, 0, True)) - kinds(example(rootless, 0, 0, False)) == {"cgroup"}


@pytest.mark.parametrize(("rootless", "cgroup_v2"), KINDS)
def test_each_call_gives_a_value_of_its_own(rootless: bool, cgroup_v2: bool) -> None:
    first: Any = example(rootless, 1, 1, cgroup_v2)
    text = dumps(first, 4)
    for capabilities in first["process"]["capabilities"].values():
        capabilities.append("CAP_SYS_ADMIN")
    for mount in first["mounts"]:
        mount.setdefault("options", []).append("x")
    first["linux"]["maskedPaths"].clear()
    assert dumps(example(rootless, 1, 1, cgroup_v2), 4) == text
