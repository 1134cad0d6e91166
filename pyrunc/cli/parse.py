"""Parsing of the command line with the habits of Go programs, which all callers have.

`--flag value`, `--flag=value` and the same with one dash; a flag without a value may be given as
`--flag=false`; of a repeated option the last counts, or all where it is a list; options of a command may stand
before and after its words (conmon puts the id last, people do not); `--` ends them. Not argparse: it costs 8.5 ms
and has other texts than the ones that callers search for.
"""

from __future__ import annotations

from pyrunc.cli.options import FLAG, GLOBAL, HELP, LIST, TEXT
from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.options import Command, Option, Value, Values

_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")


def boolean(text: str) -> bool | None:
    """The truth value that Go's strconv.ParseBool reads in `text`; None if it reads none."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def defaults(options: Sequence[Option]) -> dict[str, Value]:
    """The values of options that are not given."""
    return {option.name: [] if option.kind == LIST else option.default for option in options}


def texts(values: Values, name: str) -> list[str]:
    """What was given for an option that may be given several times."""
    given = values[name]
    assert isinstance(given, list)
    return given


def number(values: Values, name: str) -> int:
    """The value of an option that is a number."""
    given = values[name]
    assert isinstance(given, int)
    return given


def parse_global(arguments: Sequence[str], values: dict[str, Value]) -> list[str]:
    """Put the global options into `values`; returns the rest, from the name of the command on.

    After a UsageError `values` holds what was understood before it, so that the log can be found.
    """
    return _parse(arguments, GLOBAL, values, False)


def parse_command(command: Command, arguments: Sequence[str], values: dict[str, Value]) -> list[str]:
    """Put the options of `command` into `values`; returns its words. The number of words is checked."""
    words = _parse(arguments, (*command.options, HELP), values, command.everywhere)
    if not values["help"]:
        _check_count(command, len(words))
    return words


def _check_count(command: Command, count: int) -> None:
    if command.least <= count <= command.most:
        return
    if command.least == command.most:
        need = f"exactly {command.least}"
    elif count < command.least:
        need = f"a minimum of {command.least}"
    else:
        need = f"a maximum of {command.most}"
    raise UsageError(f'pyrunc: "{command.name}" requires {need} argument(s)')


def _parse(
    arguments: Sequence[str], options: Sequence[Option], values: dict[str, Value], everywhere: bool
) -> list[str]:
    table: dict[str, Option] = {}
    for option in options:
        table[option.name] = option
        if option.short:
            table[option.short] = option
    words: list[str] = []
    index, count = 0, len(arguments)
    while index < count:
        argument = arguments[index]
        index += 1
        if argument == "--":
            words += arguments[index:]
            break
        if argument[:1] != "-" or argument == "-":
            words.append(argument)
            if everywhere:
                continue
            words += arguments[index:]
            break
        name, given, text = argument[2 if argument[1] == "-" else 1 :].partition("=")
        found = table.get(name)
        if found is None:
            raise _unknown(argument, name)
        if found.kind == FLAG:
            values[found.name] = _flag(name, text) if given else True
            continue
        if not given:
            if index == count:
                raise UsageError(f"flag needs an argument: -{name}")
            text = arguments[index]
            index += 1
        if found.kind == LIST:
            values[found.name] = [*texts(values, found.name), text]
        else:
            values[found.name] = text if found.kind == TEXT else _number(name, text)
    return words


def _unknown(argument: str, name: str) -> UsageError:
    if not name or name[0] in "-=":
        return UsageError(f"bad flag syntax: {argument}")
    remedy = ""
    if any(name == option.name for option in GLOBAL):
        remedy = "it is a global option: write it before the command"
    return UsageError(f"flag provided but not defined: -{name}", remedy=remedy)


def _flag(name: str, text: str) -> bool:
    value = boolean(text)
    if value is None:
        raise UsageError(f'invalid boolean value "{text}" for -{name}: parse error')
    return value


def _number(name: str, text: str) -> int:
    # isascii: str.isdigit takes digits of every script, and int() reads spaces and underscores.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f'invalid value "{text}" for flag -{name}: not a number of 0 or more')
    return int(text)
