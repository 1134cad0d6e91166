"""Session keyring: a new one for the container, so that it cannot read the caller's keys (keyrings(7), keyctl(2))."""

from __future__ import annotations

import os
from errno import ENOSYS, EPERM

from pyrunc.linux.namespaces import has
from pyrunc.plan.program import LT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.program import Program

#: linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING: Final = 1
KEYCTL_SETPERM: Final = 5

#: What the kernel gives a new session keyring: its possessor everything, its owner to view, read and link it.
NEW: Final = 0x3F13_0000
#: KEY_USR_SEARCH: without it nobody, not even its owner, finds the keyring again by its name to join it.
OWNER_MAY_SEARCH: Final = 0x0008_0000
#: KEY_OTH_SEARCH: in a user namespace the owner's id need not be that of whoever joins later; where it is, the owner's
#: permissions are those that count. Names are known only within the user namespace.
OTHERS_MAY_SEARCH: Final = 0x0000_0008


def new_name(container_id: str) -> str:
    """A name for the container's keyring that nobody has given to one before.

    keyctl(2) joins what has the name already and may be searched, whoever made it: of a name that can be guessed an
    ordinary user of the host, or another container, could have made a keyring beforehand, to read the container's keys.
    """
    return f"_ses.{container_id}.{os.urandom(8).hex()}"


def plan(config: Config, name: str, program: Program) -> None:
    """Emit joining a session keyring `name` of the container's own, open to whoever joins the container later.

    Kernels without keys have nothing to protect (ENOSYS). Where an outer container forbids keyctl (EPERM) the
    caller's keyring is already that container's, and is out of reach. Anything else is a failure, EDQUOT too: the
    container would keep the caller's keys.
    """
    keyring = program.register()
    without = program.label()
    program.call(
        "keyctl",
        KEYCTL_JOIN_SESSION_KEYRING,
        name,
        step="join a new session keyring",
        into=keyring,
        tolerate=(ENOSYS, EPERM),
    )
    program.branch(keyring, LT, 0, without, "there are no keys to protect")
    permissions = NEW | OWNER_MAY_SEARCH | (OTHERS_MAY_SEARCH if has(config, "user") else 0)
    program.call("keyctl", KEYCTL_SETPERM, keyring, permissions, step="let the session keyring be joined")
    program.place(without)
    program.release(keyring)


def plan_join(name: str, program: Program) -> None:
    """Emit joining the container's session keyring `name`, for a process that joins the container.

    In the container's user namespace: names are known only within one. Where the keyring has gone with the last process
    that used it, this makes a new one: the caller's keys stay out of reach in any case.
    """
    program.call(
        "keyctl",
        KEYCTL_JOIN_SESSION_KEYRING,
        name,
        step="join the container's session keyring",
        tolerate=(ENOSYS, EPERM),
    )
