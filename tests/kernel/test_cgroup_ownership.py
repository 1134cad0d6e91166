"""Who a container's cgroup belongs to (config-linux.md "Cgroup ownership")."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pyrunc.linux.cgroups.layout import Layout, layout
from pyrunc.linux.cgroups.manager import choose
from tests.support.payload import REPOSITORY

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(layout().v2 is None, reason="this host mounts no cgroup2"),
]

#: Makes a delegated cgroup; prints which of its files belong to the container's user, and removes it.
DELEGATE = """
import json, os, sys
from pyrunc.linux.cgroups.layout import Layout, layout
from pyrunc.linux.cgroups.manager import choose
config = {
    "linux": {
        "cgroupsPath": sys.argv[1],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        "namespaces": [{"type": "cgroup"}],
    },
    "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}],
    "process": {"user": {"uid": 5, "gid": 0}},
}
manager = choose(config, "id", Layout((), layout().v2), rootless=False)
manager.create()
names = [".", *os.listdir(manager.home)]
print(json.dumps([name for name in names if os.stat(f"{manager.home}/{name}").st_uid == 100005]))
manager.remove()
"""


def test_three_files_where_the_kernel_does_not_tell() -> None:
    """Without /sys/kernel/cgroup/delegate the runtime MUST fall back to cgroup.procs, .subtree_control, .threads."""
    hide = 'mount -t tmpfs none /sys/kernel/cgroup && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh", sys.executable, "-c", DELEGATE]
    path = f"/pyrunc-test-{os.getpid()}-delegate"
    done = subprocess.run([*command, path], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=60)
    expected = [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    assert sorted(json.loads(done.stdout)) == expected


@pytest.mark.parametrize("uid", [0, 1000])
def test_without_a_user_namespace(uid: int) -> None:
    """The host's user owns it then; what is root's stays as it is."""
    name = f"/pyrunc-test-{os.getpid()}-owned"
    config: Any = {
        "linux": {"cgroupsPath": name, "namespaces": [{"type": "cgroup"}]},
        "mounts": [
            {"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup", "options": ["rw"]}
        ],
        "process": {"user": {"uid": uid, "gid": 0}},
    }
    manager: Any = choose(config, "box", Layout((), layout().v2), rootless=False)
    manager.create()
    try:
        assert os.stat(manager.home).st_uid == uid
        owners = {file: os.stat(f"{manager.home}/{file}").st_uid for file in os.listdir(manager.home)}
    finally:
        manager.remove()
    assert owners["cgroup.procs"] == owners["cgroup.subtree_control"] == owners["cgroup.threads"] == uid
    assert owners["cgroup.max.depth"] == owners["cgroup.freeze"] == 0


@pytest.mark.parametrize(
    "namespaces", [[], [{"type": "cgroup", "path": "/proc/1/ns/cgroup"}], [{"type": "pid"}]]
)
def test_not_without_a_cgroup_namespace_of_its_own(namespaces: list[dict[str, str]]) -> None:
    """SHOULD NOT: whoever sees the whole hierarchy is to own no part of it."""
    linux = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}]}
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    host = Layout((), layout().v2)
    for listed, owner in ((namespaces, -1), ([{"type": "cgroup"}], 100000)):
        config: Any = {"linux": {**linux, "namespaces": listed}, "mounts": [mount]}
        manager: Any = choose(config, "box", host, rootless=False)
        assert manager.owner == owner
