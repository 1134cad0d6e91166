"""Stage 1: what was asked (config.json as it is)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The kinds of hooks. Here, because `delete` and `start` ask for theirs before they load anything that runs one.
PRESTART: Final = "prestart"
CREATE_RUNTIME: Final = "createRuntime"
CREATE_CONTAINER: Final = "createContainer"
START_CONTAINER: Final = "startContainer"
POSTSTART: Final = "poststart"
POSTSTOP: Final = "poststop"
#: In the order of a container's life (config.md "POSIX-platform Hooks"): what `features` announces.
HOOKS: Final = (PRESTART, CREATE_RUNTIME, CREATE_CONTAINER, START_CONTAINER, POSTSTART, POSTSTOP)
