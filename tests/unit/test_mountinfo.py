"""The kernel's list of mounts, with the escapes of its paths."""

from __future__ import annotations

from pyrunc.kernel.mountinfo import mounts

# The forms of proc_pid_mountinfo(5): optional fields or none, escapes, a subtype, commas in the options.
TABLE = rb"""22 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:27 /pod\0401 /sys/fs/cgroup/a\134040b rw shared:9 - cgroup cgroup rw,cpu,cpuacct
31 22 0:28 / /tmp/\011\012\043 rw - fuse.proc  rw
"""


def test_each_field_and_escape() -> None:
    root, proc, cgroup, fuse = mounts(table=TABLE)
    assert (root.id, root.device, root.root, root.point, root.kind) == (22, "8:1", "/", "/", "ext4")
    assert root.options == ("rw", "errors=remount-ro")
    assert (proc.kind, proc.point) == ("proc", "/proc")
    assert (cgroup.root, cgroup.point) == ("/pod 1", r"/sys/fs/cgroup/a\040b")
    assert cgroup.options == ("rw", "cpu", "cpuacct")
    assert (fuse.point, fuse.kind, fuse.options) == ("/tmp/\t\n#", "fuse.proc", ("rw",))


def test_only_some_types() -> None:
    assert [mount.id for mount in mounts("proc", "cgroup", table=TABLE)] == [23, 30]
    assert mounts("xfs", table=TABLE) == []


def test_those_of_this_process() -> None:
    assert "/proc" in [mount.point for mount in mounts("proc")]
