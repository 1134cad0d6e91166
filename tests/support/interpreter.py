"""Runs the mount phase for real: the program that the rooms compile, by pyrunc-init, in namespaces of its own.

Only the rooms of the file systems take part: no cgroup, no hooks, no credentials. The program ends in a shell
of the image that testifies on standard output. What `pyrunc create` does around it is not needed for that.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path
from typing import Any

from pyrunc.linux import devices, masking, mounts, rootfs, terminal
from pyrunc.linux.idmap import plan_root, root_ids
from pyrunc.linux.mounts import facts
from pyrunc.linux.mounts import plan as mount_plan
from pyrunc.linux.mounts.explain import explain, kernel_sentence
from pyrunc.linux.mounts.old import OldProgram
from pyrunc.linux.namespaces import new_flags
from pyrunc.plan.host import Host
from pyrunc.plan.program import TALK, Program
from pyrunc.plan.talk import hear
from pyrunc.spawn.conversation import Conversation, StepFailed
from pyrunc.spawn.init import spawn
from pyrunc.validate.report import Report

ALL = ("pid", "mount", "ipc", "uts", "network")


@dataclass
class Outcome:
    """What a run showed: the failure's sentence ("" if none), its parts, and what the shell printed."""

    failure: str = ""
    number: int = 0
    detail: str = ""
    path: str = ""
    remedy: str = ""
    output: str = ""
    status: int = 0
    console: bytes = b""
    steps: int = 0
    lines: list[str] = field(default_factory=list)


def make_image(folder: Path) -> Path:
    """A root file system with a static shell, and nothing at the usual mount points."""
    root = folder / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    os.chmod(root, 0o755)
    return root


def config_of(*mounts_: dict[str, Any], namespaces: tuple[str, ...] = ALL, **linux: Any) -> dict[str, Any]:
    """A config with these mounts and namespaces."""
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"]},
        "mounts": list(mounts_),
        "linux": {"namespaces": [{"type": kind} for kind in namespaces], **linux},
    }


PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {
    "destination": "/dev",
    "type": "tmpfs",
    "source": "tmpfs",
    "options": ["nosuid", "strictatime", "mode=755"],
}
PTS = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}
SYS = {
    "destination": "/sys",
    "type": "sysfs",
    "source": "sysfs",
    "options": ["nosuid", "noexec", "nodev", "ro"],
}


def host_of(config: Any, bundle: Path, no_pivot: bool = False) -> Host:
    """The facts, as `prepare` gathers them."""
    host = Host(os.geteuid(), os.getegid(), os.geteuid() != 0, {})
    facts.gather(host, config, str(bundle), no_pivot)
    return host


def problems(config: Any, host: Host) -> list[str]:
    """What the rooms' checks object to."""
    report = Report()
    for room in (rootfs, mounts, devices, masking, terminal):
        room.check(config, host, report)
    return [str(problem) for problem in report.problems]


def compile_root(config: Any, host: Host, script: str) -> Program:
    """The mount phase in its order, ending in `script`, run by the image's shell."""
    program = Program(0)
    if host.old_mounts or host.data_pages:
        program = OldProgram(0, root_ids(config), translating=host.old_mounts)
    for name in ("stdin", "stdout", "stderr"):
        program.inherit(name)
    program.set(TALK, program.inherit("talk"))
    hear(program, "wait for the id maps")
    root = rootfs.plan_enter(config, host, program)
    sources = mount_plan.plan_sources(config, host, program)
    plan_root(config, program)
    late = mount_plan.plan(config, host, program, root, sources)
    devices.plan(config, host, program, root)
    slave = terminal.plan_console(config, host, program, root)
    rootfs.plan_switch(config, host, program, root)
    devices.plan_stdio(config, host, program)
    rootfs.plan_finish(config, host, program)
    mount_plan.plan_late(program, late)
    masking.plan(config, host, program)
    if slave is not None:
        program.call("setsid", step="start a session")
        terminal.plan_attach(config, host, program, slave)
    argv = program.strings(["/bin/busybox", "sh", "-c", script])
    envp = program.strings(["PATH=/bin"])
    program.call("execve", "/bin/busybox", argv, envp, step="execute the shell")
    return program


def run(config: Any, bundle: Path, script: str = "true", *, no_pivot: bool = False) -> Outcome:
    """Check, compile and run; a check that objects is an AssertionError."""
    host = host_of(config, bundle, no_pivot)
    assert problems(config, host) == []
    return execute(config, compile_root(config, host, script))


def execute(config: Any, program: Program, stdin: int | None = None) -> Outcome:
    """Run a compiled program in new namespaces and collect what it says."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    source = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC) if stdin is None else stdin
    outcome = Outcome(steps=len(program))
    init = spawn(program, new_flags(config), {"stdin": source, "stdout": writer, "stderr": 2})
    os.close(writer)
    talk = Conversation(init.talk, program.text)
    master = -1
    try:
        for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
            maps = config["linux"].get(key) or ()
            lines = [f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in maps]
            if lines:
                Path(f"/proc/{init.pid}/{name}").write_text("".join(lines))
        talk.go()
        message = talk.hear()
        if message is not None:
            master = message.descriptor
    except StepFailed as error:
        outcome.failure, outcome.path, outcome.number = error.step, error.path, error.number
        outcome.detail = kernel_sentence(error.detail)
        outcome.remedy = explain(error.path, config, error.number)
    if master >= 0:
        outcome.console = _read_all(master)
        os.close(master)
        try:
            talk.hear()
        except StepFailed as error:
            outcome.failure, outcome.path, outcome.number = error.step, error.path, error.number
    outcome.output = _read_all(reader).decode()
    outcome.lines = outcome.output.splitlines()
    _, status = os.waitpid(init.pid, 0)
    outcome.status = os.waitstatus_to_exitcode(status)
    for descriptor in (reader, init.pidfd, *([source] if stdin is None else [])):
        os.close(descriptor)
    talk.close()
    return outcome


def _read_all(descriptor: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError as error:
            if error.errno != EIO:  # the last slave of the pty is closed
                raise
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
