"""Gathering every problem of a configuration before refusing it."""

from __future__ import annotations

#: A hostile file may hold millions of mistakes; nobody reads more than these.
PROBLEM_LIMIT = 100


def member(path: str, name: str) -> str:
    """The JSON path of the property `name` of the object at `path`: `linux.sysctl`, `annotations["a.b"]`."""
    if len(name) > 80:
        name = name[:79] + "…"
    if name.isidentifier():
        return f"{path}.{name}" if path else name
    from pyrunc.config.writer import quote

    return f"{path}[{quote(name)}]"


class Problem:
    """One thing wrong with the configuration: its JSON path, what is wrong, and what to do."""

    __slots__ = ("path", "remedy", "text")

    def __init__(self, path: str, text: str, remedy: str = "") -> None:
        self.path = path
        self.text = text
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.text} ({self.remedy})" if self.remedy else f"{where}{self.text}"


class Report:
    """Problems (they refuse the configuration) and warnings (they are logged) in the order found."""

    __slots__ = ("problems", "warnings")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, path: str, text: str, remedy: str = "") -> None:
        """Record a problem at the JSON path `path`, such as `mounts[3].destination`."""
        self.problems.append(Problem(path, text, remedy))

    def warn(self, path: str, text: str, remedy: str = "") -> None:
        """Record something odd that does not stop the container."""
        self.warnings.append(Problem(path, text, remedy))
