"""One verb on several containers: whom a pattern means, and one error for all that went wrong.

`kill`, `delete` and `list` take several ids, and with --regex patterns in place of ids.
"""

from __future__ import annotations

from pyrunc.errors import NotFound, PyruncError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.store.store import Store


def named(store: Store, words: Sequence[str], pattern: bool) -> list[str]:
    """The ids that `words` mean, each once: the words themselves, or with `pattern` what is there and matches one.

    A pattern is a regular expression of Python's `re` and has to match the whole id: "web" does not mean "web-2".
    """
    if not pattern:
        return list(dict.fromkeys(words))
    import re

    patterns = []
    for word in words:
        try:
            patterns.append(re.compile(word))
        except re.error as error:
            raise UsageError(f'invalid pattern "{word}": {error}') from None
    return [container_id for container_id in store.ids() if any(p.fullmatch(container_id) for p in patterns)]


def nobody(words: Sequence[str]) -> NotFound:
    """The error for patterns that match no id."""
    return NotFound(f'container does not exist: no id matches "{" ".join(words)}"')


def for_each(container_ids: Sequence[str], act: Callable[[str], None]) -> None:
    """Do `act` for each of `container_ids`; where one fails the others are done all the same.

    The error for a single id is raised as it is; for several see `joined`.
    """
    failures: list[tuple[str, PyruncError]] = []
    for container_id in container_ids:
        try:
            act(container_id)
        except PyruncError as error:
            if len(container_ids) == 1:
                raise
            failures.append((container_id, error))
    if failures:
        raise joined(failures, len(container_ids)) from failures[0][1]


def joined(failures: Sequence[tuple[str, PyruncError]], tried: int) -> PyruncError:
    """One error for all `failures` (id, error) of `tried` containers: callers read a single entry of the log.

    Its code is that of the failures where they have the same, else "several".
    """
    codes = {error.code for _, error in failures}
    text = "; ".join([f"{container_id}: {error}" for container_id, error in failures])
    return PyruncError(
        f"{len(failures)} of {tried} containers failed: {text}",
        code=codes.pop() if len(codes) == 1 else "several",
    )
