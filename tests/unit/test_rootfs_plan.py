"""The text of the program for root, mounts, devices, masks and terminal: order, and what each costs."""

from __future__ import annotations

from typing import Any

from pyrunc.linux import devices, masking, rootfs, terminal
from pyrunc.linux.mounts import plan as mounts
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report


def host_of(**sources: int) -> Host:
    host = Host(0, 0, False, {f"/{name}": mode for name, mode in sources.items()})
    host.root = host.root_real = "/bundle/rootfs"
    host.bundle = host.bundle_real = "/bundle"
    return host


def config_of(*listed: dict[str, Any], kinds: tuple[str, ...] = ("mount",), **linux: Any) -> Any:
    return {
        "root": {"path": "rootfs"},
        "process": {},
        "mounts": list(listed),
        "linux": {"namespaces": [{"type": kind} for kind in kinds], **linux},
    }


def names(program: Program) -> list[str]:
    return [name for name, _ in program.calls]


def test_the_root_is_cut_off_before_anything_is_mounted() -> None:
    program = Program()
    rootfs.plan_enter(config_of(), host_of(), program)
    assert names(program) == [
        "umask",
        "mount_setattr",
        "openat",
        "open_tree",
        "move_mount",
        "close",
    ]
    program.encode()


def test_with_shared_the_parent_becomes_private_before_the_root_is_mounted() -> None:
    program = Program()
    rootfs.plan_enter(config_of(rootfsPropagation="shared"), host_of(), program)
    called = names(program)
    tried = [arguments[1] for name, arguments in program.calls if name == "mount_setattr"]
    assert tried == ["/bundle/rootfs", "/bundle", "/", ""]
    assert called.index("open_tree") > max(
        index
        for index, (name, arguments) in enumerate(program.calls)
        if name == "mount_setattr" and arguments[1]
    )
    program.encode()


def test_without_mounts_the_root_is_only_opened() -> None:
    program = Program()
    root = rootfs.plan_enter(config_of(kinds=()), host_of(), program)
    rootfs.plan_switch(config_of(kinds=()), host_of(), program, root)
    assert names(program) == ["umask", "openat", "fchdir", "chroot", "close", "chdir"]


def test_the_switch() -> None:
    program = Program()
    host = host_of()
    root = rootfs.plan_enter(config_of(), host, program)
    start = len(program)
    rootfs.plan_switch(config_of(), host, program, root)
    assert names(program)[start:] == ["fchdir", "pivot_root", "umount2", "close", "chdir"]
    host.no_pivot = True
    host.pseudo_mounts = ("/proc",)
    start = len(program)
    rootfs.plan_switch(config_of(), host, program, root)
    called = names(program)[start:]
    assert "pivot_root" not in called
    assert called[:2] == ["mount_setattr", "umount2"], "the host's procfs first"
    assert called[-5:] == ["fchdir", "move_mount", "chroot", "close", "chdir"]


def test_read_only_comes_last() -> None:
    config = config_of(rootfsPropagation="rslave")
    config["root"]["readonly"] = True
    program = Program()
    rootfs.plan_finish(config, host_of(), program)
    assert [step for step, _ in program.texts] == ["make / rslave", "make / read-only"]


def test_a_bind_mount_takes_seven_calls_and_no_path_twice() -> None:
    listed = [
        {"destination": f"/m/{index}", "source": "/src", "options": ["rbind", "ro", "private"]}
        for index in range(3)
    ]
    program = Program()
    root = program.register()
    mounts.plan(config_of(*listed), host_of(src=0o40755), program, root)
    called = names(program)
    first = called.index("open_tree")
    one = ["mkdirat", "openat2", "open_tree", "mount_setattr", "move_mount", "close", "close"]
    assert called[first - 2 :][: len(one) * 3] == one * 3
    assert called[-1] == "close", "the shared directory"
    program.encode()


def test_every_step_of_a_mount_names_it() -> None:
    listed: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/t", "type": "tmpfs", "options": ["ro"]},
        {"destination": "/f", "source": "/src", "options": ["bind"]},
    ]
    program = Program()
    late = mounts.plan(config_of(*listed), host_of(src=0o100644), program, program.register())
    mounts.plan_late(program, late)
    program.encode()
    for (name, _), (step, of) in zip(program.calls, program.texts, strict=True):
        if name not in ("close", "read", "branch", "set", "load", "store", "jump"):
            assert step and of.startswith("mounts["), (name, step)
    assert [step for _, step, _ in late] == ["make /t read-only"]


