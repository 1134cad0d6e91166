"""Completion for zsh, by its `_arguments`: an option is offered with its text."""

from __future__ import annotations

from pyrunc.cli.completion import (
    ANYTHING,
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
from pyrunc.cli.options import LIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.completion import Kind
    from pyrunc.cli.options import Command, Option

_ACTIONS: Final = {
    DIRECTORY: "_files -/",
    FILE: "_files",
    IDS: "_pyrunc_ids",
    SIGNALS: "_pyrunc_signals",
    ANYTHING: " ",
}
_TEXT: Final = r"""#compdef pyrunc
# Completion of pyrunc(8) for zsh. Made by `pyrunc completion zsh`.

_pyrunc_ids() {
    local -a ids
    ids=(${(f)"$(_call_program containers ${(q)_pyrunc_call} list -q 2>/dev/null)"})
    compadd "$@" -a ids
}

_pyrunc_signals() {
    compadd "$@" @SIGNALS@
}

_pyrunc_commands() {
    local -a commands
    commands=(
@COMMANDS@
    )
    _describe -t commands command commands
}

_pyrunc() {
    local curcontext="$curcontext" state line
    local -a _pyrunc_call
    typeset -A opt_args
    _pyrunc_call=("${(Q)words[1]}")
    _arguments -C \
@GLOBAL@
        '1:command:_pyrunc_commands' \
        '*::word:->words' && return
    [[ $state == words ]] || return 1
    [[ -z ${opt_args[--root]} ]] || _pyrunc_call+=(--root "${(Q)opt_args[--root]}")
    case $words[1] in
@CASES@
    esac
}

if [[ $funcstack[1] == _pyrunc ]]; then
    _pyrunc "$@"
else
    compdef _pyrunc pyrunc
fi
"""


def script(commands: Sequence[Command]) -> str:
    """The script."""
    listed = [f"        {_quoted(f'{entry.name}:{entry.summary}')}" for entry in commands]
    fills = {
        "SIGNALS": " ".join(signal_names()),
        "COMMANDS": "\n".join(listed),
        "GLOBAL": "\n".join(f"        {spec} \\" for spec in _specs(global_options())),
        "CASES": "\n".join(map(_case, commands)),
    }
    text = _TEXT
    for name, value in fills.items():
        text = text.replace(f"@{name}@", value)
    return text


def _case(command: Command) -> str:
    options = _specs(shown(command.options))
    lines = []
    for words in forms(command):
        head = "_arguments" if command.everywhere else "_arguments -A '-*'"
        call = [head, *options, *_words(words.kinds, words.again)]
        body = " \\\n                ".join(call)
        if words.option:
            option = next(option for option in command.options if option.name == words.option)
            given = f"-{option.short}|--{option.name}|--{option.name}=*"
            lines.append(f"            if (( ${{words[(I)({given})]}} )); then")
            lines.append(f"                {body}\n                return\n            fi")
        else:
            lines.append(f"            {body}")
    return f"        {command.name})\n" + "\n".join(lines) + "\n            ;;"


def _words(kinds: Sequence[Kind], again: bool) -> list[str]:
    found = []
    for place, kind in enumerate(kinds):
        last = again and place == len(kinds) - 1
        found.append(_quoted(f"{'*' if last else place + 1}:word:{_action(kind)}"))
    return found


def _specs(options: Sequence[Option]) -> list[str]:
    specs = []
    for option in options:
        kind = takes(option)
        names = [f"--{option.name}", f"-{option.short}"] if option.short else [f"--{option.name}"]
        text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
        for name in names:
            head = "*" if option.kind == LIST else f"({' '.join(names)})" if len(names) > 1 else ""
            value = "" if kind is None else f":{option.value.replace(':', chr(92) + ':')}:{_action(kind)}"
            equals = "=" if kind is not None and name.startswith("--") else ""
            specs.append(_quoted(f"{head}{name}{equals}[{text}]{value}"))
    return specs


def _action(kind: Kind) -> str:
    return _ACTIONS[kind] if isinstance(kind, str) else f"({' '.join(kind)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
