"""The command line as data: what an option and a command are, and the global options.

The commands are in `pyrunc.cli.verbs`, a module for each family. Parsing (`pyrunc.cli.parse`), `--help`
(`pyrunc.cli.help`) and the man pages (`pyrunc.cli.man`) all read these tables; nothing else knows an option by name
except the code that uses its value. Names, short names and defaults are those of runc, with crun's `--config` and
`--cgroup-manager` added.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from pyrunc.log import Log

    Value = str | int | bool | list[str] | None
    Values = dict[str, Value]
    Call = Callable[[Values, Values, list[str], Log], int]

FLAG, TEXT, NUMBER, LIST = "flag", "text", "number", "list"


class Option:
    """One option. `value` is the word that stands for its value in help texts; empty for a flag.

    `many`: it may be given several times, and its value is the list of what was given. `choices`: all values that it
    can have, for completion.
    """

    __slots__ = ("choices", "default", "help", "hidden", "kind", "name", "short", "value")

    def __init__(
        self,
        name: str,
        text: str,
        short: str = "",
        value: str = "",
        default: Value = "",
        hidden: bool = False,
        many: bool = False,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = text
        self.short = short
        self.value = value
        self.hidden = hidden
        self.choices = choices
        self.kind = TEXT
        self.default = default
        if many:
            self.kind = LIST
            self.default = []
        elif not value:
            self.kind = FLAG
            self.default = None if default is None else False
        elif type(default) is int:
            self.kind = NUMBER


class Command:
    """One command: its words after the options (`least` to `most` of them), options and texts.

    `call` carries it out: it takes the values of the global options, of its own options, its words, whose number was
    checked, and the log, and returns the exit status. `everywhere`: its options may also stand after its words; not so
    where the words are a command line of another program.
    """

    __slots__ = (
        "arguments",
        "call",
        "description",
        "everywhere",
        "least",
        "most",
        "name",
        "options",
        "summary",
    )

    def __init__(
        self,
        name: str,
        summary: str,
        arguments: str,
        least: int,
        most: int,
        options: tuple[Option, ...],
        description: str,
        call: Call,
        everywhere: bool = True,
    ) -> None:
        self.name = name
        self.summary = summary
        self.arguments = arguments
        self.least = least
        self.most = most
        self.options = options
        self.description = description
        self.call = call
        self.everywhere = everywhere


HELP: Final = Option("help", "show help", "h")

GLOBAL: Final = (
    Option(
        "root",
        "directory that holds the state of containers; it should be on a tmpfs. Default: /run/pyrunc, "
        "for a caller that is not root $XDG_RUNTIME_DIR/pyrunc",
        value="DIR",
        default=None,  # not "": an empty --root is refused, not taken for the default
    ),
    Option(
        "log",
        "append log entries to the file LOG ([file:]PATH), or send them to journald:NAME or syslog:NAME, which keep "
        "them under that name, instead of standard error; errors also go to the latter",
        value="LOG",
    ),
    Option(
        "log-format",
        "how log entries look: text or json",
        value="FORMAT",
        default="text",
        choices=("text", "json"),
    ),
    Option(
        "log-level",
        "write entries up to this level: error, warning or debug. Default: warning, for a json log error",
        value="LEVEL",
        choices=("error", "warning", "debug"),
    ),
    Option("debug", "the same as --log-level debug"),
    Option(
        "systemd-cgroup",
        "make cgroups through systemd, the same as --cgroup-manager systemd",
    ),
    Option(
        "cgroup-manager",
        "who makes cgroups: cgroupfs (pyrunc itself), systemd (linux.cgroupsPath is slice:prefix:name) or disabled "
        "(there is none; limits are refused)",
        value="MANAGER",
        default="cgroupfs",
        choices=("cgroupfs", "systemd", "disabled"),
    ),
    Option(
        "rootless",
        "ignore cgroup permission errors, and use the caller's own systemd: true, false or auto",
        value="CHOICE",
        default="auto",
        choices=("auto", "true", "false"),
    ),
    HELP,
    Option("version", "print the version", "v"),
)

#: What a command that names one container takes.
ID: Final = "<container-id>"
#: As many words as one likes.
MANY: Final = 1 << 30

REGEX: Final = Option(
    "regex",
    "the words are regular expressions, and mean every container whose whole id matches one",
    "r",
)
FORMAT: Final = Option("format", "table or json", "f", "FORMAT", "table", choices=("table", "json"))
BUNDLE: Final = Option("bundle", "path of the bundle. Default: the current directory", "b", "DIR")