def test_registers_are_given_back() -> None:
    listed = [{"destination": f"/t{index}", "type": "tmpfs", "options": ["ro"]} for index in range(100)]
    listed += [
        {"destination": f"/{index}/a/b", "source": "/src", "options": ["bind"]} for index in range(100)
    ]
    config = config_of(
        *listed, maskedPaths=[f"/m{index}" for index in range(500)], readonlyPaths=["/r"] * 100
    )
    config["process"] = {"terminal": True, "consoleSize": {"height": 1, "width": 2}}
    program = Program()
    host = host_of(src=0o40755)
    before = len(program._free)
    root = rootfs.plan_enter(config, host, program)
    mounts.plan_late(program, mounts.plan(config, host, program, root))
    devices.plan(config, host, program, root)
    slave = terminal.plan_console(config, host, program, root)
    rootfs.plan_switch(config, host, program, root)
    devices.plan_stdio(config, host, program)
    rootfs.plan_finish(config, host, program)
    masking.plan(config, host, program)
    terminal.plan_attach(config, host, program, slave)
    assert len(program._free) == before - 1, "all but the root's"
    assert len(set(program._free)) == len(program._free)
    program.encode()


def test_devices_in_a_user_namespace_are_bound_and_never_chowned() -> None:
    device = {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "uid": 5}
    program = Program()
    devices.plan(config_of(kinds=("mount", "user"), devices=[device]), host_of(), program, program.register())
    called = names(program)
    assert called.count("open_tree") == 7
    assert not {"fchownat", "fchmodat", "fchown"} & set(called)
    rootless = host_of()
    rootless.rootless = True
    program = Program()
    devices.plan(config_of(devices=[device]), rootless, program, program.register())
    assert names(program).count("open_tree") == 7


def test_device_rules() -> None:
    listed = [
        {"type": "c", "path": "dev/x", "major": 1, "minor": 1},
        {"type": "c", "path": "/dev/x", "major": 1},
        {"type": "b", "path": "/dev/./x", "major": 5000, "minor": -1},
        {"type": "p", "path": "/dev/fifo"},
        {"type": "q", "path": "/dev/q"},
        {"type": "p", "path": "/"},
        {"type": "p", "path": "/a\0"},
        {"type": "p", "path": "/own", "uid": 0xFFFF_FFFF},
    ]
    report = Report()
    devices.check(config_of(devices=listed), host_of(), report)
    assert [problem.path for problem in report.problems] == [
        "linux.devices[0].path",
        "linux.devices[1].path",
        "linux.devices[1].minor",
        "linux.devices[2].path",
        "linux.devices[2].major",
        "linux.devices[2].minor",
        "linux.devices[4].type",
        "linux.devices[5].path",
        "linux.devices[6].path",
        "linux.devices[7].uid",
    ]


def test_sources_are_opened_early_in_a_user_namespace_only() -> None:
    mount = {"destination": "/m", "source": "/src", "options": ["bind"]}
    program = Program()
    assert mounts.plan_sources(config_of(mount), host_of(src=0o40755), program) == {}
    maps = {f"{kind}Mappings": [{"containerID": 0, "hostID": 1000, "size": 1}] for kind in ("uid", "gid")}
    user = config_of(mount, kinds=("mount", "user"), **maps)
    opened = mounts.plan_sources(user, host_of(src=0o40755), program)
    assert list(opened) == [0] and names(program) == ["open_tree", "store"]
    program = Program()
    mounts.plan(user, host_of(src=0o40755), program, program.register(), opened)
    assert "open_tree" not in names(program)
    rootless = host_of(src=0o40755)
    rootless.rootless, rootless.euid = True, 1000
    assert mounts.plan_sources(user, rootless, Program()) == {}, "init keeps the uid that it has"
    rootless.euid = 1001
    assert list(mounts.plan_sources(user, rootless, Program())) == [0]
