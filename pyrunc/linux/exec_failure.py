"""Why execve(2) failed: what the kernel's errno leaves out, read from the file inside the container's root.

Used by the runtime after init reported the failure, off the path of a container that works. The file is the
image's and hostile: it is resolved inside the root, opened only if it is a regular file, and never more than
its beginning is read. execve(2), elf(5).
"""

from __future__ import annotations

import os
from errno import E2BIG, EACCES, ELOOP, ENOENT, ENOEXEC, ENOMEM, ETXTBSY
from stat import S_ISREG
from struct import error as StructError
from struct import unpack_from

from pyrunc.kernel.paths import open_in_root, open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

#: Longest first line of a script: BINPRM_BUF_SIZE of linux/binfmts.h.
FIRST_LINE: Final = 256
#: How much is looked at: the program headers of an ELF file and the name of its loader lie in front.
BEGINNING: Final = 65536
PT_INTERP: Final = 3

#: e_machine of elf(5) for the machines that uname(2) names.
MACHINES: Final = {
    3: "i386",
    8: "mips",
    15: "parisc",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    42: "sh",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


def explain_exec_failure(root: int, paths: Sequence[str], number: int, cwd: str = "/") -> str:
    """What to add to the kernel's word for errno `number`, or "" when nothing better is known.

    `root`: a descriptor of the container's root. `paths`: from `executable.candidates`; the first that is a
    regular file is the one that was tried. `cwd`: the working directory, for a relative path.
    """
    for path in paths:
        absolute = path if path.startswith("/") else f"{cwd}/{path}"
        try:
            fd = open_regular(root, absolute)
        except OSError:
            continue
        if fd < 0:
            continue
        try:
            return _explain(root, fd, path, number)
        finally:
            os.close(fd)
    return ""


def _explain(root: int, fd: int, path: str, number: int) -> str:
    head = os.pread(fd, BEGINNING, 0)
    if number == ENOENT:
        return _missing(root, path, head)
    if number == EACCES:
        return _denied(root, fd, path, head)
    if number == ENOEXEC:
        return _no_format(path, head)
    if number == ELOOP:
        return f"{path} is a script whose interpreter is a script, and so on"
    if number == E2BIG:
        return "process.args and process.env are too long together, or one of them is"
    if number == ETXTBSY:
        return f"{path} is open for writing"
    if number == ENOMEM:
        return "is the memory limit too low?"
    return ""


def _missing(root: int, path: str, head: bytes) -> str:
    script, loader = interpreter_of(head), loader_of(head)
    if script and _mode(root, script) < 0:
        return f'{path} is a script and its interpreter "{_text(script)}" does not exist in the container'
    if script:
        return f'the interpreter "{_text(script)}" of {path} needs something that does not exist in the container'
    if loader and _mode(root, loader) < 0:
        return f'{path} needs the program loader "{_text(loader)}", which does not exist in the container'
    return ""


def _denied(root: int, fd: int, path: str, head: bytes) -> str:
    if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
        return f"{path} is on a file system mounted noexec"
    name = interpreter_of(head) or loader_of(head)
    mode = _mode(root, name) if name else -1
    if mode >= 0 and (not S_ISREG(mode) or not mode & 0o111):
        return f'"{_text(name)}", which {path} needs, is not executable'
    return ""


def _no_format(path: str, head: bytes) -> str:
    if not head:
        return f"{path} is empty"
    if head.startswith(b"\x7fELF"):
        machine = machine_of(head)
        here = os.uname().machine
        if machine and machine != here:
            return f"{path} is a program for {machine}, and this machine is {here}"
        return f"{path} is a damaged ELF file, or one that this machine cannot run"
    if head.startswith(b"#!"):
        return f'the first line of {path} names no interpreter after "#!"'
    return f'{path} is neither an ELF program nor a script that begins with "#!"'


def _mode(root: int, name: bytes) -> int:
    """st_mode of a file inside the root, or -1."""
    try:
        fd = open_in_root(root, name, os.O_PATH)
    except OSError:
        return -1
    try:
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def interpreter_of(head: bytes) -> bytes:
    """The interpreter named in the first line of a script, or b""."""
    if not head.startswith(b"#!"):
        return b""
    line = head[2:FIRST_LINE].partition(b"\n")[0].partition(b"\0")[0].strip(b" \t")
    # A carriage return stays: it is part of the name that the kernel looks for.
    return line.replace(b"\t", b" ").partition(b" ")[0]


def _byte_order(head: bytes) -> str:
    return ">" if head[5:6] == b"\x02" else "<"


def loader_of(head: bytes) -> bytes:
    """The loader that an ELF file asks for in PT_INTERP, or b""."""
    if not head.startswith(b"\x7fELF"):
        return b""
    order, wide = _byte_order(head), head[4:5] == b"\x02"
    try:
        if wide:
            (table,) = unpack_from(order + "Q", head, 32)
            size, count = unpack_from(order + "HH", head, 54)
        else:
            (table,) = unpack_from(order + "I", head, 28)
            size, count = unpack_from(order + "HH", head, 42)
        for index in range(count):
            at = table + index * size
            if unpack_from(order + "I", head, at)[0] != PT_INTERP:
                continue
            if wide:
                (offset,), (length,) = (
                    unpack_from(order + "Q", head, at + 8),
                    unpack_from(order + "Q", head, at + 32),
                )
            else:
                (offset,), (length,) = (
                    unpack_from(order + "I", head, at + 4),
                    unpack_from(order + "I", head, at + 16),
                )
            return head[offset : offset + min(length, 4096)].partition(b"\0")[0]
    except (StructError, OverflowError):
        return b""  # cut short or absurd: nothing to tell
    return b""


def machine_of(head: bytes) -> str:
    """The machine an ELF file is for, as uname(2) calls it, or ""."""
    try:
        (machine,) = unpack_from(_byte_order(head) + "H", head, 18)
    except StructError:
        return ""
    if machine == 21 and _byte_order(head) == "<":
        return "ppc64le"
    return MACHINES.get(machine, f"machine {machine}")
