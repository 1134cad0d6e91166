"""The device program of cgroup v2: eBPF of type BPF_PROG_TYPE_CGROUP_DEVICE (bpf(2), linux/bpf.h).

The kernel runs it for every mknod and open of a device in the cgroup, with type, numbers and wanted access; 1
lets pass, 0 denies. Several programs may be attached on the way to the root, and all must let pass.
"""

from __future__ import annotations

import os
from errno import EPERM
from struct import Struct, pack, unpack

from pyrunc.errors import KernelError
from pyrunc.kernel.constants import (
    BPF_CGROUP_DEVICE,
    BPF_F_ALLOW_MULTI,
    BPF_F_REPLACE,
    BPF_OBJ_GET_INFO_BY_FD,
    BPF_PROG_ATTACH,
    BPF_PROG_DETACH,
    BPF_PROG_GET_FD_BY_ID,
    BPF_PROG_LOAD,
    BPF_PROG_QUERY,
    BPF_PROG_TYPE_CGROUP_DEVICE,
)
from pyrunc.kernel.native import address, syscall
from pyrunc.linux.cgroups.devices.rules import ANY, EVERYTHING, allows_everything, rules, table
from pyrunc.linux.cgroups.files import DENIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pyrunc.linux.cgroups.devices.rules import Table

#: struct bpf_insn: code, registers (source << 4 | destination), offset, immediate
_instruction = Struct("<BBhi").pack

# Codes of the few instructions used (Documentation/bpf/standardization/instruction-set.rst).
_LOAD_WORD = 0x61
_MOVE_REGISTER, _MOVE = 0xBF, 0xB7
_AND, _SHIFT_RIGHT = 0x57, 0x77
_IF_NOT_EQUAL32, _IF_ANY_BIT = 0x56, 0x45
_EXIT = 0x95

# Registers: the result, the context (struct bpf_cgroup_dev_ctx), and what is read from it.
_RESULT, _CONTEXT, _TYPE, _ACCESS, _MAJOR, _MINOR = range(6)

#: BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_TYPE_NUMBERS = {"b": 1, "c": 2}

#: What pyrunc's programs are called: 16 bytes (BPF_OBJ_NAME_LEN), the last of them zero.
_NAME = b"pyrunc_devices\0\0"

#: How many programs may already be attached to one cgroup (the kernel's BPF_CGROUP_MAX_PROGS).
_MOST_PROGRAMS = 64


def emit(normal: Table) -> bytes:
    """The program that decides as the normal form `normal` does."""
    code = [
        _instruction(_LOAD_WORD, _CONTEXT << 4 | _TYPE, 0, 0),
        _instruction(_MOVE_REGISTER, _TYPE << 4 | _ACCESS, 0, 0),
        _instruction(_AND, _TYPE, 0, 0xFFFF),
        _instruction(_SHIFT_RIGHT, _ACCESS, 0, 16),
        _instruction(_LOAD_WORD, _CONTEXT << 4 | _MAJOR, 4, 0),
        _instruction(_LOAD_WORD, _CONTEXT << 4 | _MINOR, 8, 0),
    ]
    for (kind, major, minor), access in normal.items():
        decision = _decision(access)
        tests = [(_TYPE, _TYPE_NUMBERS[kind])]
        if major != ANY:
            tests.append((_MAJOR, major))
        if minor != ANY:
            tests.append((_MINOR, minor))
        skip = len(decision) + len(tests)
        for register, number in tests:
            skip -= 1
            # Immediates are signed; the comparison looks at 32 bits only.
            code.append(_instruction(_IF_NOT_EQUAL32, register, skip, (number ^ 1 << 31) - (1 << 31)))
        code += decision
    code += _answer(0)
    return b"".join(code)


def _answer(result: int) -> list[bytes]:
    return [_instruction(_MOVE, _RESULT, 0, result), _instruction(_EXIT, 0, 0, 0)]


def _decision(access: int) -> list[bytes]:
    """Let pass what wants nothing but `access`."""
    if access in (0, EVERYTHING):
        return _answer(access and 1)
    return [_instruction(_IF_ANY_BIT, _ACCESS, 2, EVERYTHING & ~access), *_answer(1), *_answer(0)]


