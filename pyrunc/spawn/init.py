"""Starting pyrunc-init: one clone3 and one execveat of a sealed copy, with exactly the descriptors it needs."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socketpair
from _socket import socket as Socket
from errno import EACCES, EINVAL, ENOSPC, EPERM
from fcntl import fcntl

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel._border import ffi, lib
from pyrunc.kernel.constants import (
    F_ADD_SEALS,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.plan.program import Program

#: The static interpreter, beside this package.
INIT_PATH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "native", "pyrunc-init")

_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE


class Process:
    """A child of this process: `pid`, and a `pidfd` for it."""

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd


class Init(Process):
    """The process that was started, and with it the runtime's end of the conversation."""

    __slots__ = ("talk",)

    def __init__(self, pid: int, pidfd: int, talk: Socket) -> None:
        super().__init__(pid, pidfd)
        self.talk = talk


def sealed_copy() -> int:
    """A memfd with pyrunc-init that nobody can change any more.

    /proc/PID/exe of init, which the container's processes may open, is this copy and never the file on the
    host (CVE-2019-5736).
    """
    try:
        source = os.open(INIT_PATH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of(
            f"open {INIT_PATH}", error, remedy="build pyrunc with `make` or install it"
        ) from error
    try:
        image = os.read(source, 1 << 20)
    finally:
        os.close(source)
    copy = _executable_memfd()
    os.write(copy, image)
    fcntl(copy, F_ADD_SEALS, _SEALS)
    return copy


def _executable_memfd() -> int:
    """A memfd that may be executed where vm.memfd_noexec is 1; before Linux 6.3 every one may (memfd_create(2))."""
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    try:
        return os.memfd_create("pyrunc-init", flags | MFD_EXEC)
    except OSError as error:
        if error.errno == EINVAL:
            return os.memfd_create("pyrunc-init", flags)
        remedy = "set vm.memfd_noexec to 0 or 1" if error.errno == EACCES else ""
        raise KernelError.of("make a sealed copy of pyrunc-init", error, remedy=remedy) from error


def _write_program(program: Program) -> int:
    memory = os.memfd_create("pyrunc-program", MFD_CLOEXEC)
    rest = memoryview(program.encode())
    while rest:
        rest = rest[os.write(memory, rest) :]
    return memory


def spawn(program: Program, flags: int, supplies: Mapping[str, int], cgroup: int = -1) -> Init:
    """Start init with `program` in the new namespaces `flags`, in the cgroup v2 directory `cgroup`.

    `supplies` maps the names that the program inherits to descriptors of this process; stdio and the
    preserved descriptors below the program's first slot are passed as they are. Raises KernelError.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    program_slot = program.inherit("program")
    image, memory = sealed_copy(), _write_program(program)
    given = {**supplies, "talk": theirs.fileno(), "program": memory}
    sources = list(range(program.first_slot))
    for name in program.slots:
        if name.startswith("reserved-"):  # a number that init will use for its own, and nothing else may take
            given[name] = image  # sealed: nothing can be done to it
        if name not in given:
            raise PyruncError(f"no descriptor was supplied for the program's slot {name}", code="internal")
        sources.append(given[name])
    words = [ffi.new("char[]", b"pyrunc-init"), ffi.new("char[]", b"%d" % program_slot), ffi.NULL]
    request = ffi.new(
        "struct border_spawn *",
        {
            "flags": flags,
            "cgroup": cgroup,
            "executable": image,
            "talk": program.slots["talk"],
            "sources": (source_array := ffi.new("int[]", sources)),
            "count": len(sources),
            "argv": (argv := ffi.new("char *[]", words)),
        },
    )
    pid = lib.border_spawn(request)
    del source_array, argv
    theirs.close()
    os.close(image)
    os.close(memory)
    if pid < 0:
        ours.close()
        raise _failure(-pid, cgroup)
    return Init(pid, request.pidfd, ours)


def _failure(number: int, cgroup: int) -> KernelError:
    """The error for a clone3 that failed. Some errnos are of CLONE_INTO_CGROUP alone (clone(2))."""
    if cgroup >= 0:
        from pyrunc.linux.cgroups import entry

        if remedy := entry.explain(number):
            path = os.readlink(f"/proc/self/fd/{cgroup}")
            return KernelError(f"enter cgroup {path}", number, call="clone3", remedy=remedy)
    return KernelError("create the container's namespaces", number, call="clone3", remedy=_remedy(number))


def _remedy(number: int) -> str:
    if number == ENOSPC:
        return "a limit in /proc/sys/user/max_*_namespaces is reached"
    if number == EPERM:
        return "creating namespaces is not allowed to this user; rootless containers need a user namespace"
    if number == EINVAL:
        return "this kernel lacks one of the namespaces in linux.namespaces"
    return ""
