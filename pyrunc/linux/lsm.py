"""Linux security modules: which of them label processes here, and writing what is to become of the next execve(2).

Both AppArmor and SELinux take it in a file of /proc/self/attr (proc_pid_attr(5)), which only the process itself can
write, and which the kernel forgets with that execve.
"""

from __future__ import annotations

import os
from errno import ENOENT

from pyrunc.kernel.constants import (
    O_CLOEXEC,
    O_WRONLY,
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
)
from pyrunc.kernel.paths import open_how
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.linux.file_system import plan_magic
from pyrunc.plan.program import EQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Program, Register

APPARMOR: Final = "apparmor"
SELINUX: Final = "selinux"
#: The kernel takes a page at most, and cuts off the rest without a word (proc_pid_attr_write() in fs/proc/base.c).
VALUE_MAX: Final = 4000


def enabled() -> frozenset[str]:
    """Those of "apparmor" and "selinux" that are at work on this machine.

    SELinux is, as for libselinux and for runc, where selinuxfs is mounted and a policy is loaded: until then
    every process is labelled `kernel`. Engines hide selinuxfs from containers, which then shall not use it.
    """
    found = set()
    if _read("/sys/module/apparmor/parameters/enabled") == b"Y":
        found.add(APPARMOR)
    if os.path.exists("/sys/fs/selinux/enforce") and _read("/proc/self/attr/current") not in (b"", b"kernel"):
        found.add(SELINUX)
    return frozenset(found)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", 0) as file:
            return file.read(4096).strip(b"\0\n ")
    except OSError:  # no such module in this kernel
        return b""


def plan_attribute(
    program: Program, proc: Register, names: tuple[str, ...], value: bytes, *, step: str, of: str
) -> None:
    """Emit writing `value` to the first of the files `names` of /proc/self/attr that is there.

    `proc` is the procfs of `pyrunc.linux.procfs`, not what the image has at /proc: a volume mounted there would
    swallow the label, and the container would run unconfined (CVE-2019-16884, CVE-2019-19921). No mount is crossed
    below it, and what was opened is looked at before anything is written. `self` is a symbolic link of procfs.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
    how = program.data(open_how(O_WRONLY | O_CLOEXEC, 0, resolve))
    fd, magic = program.register(), program.register()
    opened, sound = program.label(), program.label()
    for name in names[:-1]:
        missing = program.label()
        program.call(
            "openat2",
            proc,
            f"self/attr/{name}",
            how,
            OPEN_HOW_SIZE,
            step=step,
            of=of,
            into=fd,
            tolerate=(ENOENT,),
            otherwise=missing,
        )
        program.jump(opened)
        program.place(missing)
    program.call("openat2", proc, f"self/attr/{names[-1]}", how, OPEN_HOW_SIZE, step=step, of=of, into=fd)
    program.place(opened)
    plan_magic(program, fd, magic, step, of)
    program.branch(magic, EQ, PROC_SUPER_MAGIC, sound)
    program.fail(0, f"{step}: what is mounted on /proc is no procfs", of)
    program.place(sound)
    program.call("write", fd, program.string(value), len(value), step=step, of=of)
    program.call("close", fd, step="close the attribute")
    program.release(fd, magic)
