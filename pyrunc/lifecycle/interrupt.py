"""Being told to stop while a container is made: an error like any other, after which everything is undone."""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType, TracebackType
    from typing import Final
else:
    import _signal  # `signal` costs 5 ms for its enumerations

_NAMES: Final = {1: "SIGHUP", 2: "SIGINT", 15: "SIGTERM"}


class Interruptible:
    """While the block runs, SIGHUP, SIGINT and SIGTERM raise PyruncError in it.

    Left by an exception, the process goes on to undo what it made, and must not be disturbed: from then on the
    signals have no effect. They are caught rather than ignored, for programs that are executed (hooks) inherit
    what is ignored. Left in peace, the signals act as before.
    """

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruptible:
        for number in _NAMES:
            # What the caller ignores, such as SIGHUP under nohup(1), stays ignored.
            if _signal.getsignal(number) != _signal.SIG_IGN:
                self._before[number] = _signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            _signal.signal(number, _nothing if kind else before)  # type: ignore[arg-type]

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        for other in self._before:
            _signal.signal(other, _nothing)
        raise PyruncError(f"interrupted by {_NAMES[number]}", code="interrupted")


class Undisturbed:
    """While the block runs, the signals of `Interruptible` wait.

    For making a thing and noting that it is there to be undone: between the two it would be lost.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        # What arrived before is raised in this very call (`signal.pthread_sigmask`), so nothing is pending here.
        self._before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _NAMES)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._before)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Let the signal pass."""
