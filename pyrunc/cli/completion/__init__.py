"""Shell completion, made from the tables of the command line: `pyrunc completion SHELL`.

Here is what all shells have to know: which options there are, and what stands in the place of a value or a word. A
module for each shell says it in that shell's language. `make install` puts the three scripts where the shells look.
"""

from __future__ import annotations

from pyrunc.cli.options import FLAG, GLOBAL, HELP, MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.options import Command, Option

SHELLS: Final = ("bash", "zsh", "fish")

#: What may stand somewhere: a directory, any file, the ids of containers, signals, or anything (nothing is offered). A
#: tuple of words stands for itself.
DIRECTORY, FILE, IDS, SIGNALS, ANYTHING = "directory", "file", "ids", "signals", "anything"
if TYPE_CHECKING:
    Kind = str | tuple[str, ...]

_OF_WORDS: Final[dict[str, str]] = {
    "DIR": DIRECTORY,
    "FILE": FILE,
    "LOG": FILE,
    "SOCKET": FILE,
    "SIGNAL": SIGNALS,
    "<container-id>": IDS,
    "<file>": FILE,
    "signal": SIGNALS,
}


def script(shell: str) -> str:
    """The completion script for `shell`, one of `SHELLS`."""
    from pyrunc.cli.completion import bash, fish, zsh
    from pyrunc.cli.verbs import commands

    maker = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}[shell]
    return maker(commands())


def shown(options: Sequence[Option]) -> list[Option]:
    """The options to offer."""
    return [option for option in (*options, HELP) if not option.hidden]


def global_options() -> list[Option]:
    """The options to offer before the command."""
    return [option for option in GLOBAL if not option.hidden]


def takes(option: Option) -> Kind | None:
    """What the value of `option` is; None for a flag."""
    if option.kind == FLAG:
        return None
    return option.choices or _OF_WORDS.get(option.value, ANYTHING)


class Words:
    """The words of a command: what each is, and whether the last may come again.

    `option`: where it is given, these words are meant; "" for those of the command without.
    """

    __slots__ = ("again", "kinds", "option")

    def __init__(self, text: str, most: int) -> None:
        words = text.split()
        self.option = ""
        if words and words[0].startswith("--"):
            self.option = words[0][2:]
            words = words[2:]
        self.again = most == MANY and bool(words) and words[-1].strip("[]").endswith("...")
        self.kinds = [_kind(word.strip("[]").removesuffix("...")) for word in words]


def _kind(word: str) -> Kind:
    return tuple(word.split("|")) if "|" in word else _OF_WORDS.get(word, ANYTHING)


def forms(command: Command) -> list[Words]:
    """The forms in which the words of `command` come, the one without an option last."""
    found = [Words(text, command.most) for text in command.arguments.split(" | ")]
    return sorted(found, key=lambda words: not words.option)


def signal_names() -> list[str]:
    """The names of the signals, without SIG."""
    from signal import Signals

    return [signal.name.removeprefix("SIG") for signal in Signals if signal.name[3:6] != "RTM"]
