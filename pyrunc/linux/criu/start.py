"""Starting criu: a program of pyrunc-init that ends in `criu swrk`.

A restore runs in a mount namespace of its own. criu wants the root file system as a mount, whose parent nothing
covers: it is bound on a directory of the state directory, and nobody else sees that, also where the runtime is killed.
A session keyring of its own too, which the container inherits: criu restores none, and without it the container would
have its caller's (`linux.keyring`).

criu opens the directories that it is told of as /proc/PID/fd/N of the process that made its socket pair. So the program
makes that itself, and opens them itself, in the mount namespace in which criu is going to work.
"""

from __future__ import annotations

import os

from pyrunc.kernel.constants import (
    AF_UNIX,
    AT_FDCWD,
    CLOSE_RANGE_CLOEXEC,
    MS_BIND,
    MS_REC,
    MS_SLAVE,
    O_CLOEXEC,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
)
from pyrunc.linux import keyring as keyrings
from pyrunc.linux.executable import DEFAULT_PATH
from pyrunc.plan.program import TALK, Program
from pyrunc.plan.talk import SAY_CRIU, give

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.manager import Manager

#: The slots of the caller's stdio, which a restore puts in place of the container's former one.
STDIO: Final = ("stdin", "stdout", "stderr")
#: The slot of the file that is criu's own stdout and stderr.
OUTPUT: Final = "output"
#: The slots of the directories.
IMAGES: Final = "reserved-images"
WORK: Final = "reserved-work"
_ROOT: Final = "reserved-root"
_SOCKET: Final = "reserved-swrk"
#: fcntl.h
_F_SETFD: Final = 2


def find() -> str:
    """The absolute path of criu, looked up in PATH as runc does; "" where there is none."""
    for directory in os.environ.get("PATH", DEFAULT_PATH).split(":"):
        path = os.path.join(directory, "criu")
        # Nothing relative: who runs a checkpoint as root need not know what is in the working directory.
        if path.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


class Surroundings:
    """What criu gets besides its socket, and what is done before it is started.

    `images`, `work`: its directories. `kept`: names of the other descriptors that it is to have. `root`: the root file
    system, to be bound on `point`; "" for none of both. `keyring`: the name of a new session keyring, "" for the
    caller's. `config`: whose that is. `manager`: of the cgroup that criu starts in; None to stay in the caller's.
    """

    __slots__ = ("config", "images", "kept", "keyring", "manager", "point", "root", "work")

    def __init__(
        self,
        images: str,
        work: str,
        kept: Sequence[str] = (),
        root: str = "",
        point: str = "",
        keyring: str = "",
        config: Config | None = None,
        manager: Manager | None = None,
    ) -> None:
        self.images = images
        self.work = work
        self.kept = kept
        self.root = root
        self.point = point
        self.keyring = keyring
        self.config = config
        self.manager = manager


def plan(path: str, environment: Sequence[bytes], around: Surroundings) -> Program:
    """The program that becomes criu. Its descriptors: `IMAGES`, `WORK`, `STDIO` and `around.kept`, by their slots."""
    program = Program(3)
    program.set(TALK, program.inherit("talk"))
    if around.manager is not None:
        around.manager.plan_entry(program)
    if around.keyring:
        assert around.config is not None
        keyrings.plan(around.config, around.keyring, program)
    if around.root:
        _plan_root(program, around.root, around.point)
    _plan_directory(program, around.images, IMAGES)
    _plan_directory(program, around.work, WORK)
    _plan_socket(program)
    # Its stdin stays the caller's: --shell-job means that terminal.
    for number in (1, 2):
        program.call("dup3", program.inherit(OUTPUT), number, 0, step="let criu write to a file of its own")
    program.call("close_range", 3, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC, step="close the runtime's descriptors")
    for name in (_SOCKET, IMAGES, WORK, *STDIO, *around.kept):
        program.call("fcntl", program.inherit(name), _F_SETFD, 0, step="keep a descriptor for criu")
    words = program.strings(["criu", "swrk", str(program.inherit(_SOCKET))])
    program.call("execve", path, words, program.strings(environment), step=f"execute {path}")
    return program


def _plan_root(program: Program, root: str, point: str) -> None:
    """Emit binding the root file system on `point`, by a descriptor: the last component must be no link meanwhile."""
    # Not private: where the host's root is shared, the container's is its slave, and criu takes that from this one.
    program.call(
        "mount", 0, "/", 0, MS_REC | MS_SLAVE, 0, step="keep the mounts of the restore from the host"
    )
    _plan_directory(program, root, _ROOT, O_PATH | O_NOFOLLOW)
    source = f"/proc/self/fd/{program.inherit(_ROOT)}"
    program.call("mount", source, point, 0, MS_BIND | MS_REC, 0, step=f"bind the root {root} for criu")


def _plan_directory(program: Program, path: str, slot: str, more: int = 0) -> None:
    """Emit opening the directory `path` as the descriptor with the number of `slot`."""
    opened = program.register()
    flags = O_DIRECTORY | O_CLOEXEC | more
    program.call("openat", AT_FDCWD, path, flags, step=f"open {path} for criu", into=opened)
    program.call("dup3", opened, program.inherit(slot), O_CLOEXEC, step="number its descriptor")
    program.release(opened)


def _plan_socket(program: Program) -> None:
    """Emit making criu's socket pair, and handing the runtime its end."""
    pair, end = program.buffer(8), program.register()
    kind = SOCK_SEQPACKET | SOCK_CLOEXEC
    program.call("socketpair", AF_UNIX, kind, 0, pair, step="make the socket pair for criu")
    program.load(end, pair, 4)
    give(program, end, SAY_CRIU, 0, step="hand over the socket for criu", of="")
    program.load(end, pair + 4, 4)
    program.call("dup3", end, program.inherit(_SOCKET), O_CLOEXEC, step="number criu's socket")
    program.release(end)
