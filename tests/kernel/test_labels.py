"""Writing to /proc/self/attr with the real pyrunc-init: only ever to a procfs, past whatever is mounted on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.constants import CLONE_NEWNS, CLONE_NEWPID
from pyrunc.linux import lsm, procfs, selinux
from pyrunc.linux.mounts import filesystem
from pyrunc.plan.program import Program, Register
from tests.support import interpreter
from tests.support import program as init

MODULES = lsm.enabled()


def attribute(program: Program, proc: Register, *names: str, value: bytes = b"value") -> None:
    lsm.plan_attribute(program, proc, names, value, step="label it", of="process.selinuxLabel")


def ended(program: Program, flags: int = 0, **supplies: int) -> str:
    program.call("exit_group", 0, step="exit")
    outcome = init.run(program, flags, supplies)
    assert outcome.failure or outcome.code == 0
    return outcome.failure


def test_what_is_written_arrives() -> None:
    """In place of a label the name of the process, which every kernel takes: `self` is init, in its own procfs."""
    program, output = init.begin(), init.Output()
    attribute(program, procfs.plan_open(program), "none/of/them", "../comm", value=b"labelled")
    name = program.buffer(16)
    program.call("prctl", 16, name, 0, 0, 0, step="read the name")  # PR_GET_NAME
    program.call("write", program.inherit("out"), name, 8, step="tell it")
    assert ended(program, CLONE_NEWPID, out=output.fd) == ""
    assert output.text == "labelled"


def test_what_is_not_procfs_gets_nothing(tmp_path: Path) -> None:
    """A volume at /proc (CVE-2019-16884)."""
    (tmp_path / "self" / "attr").mkdir(parents=True)
    file = tmp_path / "self" / "attr" / "exec"
    file.touch()
    program = init.begin()
    proc = program.register()
    program.set(proc, program.inherit("proc"))
    attribute(program, proc, "exec")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert ended(program, proc=fd) == "label it: what is mounted on /proc is no procfs"
    finally:
        os.close(fd)
    assert file.read_bytes() == b""


@pytest.mark.parametrize("covered", ["/proc/self/attr/exec", "/proc/self/attr"])
def test_what_is_mounted_over_the_attribute_gets_nothing(tmp_path: Path, covered: str) -> None:
    """In the host's /proc (CVE-2019-19921); in the one of init's own there is nothing mounted."""
    trap = tmp_path / "trap"
    trap.touch()
    program = init.begin()
    program.call("mount", 0, "/", 0, 1 << 18 | 1 << 14, 0, step="private")  # MS_PRIVATE, MS_REC
    source = str(trap) if covered.endswith("exec") else str(tmp_path)
    program.call("mount", source, covered, 0, 4096, 0, step="cover it")  # MS_BIND
    proc = program.register()
    program.call("openat", -100, "/proc", os.O_PATH, 0, step="open /proc", into=proc)
    attribute(program, proc, "exec")
    assert ended(program, CLONE_NEWNS) == "label it: invalid cross-device link"
    assert trap.read_bytes() == b""


@pytest.mark.skipif(bool(MODULES), reason="this host labels processes")
def test_the_kernels_answer_where_nothing_labels() -> None:
    program = init.begin()
    attribute(program, procfs.plan_open(program), "apparmor/exec", "exec", value=b"exec none")
    assert ended(program) == "label it: invalid argument"


@pytest.mark.skipif(lsm.APPARMOR not in MODULES, reason="this host has no AppArmor")
def test_apparmor_does_not_know_every_profile() -> None:
    program = init.begin()
    attribute(program, procfs.plan_open(program), "apparmor/exec", "exec", value=b"exec pyrunc-test-none")
    assert ended(program) == "label it: no such file or directory"


def test_the_root_of_a_file_system_is_relabelled() -> None:
    """A tmpfs in place of mqueue: it keeps any security.* attribute (xattr(7)), whatever the kernel does with them."""
    label = "system_u:object_r:container_file_t:s0"
    program, output = init.begin(), init.Output()
    failures = filesystem.Failures(program)
    tree = filesystem.make(program, failures, "tmpfs", "tmpfs", [], 0, step="make it", of="")
    config: Any = {"linux": {"mountLabel": label}}
    selinux.plan_relabel(config, program, "mqueue", tree, "mount it", "mounts[0]")
    root, value = program.register(), program.buffer(256)
    program.call("openat", tree, ".", os.O_RDONLY, 0, step="open its root", into=root)
    program.call("fgetxattr", root, "security.selinux", value, 256, step="read the label")
    program.call("write", program.inherit("out"), value, len(label), step="tell it")
    failures.emit()
    assert ended(program, CLONE_NEWNS, out=output.fd) == ""
    assert output.text == label


@pytest.mark.skipif(lsm.SELINUX in MODULES, reason="this host has SELinux")
def test_the_label_of_the_mounts_reaches_the_kernel(bundle: Path) -> None:
    """Which without SELinux does not know the option: that is why `check` refuses it before."""
    config = interpreter.config_of(interpreter.PROC, interpreter.DEV, mountLabel="a_u:a_r:a_t:s0")
    outcome = interpreter.run(config, bundle)
    assert outcome.failure == "mount tmpfs on /dev" and outcome.path == "mounts[1]"
    assert "context" in outcome.detail, outcome
