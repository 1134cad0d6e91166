"""The errors that reach a user: one sentence each, with step, subject, the kernel's word and a remedy.

Every failure that pyrunc foresees is raised as a `PyruncError` (or a subclass) exactly once, with its
context, and printed exactly once, by `pyrunc.cli.main`. The texts follow runc's where engines match on
them (containerd, podman and docker look for lower-case fragments such as "no such file or directory").
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.validate.report import Problem


def kernel_word(number: int) -> str:
    """The kernel's text for errno `number`, in the lower-case form that engines search for."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


class PyruncError(Exception):
    """A failure with a sentence for the user.

    `message` is the whole sentence without the remedy; `remedy` (may be empty) says what to do about it.
    `code` is a word for programs that read the log, which never changes: one of `pyrunc.cli.error_codes`.
    """

    code = "failed"

    def __init__(self, message: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(PyruncError):
    """The command line cannot be understood."""

    code = "usage"


class NotFound(PyruncError):
    """No container has this id."""

    code = "not-found"


class KernelError(PyruncError):
    """A system call refused a step. `number` is its errno, `call` its name, `step` what was attempted.

    Number 0: the step's own words already say what is wrong. `detail` is more that the kernel said.
    """

    code = "kernel"

    def __init__(self, step: str, number: int, *, call: str = "", detail: str = "", remedy: str = "") -> None:
        words = [step, kernel_word(number) if number else "", detail]
        super().__init__(": ".join([word for word in words if word]), remedy=remedy)
        self.step = step
        self.number = number
        self.call = call

    @classmethod
    def of(cls, step: str, error: OSError, *, remedy: str = "") -> KernelError:
        """The `KernelError` for an `OSError` met while doing `step`."""
        return cls(step, error.errno or 0, remedy=remedy)


class Rejected(PyruncError):
    """The configuration is refused. `problems` holds every problem found, each with its JSON path."""

    code = "invalid-config"

    def __init__(self, problems: Sequence[Problem], source: str = "config.json") -> None:
        self.problems = tuple(problems)
        super().__init__(f"invalid {source}: " + "; ".join(str(problem) for problem in self.problems))
