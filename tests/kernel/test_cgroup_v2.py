"""cgroup v2 in the unified hierarchy: placement, device programs, freezing, killing, removing.

On a host whose controllers are bound to v1 (a hybrid one) the unified hierarchy serves for everything that
needs no controller, eBPF included; limits that need one are then refused by name, which is tested as well.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import files, tree
from pyrunc.linux.cgroups.devices import program_v2, rules
from pyrunc.linux.cgroups.layout import Layout, layout
from pyrunc.linux.cgroups.manager import choose, restore
from tests.support.cgroups import enter

UNIFIED = layout().v2
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root"),
    pytest.mark.skipif(UNIFIED is None, reason="this host mounts no cgroup2"),
]
HOST = Layout((), UNIFIED)
MOUNT = UNIFIED.mount if UNIFIED else ""
COUNT = itertools.count()
NOTHING_ALLOWED = [{"allow": False, "access": "rwm"}]


@pytest.fixture
def top() -> Iterator[str]:
    """A place of one's own; whatever is in it at the end is killed and removed."""
    path = f"/pyrunc-test-{os.getpid()}-{next(COUNT)}"
    yield path
    if os.path.isdir(MOUNT + path):
        files.write(MOUNT + path, "cgroup.kill", "1")
        tree.remove(MOUNT + path)


@pytest.fixture
def make(top: str) -> Callable[..., Any]:
    """Make a manager with its cgroup, one for each call."""

    def make(resources: dict[str, Any] | None = None, name: str = "box") -> Any:
        config: Any = {"linux": {"resources": resources or {}, "cgroupsPath": f"{top}/{name}"}}
        manager = choose(config, "id", HOST, rootless=False)
        manager.create()
        manager.apply(resources or {})
        return manager

    return make


def opens(start: Callable[..., Any], manager: Any, device: str) -> bool:
    process = start(manager, "/bin/sh", "-c", f": < {device}", stderr=subprocess.PIPE)
    word = process.stderr.read()
    assert process.wait() == 0 or b"not permitted" in word, word
    return bool(process.returncode == 0)


def programs(manager: Any) -> list[int]:
    directory = os.open(manager.home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return program_v2.attached(directory)
    finally:
        os.close(directory)


def test_denied_device_bites(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": NOTHING_ALLOWED})
    assert len(programs(manager)) == 1
    assert opens(start, manager, "/dev/null")
    assert opens(start, manager, "/dev/urandom")
    assert not opens(start, manager, "/dev/kmsg")


def test_reading_may_be_allowed_without_writing(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]})
    assert opens(start, manager, "/dev/kmsg")
    process = start(manager, "/bin/sh", "-c", ": > /dev/kmsg", stderr=subprocess.PIPE)
    assert b"not permitted" in process.stderr.read()