def load(code: bytes) -> int:
    """Load `code` and return its descriptor. Raises OSError."""
    licence = b"Apache-2.0\0"
    attributes = pack(
        "<IIQQIIQII16s",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        address(code),
        address(licence),
        0,
        0,
        0,
        0,
        0,
        _NAME,
    )
    try:
        return syscall("bpf", BPF_PROG_LOAD, attributes, len(attributes))
    except OSError as error:
        # Before Linux 5.11 programs count against the locked memory of the loading process.
        if error.errno != EPERM:
            raise
        return _load_unlimited(attributes, error)


def _load_unlimited(attributes: bytes, first: OSError) -> int:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        raise first from None
    try:
        return syscall("bpf", BPF_PROG_LOAD, attributes, len(attributes))
    finally:
        # Init inherits the limits of this process, so they must not stay raised.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)


def attached(directory: int) -> list[int]:
    """The ids of the device programs attached to the cgroup `directory` itself. Raises OSError."""
    ids = bytearray(4 * _MOST_PROGRAMS)
    query = bytearray(pack("<IIIIQII", directory, BPF_CGROUP_DEVICE, 0, 0, address(ids), _MOST_PROGRAMS, 0))
    syscall("bpf", BPF_PROG_QUERY, query, len(query))
    count = unpack("<I", query[24:28])[0]
    return list(unpack(f"<{count}I", ids[: 4 * count]))


def apply(
    path: str, devices: Sequence[Mapping[str, Any]], fresh: bool, rootless: bool, ours: bool = False
) -> None:
    """Let the cgroup `path` use what the rules `linux.resources.devices` and the default ones allow.

    A `fresh` cgroup, just made, has no program yet; `ours` as for `attach`. `rootless` goes without where the kernel
    forbids eBPF: no device beyond the user's own can be used then. Raises KernelError.
    """
    normal = table(rules(devices))
    if fresh and allows_everything(normal):
        return
    try:
        attach(path, emit(normal), fresh, ours)
    except KernelError as error:
        if not (rootless and error.number in DENIED):
            raise


def attach(path: str, code: bytes, fresh: bool, ours: bool = False) -> None:
    """Make `code` the device program of the cgroup `path`. Raises KernelError.

    A `fresh` cgroup has none yet. Otherwise one old program is replaced in one step; of several the old ones
    are taken away after the new one is there, so that at no instant is anything let pass that should not be. `ours`:
    only those that pyrunc has attached are replaced, such as beside a program of systemd.
    """
    step = f"attach the device program to {path}"
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of(step, error) from error
    opened = [directory]
    try:
        program = load(code)
        opened.append(program)
        old = []
        for number in [] if fresh else attached(directory):
            found = _open(number)
            opened.append(found)
            if not ours or _name(found) == _NAME:
                old.append(found)
        if len(old) == 1:
            try:
                _attach(directory, program, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, old[0])
                return
            except OSError:
                # Attached without BPF_F_ALLOW_MULTI, or a kernel before 5.6: the long way, below.
                pass
        _attach(directory, program, BPF_F_ALLOW_MULTI, 0)
        for descriptor in old:
            words = pack("<IIIII", directory, descriptor, BPF_CGROUP_DEVICE, 0, 0)
            syscall("bpf", BPF_PROG_DETACH, words, len(words))
    except OSError as error:
        remedy = ""
        if error.errno == EPERM:
            remedy = "eBPF needs CAP_SYS_ADMIN or CAP_BPF outside of user namespaces: run as root"
        raise KernelError.of(step, error, remedy=remedy) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _name(program: int) -> bytes:
    """The name that the program was loaded with."""
    # struct bpf_prog_info: 64 bytes before the name
    info = bytearray(64 + len(_NAME))
    words = pack("<IIQ", program, len(info), address(info))
    syscall("bpf", BPF_OBJ_GET_INFO_BY_FD, words, len(words))
    return bytes(info[64:])


def _open(number: int) -> int:
    words = pack("<III", number, 0, 0)
    return syscall("bpf", BPF_PROG_GET_FD_BY_ID, words, len(words))


def _attach(directory: int, program: int, flags: int, replaced: int) -> None:
    words = pack("<IIIII", directory, program, BPF_CGROUP_DEVICE, flags, replaced)
    syscall("bpf", BPF_PROG_ATTACH, words, len(words))
