"""Completion for fish: a line for each option and command, with its text."""

from __future__ import annotations

from pyrunc.cli.completion import (
    DIRECTORY,
    FILE,
    IDS,
    SIGNALS,
    forms,
    global_options,
    shown,
    signal_names,
    takes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.completion import Kind
    from pyrunc.cli.options import Command, Option

_TEXT: Final = r"""# Completion of pyrunc(8) for fish. Made by `pyrunc completion fish`.

# The words of the line so far from the command on, without options; the arguments are the options that take a value.
function __pyrunc_words
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb ""
    set -l valued @GLOBAL_VALUED@
    while set -q words[1]
        switch $words[1]
            case '--*=*' '-*=*'
            case '-*'
                if contains -- (string trim --left --chars=- -- $words[1]) $valued
                    set -e words[1]
                end
            case '*'
                echo $words[1]
                if test -z "$verb"
                    set verb $words[1]
                    set valued (__pyrunc_valued $verb)
                end
        end
        set -e words[1]
    end
end

# The options of command $argv[1] that take a value.
function __pyrunc_valued
    switch $argv[1]
@VALUED@
    end
end

# Whether no command is on the line yet.
function __pyrunc_first
    test (count (__pyrunc_words)) -eq 0
end

# Whether the command is $argv[1].
function __pyrunc_is
    set -l words (__pyrunc_words)
    test "$words[1]" = $argv[1]
end

# Whether the command is $argv[1], and its next word has the number $argv[2], from 1 on, or with a + at least that.
function __pyrunc_at
    set -l words (__pyrunc_words)
    test "$words[1]" = $argv[1]; or return
    if string match -q '*+' -- $argv[2]
        test (count $words) -ge (string trim --right --chars=+ -- $argv[2])
    else
        test (count $words) -eq $argv[2]
    end
end

# Whether one of the options $argv is on the line.
function __pyrunc_given
    for word in (commandline -opc)
        contains -- (string replace -r '=.*' '' -- $word) $argv; and return
    end
    return 1
end

function __pyrunc_ids
    set -l words (commandline -opc)
    set -l call $words[1]
    for at in (seq 2 (count $words))
        switch $words[$at]
            case '--root=*' '-root=*'
                set -a call $words[$at]
            case --root -root
                set -a call --root $words[(math $at + 1)]
        end
    end
    $call list -q 2>/dev/null
end

complete -c pyrunc -f
@LINES@
"""


def script(commands: Sequence[Command]) -> str:
    """The script."""
    lines = [_option("__pyrunc_first", option) for option in global_options()]
    valued = []
    for command in commands:
        own = shown(command.options)
        lines.append(f"complete -c pyrunc -n __pyrunc_first -a {command.name} -d {_quoted(command.summary)}")
        where = f"__pyrunc_is {command.name}" if command.everywhere else f"__pyrunc_at {command.name} 1"
        lines += [_option(where, option) for option in own]
        lines += _words(command)
        valued += (
            [f"        case {command.name}", f"            printf '%s\\n' {_valued(own)}"]
            if _valued(own)
            else []
        )
    fills = {
        "GLOBAL_VALUED": _valued(global_options()),
        "VALUED": "\n".join(valued),
        "LINES": "\n".join(lines),
    }
    text = _TEXT
    for name, value in fills.items():
        text = text.replace(f"@{name}@", value)
    return text


def _valued(options: Sequence[Option]) -> str:
    return " ".join(
        name for option in options if takes(option) for name in (option.name, option.short) if name
    )


def _option(where: str, option: Option) -> str:
    kind = takes(option)
    short = f" -s {option.short}" if option.short else ""
    value = "" if kind is None else f" {'-r' if kind == FILE else '-x'}{_offer(kind)}"
    return f"complete -c pyrunc -n {_quoted(where)} -l {option.name}{short}{value} -d {_quoted(option.help)}"


def _words(command: Command) -> list[str]:
    lines = []
    found = forms(command)
    names: list[str] = []
    for words in found:
        if words.option:
            option = next(option for option in command.options if option.name == words.option)
            names += [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    for words in found:
        given = f"; and {'' if words.option else 'not '}__pyrunc_given {' '.join(names)}" if names else ""
        for place, kind in enumerate(words.kinds):
            again = "+" if words.again and place == len(words.kinds) - 1 else ""
            if offer := _offer(kind):
                where = f"__pyrunc_at {command.name} {place + 1}{again}{given}"
                lines.append(f"complete -c pyrunc -n {_quoted(where)}{offer}")
    return lines


def _offer(kind: Kind) -> str:
    if not isinstance(kind, str):
        return f" -a {_quoted(' '.join(kind))}"
    return {
        DIRECTORY: " -a '(__fish_complete_directories)'",
        FILE: " -F",
        IDS: " -a '(__pyrunc_ids)'",
        SIGNALS: f" -a {_quoted(' '.join(signal_names()))}",
    }.get(kind, "")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
