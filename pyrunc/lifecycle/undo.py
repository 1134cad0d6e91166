"""Undoing in reverse what was made, unless everything succeeded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pyrunc.log import Log


class Undo:
    """A stack of functions, called in reverse when the `with` block is left before `keep`.

    Something is pushed as soon as it exists. Every function is called even if one fails; the failures become
    warnings in `log`, so that the first error, the one that matters, stays the one that is raised.
    """

    def __init__(self, log: Log) -> None:
        self._functions: list[Callable[[], object]] = []
        self._log = log

    def push(self, function: Callable[[], object]) -> None:
        """Call `function` if the block fails."""
        self._functions.append(function)

    def keep(self) -> None:
        """All is well: undo nothing."""
        self._functions.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._functions:
            try:
                self._functions.pop()()
            except Exception as failure:  # noqa: BLE001 - nothing may keep the rest from being undone
                self._log.warning(f"left behind: {failure}")
