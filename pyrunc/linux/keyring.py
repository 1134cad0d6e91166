"""Session keyring: a new one for the container, so that it cannot read the caller's keys (keyrings(7))."""

from __future__ import annotations

from errno import EDQUOT, ENOSYS, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.plan.program import Program

KEYCTL_JOIN_SESSION_KEYRING: Final = 1


def plan(container_id: str, program: Program) -> None:
    """Emit joining a new session keyring `_ses.ID`.

    Kernels without keys have nothing to protect (ENOSYS). Where an outer container forbids keyctl (EPERM)
    the caller's keyring is already that container's. The quota of keys (EDQUOT) is no reason not to start.
    """
    program.call(
        "keyctl",
        KEYCTL_JOIN_SESSION_KEYRING,
        f"_ses.{container_id}",
        step="join a new session keyring",
        tolerate=(ENOSYS, EPERM, EDQUOT),
    )