def test_privileged_has_no_program(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": [{"allow": True, "access": "rwm"}]})
    assert programs(manager) == []
    assert opens(start, manager, "/dev/kmsg")


def test_program_is_replaced(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": NOTHING_ALLOWED})
    (first,) = programs(manager)
    again = restore(manager.record())
    again.apply({"devices": [{"allow": True, "access": "rwm"}]})
    (second,) = programs(manager)
    assert second != first
    assert opens(start, manager, "/dev/kmsg")


def test_several_programs_become_one(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make({"devices": NOTHING_ALLOWED})
    program_v2.attach(manager.home, program_v2.emit(rules.table([])), fresh=True)
    assert len(programs(manager)) == 2
    assert not opens(start, manager, "/dev/null")
    program_v2.attach(manager.home, program_v2.emit(rules.table(rules.rules([]))), fresh=False)
    assert len(programs(manager)) == 1
    assert opens(start, manager, "/dev/null")


def test_an_update_leaves_the_programs_of_others(
    make: Callable[..., Any], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of systemd, which stays beside; ours is replaced, and comes back when a later step fails."""
    kmsg = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}
    manager = make({"devices": NOTHING_ALLOWED})
    (ours,) = programs(manager)
    with monkeypatch.context() as patch:
        patch.setattr(program_v2, "_NAME", b"somebody_else\0\0\0")
        no_random = {"allow": False, "type": "c", "major": 1, "minor": 8, "access": "rwm"}
        everything = {"allow": True, "access": "rwm"}
        table = rules.table(rules.rules([everything, no_random]))
        program_v2.attach(manager.home, program_v2.emit(table), fresh=True)
    (theirs,) = set(programs(manager)) - {ours}
    undo: list[Callable[[], object]] = []
    again = restore(manager.record())
    again.update({"devices": [*NOTHING_ALLOWED, kmsg]}, {"devices": NOTHING_ALLOWED}, undo.append)
    now = set(programs(manager))
    assert len(now) == 2 and theirs in now and ours not in now
    assert opens(start, manager, "/dev/kmsg")
    assert not opens(start, manager, "/dev/random")
    while undo:
        undo.pop()()
    assert len(programs(manager)) == 2 and theirs in programs(manager)
    assert not opens(start, manager, "/dev/kmsg")
    assert opens(start, manager, "/dev/null")


def test_the_verifier_takes_many_rules(make: Callable[..., Any]) -> None:
    numbers = range(0, 600, 2)
    devices = [
        {"allow": True, "type": "b", "major": n, "minor": n, "access": "rw" if n % 4 else "r"}
        for n in numbers
    ]
    assert len(programs(make({"devices": devices}))) == 1


def test_large_device_numbers(make: Callable[..., Any]) -> None:
    make(
        {"devices": [{"allow": True, "type": "c", "major": (1 << 32) - 1, "minor": 1 << 31, "access": "rw"}]}
    )


def test_place_and_directory(make: Callable[..., Any], top: str) -> None:
    manager = make()
    assert manager.paths() == {"": f"{MOUNT}{top}/box"}
    directory = manager.directory()
    assert os.path.samestat(os.fstat(directory), os.stat(manager.home))
    assert not os.get_inheritable(directory)
    os.close(directory)


@pytest.mark.parametrize(
    ("resources", "controller"),
    [
        ({"memory": {"limit": 1 << 20}}, "memory"),
        ({"cpu": {"shares": 5}}, "cpu"),
        ({"cpu": {"cpus": "0"}}, "cpuset"),
        ({"pids": {"limit": 5}}, "pids"),
    ],
)
@pytest.mark.skipif(
    UNIFIED is not None and "memory" in UNIFIED.controllers, reason="this host lacks no controller"
)
def test_a_missing_controller_is_named(
    make: Callable[..., Any], resources: dict[str, Any], controller: str
) -> None:
    with pytest.raises(
        PyruncError, match=f'linux.resources.*the cgroup controller "{controller}" is not available'
    ):
        make(resources)


def test_values_without_a_limit_need_no_controller(make: Callable[..., Any]) -> None:
    make({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}})


def test_unified_files_are_written_verbatim(make: Callable[..., Any]) -> None:
    manager = make({"unified": {"cgroup.max.depth": "7", "cgroup.max.descendants": "8\n9"}})
    assert files.read(manager.home, "cgroup.max.depth") == "7"
    assert files.read(manager.home, "cgroup.max.descendants") == "9"
    with pytest.raises(PyruncError, match='write "x" to cgroup.max.depth in /.*: invalid argument'):
        manager.apply({"unified": {"cgroup.max.depth": "x"}})


def test_unified_files_without_a_controller(make: Callable[..., Any]) -> None:
    """Unknown files are written; one of a controller that is not there is refused by the controller's name."""
    with pytest.raises(PyruncError, match=r"unified\['cgroup.nosuch'\]: write .* offers no"):
        make({"unified": {"cgroup.nosuch": "1"}})
    with pytest.raises(
        PyruncError, match=r"unified\['nosuch.max'\]: the cgroup controller \"nosuch\" is not"
    ):
        make({"unified": {"nosuch.max": "1"}}, name="second")


HUGE = pytest.mark.skipif(
    UNIFIED is None or "hugetlb" not in UNIFIED.controllers,
    reason="the kernel has no hugetlb controller in cgroup v2",
)


@HUGE
def test_huge_pages(make: Callable[..., Any]) -> None:
    manager = make(
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}, {"pageSize": "1GB", "limit": 0}]}
    )
    assert files.read(manager.home, "hugetlb.2MB.max") == str(4 << 20)
    assert files.read(manager.home, "hugetlb.2MB.rsvd.max") == str(4 << 20)
    assert files.read(manager.home, "hugetlb.1GB.rsvd.max") == "0"
    with pytest.raises(
        PyruncError, match=r"hugepageLimits\[0\].pageSize: .* no huge pages of 64KB \(use one of"
    ):
        manager.apply({"hugepageLimits": [{"pageSize": "64KB", "limit": 0}]})


@HUGE
def test_controllers_are_handed_down(make: Callable[..., Any]) -> None:
    manager = make(name="a/b/c")
    assert "hugetlb" in files.read(manager.home, "cgroup.controllers").split()


@pytest.fixture
def threaded(top: str) -> str:
    """A place below which cgroups can only be threaded."""
    os.makedirs(f"{MOUNT}{top}/parent/sibling")
    files.write(f"{MOUNT}{top}/parent/sibling", "cgroup.type", "threaded")
    return "parent/box"


@pytest.mark.parametrize("paused", [False, True])
def test_threaded_parent(
    make: Callable[..., Any], threaded: str, start: Callable[..., Any], paused: bool
) -> None:
    """A container below a threaded cgroup is one; its processes are found, stopped and killed as everywhere."""
    manager = make(name=threaded)
    assert files.read(manager.home, "cgroup.type") == "threaded"
    process = start(manager, "/bin/sleep", "1000")
    assert manager.pids() == [process.pid]
    with pytest.raises(PyruncError, match="not empty: 1 process"):
        make(name=threaded)
    if paused:
        manager.freeze()
        assert manager.frozen()
    manager.kill()
    assert process.wait() == -signal.SIGKILL
    manager.remove()
    assert not os.path.exists(manager.home)


def test_limits_that_do_not_work_below_a_threaded_parent(
    make: Callable[..., Any], threaded: str, top: str
) -> None:
    """A domain controller is refused by name, and a cgroup that was there stays as it was."""
    home = f"{MOUNT}{top}/{threaded}"
    os.mkdir(home)
    with pytest.raises(
        PyruncError, match=r'hugepageLimits: the cgroup controller "hugetlb" does not work in the threaded'
    ):
        make({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, name=threaded)
    assert files.read(home, "cgroup.type") == "domain invalid"


def test_freeze_and_thaw(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    manager = make()
    process = start(manager, "/bin/sh", "-c", "while :; do :; done")
    assert not manager.frozen()
    manager.freeze()
    assert manager.frozen()

    def used() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().split()[13]

    before = used()
    time.sleep(0.1)
    assert used() == before
    manager.thaw()
    assert not manager.frozen()


@pytest.mark.parametrize("by_each", [False, True])
@pytest.mark.parametrize("paused", [False, True])
def test_kill_and_remove_with_cgroups_inside(
    make: Callable[..., Any], top: str, paused: bool, by_each: bool
) -> None:
    manager = make()
    os.makedirs(f"{manager.home}/a/b")
    outer, inner = (subprocess.Popen(("/bin/sleep", "1000")) for _ in range(2))
    try:
        enter(manager, outer.pid)
        files.write(f"{manager.home}/a/b", "cgroup.procs", str(inner.pid))
        assert sorted(manager.pids()) == sorted([outer.pid, inner.pid])
        if paused:
            manager.freeze()
        # The second is the way of kernels without cgroup.kill.
        manager._kill_each() if by_each else manager.kill()
        manager.remove()
        assert not os.path.exists(manager.home)
        assert not os.path.exists(MOUNT + top), "the parent made for it is gone too"
    finally:
        for process in (outer, inner):
            process.kill() if process.poll() is None else None
            assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(
    UNIFIED is None or "memory" not in UNIFIED.controllers,
    reason="this host has its memory controller in cgroup v1",
)
def test_check_before_update(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    """A limit below the usage is refused, where the kernel would kill."""
    manager = make({"memory": {"limit": 64 << 20}})
    hold = "import time; held = bytearray(b'x' * (16 << 20)); print(flush=True); time.sleep(99)"
    process = start(manager, "/usr/bin/python3", "-c", hold, stdout=subprocess.PIPE)
    process.stdout.readline()
    below = {"limit": 8 << 20, "checkBeforeUpdate": True}
    with pytest.raises(PyruncError, match=rf"memory.limit: {8 << 20} is below the current usage of \d+"):
        manager.apply({"memory": below})
    assert files.read(manager.home, "memory.max") == str(64 << 20)
    assert process.poll() is None


def test_remove_of_what_is_gone_is_fine(make: Callable[..., Any]) -> None:
    manager = make()
    manager.remove()
    manager.remove()
    manager.kill()
    assert manager.pids() == []
    assert not manager.frozen()
    assert manager.oom_kills() == 0


def test_a_used_or_frozen_cgroup_is_refused(make: Callable[..., Any], start: Callable[..., Any]) -> None:
    first = make()
    process = start(first, "/bin/sleep", "1000")
    with pytest.raises(PyruncError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        make()
    assert os.path.isdir(first.home)
    process.kill()
    process.wait()
    files.write(first.home, "cgroup.freeze", "1")
    with pytest.raises(PyruncError, match="container's cgroup unexpectedly frozen"):
        make()


def test_delegation(top: str) -> None:
    config: Any = {
        "linux": {
            "cgroupsPath": f"{top}/box",
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
            "namespaces": [{"type": "cgroup"}],
        },
        "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}],
        "process": {"user": {"uid": 5, "gid": 0}},
    }
    manager: Any = choose(config, "id", HOST, rootless=False)
    manager.create()
    owned = {name for name in os.listdir(manager.home) if os.stat(f"{manager.home}/{name}").st_uid == 100005}
    assert os.stat(manager.home).st_uid == 100005
    assert {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= owned
    assert "cgroup.max.depth" not in owned


PURE_VIEW = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pyrunc.linux.cgroups.layout import layout
from pyrunc.linux.cgroups.manager import choose
host = layout()
assert host.pure_v2 and host.v2.mount == "/sys/fs/cgroup", host.v2
manager = choose({"linux": {"cgroupsPath": "/" + sys.argv[2]}}, "id", host, False)
assert manager.paths() == {"": "/sys/fs/cgroup/" + sys.argv[2]}
manager.create(); manager.apply({})
open(manager.home + "/cgroup.procs", "w").write(str(os.getpid()))
print(open("/proc/self/cgroup").read().splitlines()[-1])
"""


def test_pure_v2_view(top: str) -> None:
    # Where /sys/fs/cgroup itself is cgroup2, that is what the host has, whatever /proc/self/cgroup lists.
    root = Path(__file__).parents[2]
    # A bind mount: to mount the hierarchy anew would change the flags that the host has mounted it with.
    command = f'mount --make-rprivate / && mount --bind {MOUNT} /sys/fs/cgroup && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", command, "sh", sys.executable, "-c", PURE_VIEW, str(root), top[1:]]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"0::{top}\n"
