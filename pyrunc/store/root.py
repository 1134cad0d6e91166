"""Where the state of containers lives: /run/pyrunc, or a user's own runtime directory, or `--root`."""

from __future__ import annotations

import os

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

DEFAULT: Final = "/run/pyrunc"


def choose(given: str | None) -> tuple[str, bool]:
    """The absolute root directory, and whether it lies in the user's runtime directory.

    `given` is the value of `--root`, None without one. In the user's runtime directory the sticky bit keeps
    cleaners of stale files from it (XDG Base Directory Specification, "XDG_RUNTIME_DIR").
    """
    if given is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime.startswith("/") and _for_user():
            return os.path.join(runtime, "pyrunc"), True
        return DEFAULT, False
    if not given:
        raise PyruncError(
            "Option --root argument should not be empty", remedy="name a directory of its own", code="usage"
        )
    root = os.path.abspath(given)
    if root.strip("/") == "":
        raise PyruncError(
            "Option --root argument should not be set to /",
            remedy="name a directory of its own",
            code="usage",
        )
    return root, False


def _for_user() -> bool:
    # As runc: a root inside somebody's user namespace that does not call itself root is that somebody.
    if os.geteuid() != 0:
        return True
    if os.environ.get("USER") == "root":
        return False
    from pyrunc.kernel.procfs import in_user_namespace

    return in_user_namespace()
