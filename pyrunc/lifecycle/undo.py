"""Undoing in reverse what was made, unless everything succeeded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Undo:
    """A stack of functions, called in reverse when the `with` block is left before `keep`.

    Something is pushed as soon as it exists. Every function is called even if one fails; the failures are
    told in `failures`, so that the first error, the one that matters, stays the one that is raised.
    """

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self.failures: list[Exception] = []

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
                self.failures.append(failure)
        if self.failures and error is not None:
            error.add_note("while cleaning up: " + "; ".join(str(failure) for failure in self.failures))
