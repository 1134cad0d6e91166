"""Completion for bash: one function over three tables. It needs nothing of the package bash-completion."""

from __future__ import annotations

from pyrunc.cli.completion import forms, global_options, shown, signal_names, takes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.completion import Kind
    from pyrunc.cli.options import Command, Option

_HEAD: Final = r"""# Completion of pyrunc(8) for bash. Made by `pyrunc completion bash`.

# Sets REPLY to what the value of option $2 of command $1 is ("" before the command); fails for a flag.
_pyrunc_takes() {
    case "$1 $2" in
@TAKES@
        *) return 1 ;;
    esac
}

# Sets REPLY to the options of command $1.
_pyrunc_options() {
    case "$1" in
@OPTIONS@
        *) REPLY="" ;;
    esac
}

# Sets REPLY to what word $2 (from 0) of command $1 is; $3 are the options that were given, with blanks around.
_pyrunc_word() {
    case "$1 $2 $3" in
@WORDS@
        *) REPLY=anything ;;
    esac
}
"""
_BODY: Final = r"""
# Offers what is of kind $1 and begins with $2; the rest is the call of pyrunc with its --root.
_pyrunc_offer() {
    local kind=$1 current=$2
    shift 2
    case $kind in
        directory) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        ids) mapfile -t COMPREPLY < <(compgen -W "$("$@" list -q 2>/dev/null)" -- "$current") ;;
        signals) mapfile -t COMPREPLY < <(compgen -W "@SIGNALS@" -- "$current") ;;
        words:*) mapfile -t COMPREPLY < <(compgen -W "${kind#words:}" -- "$current") ;;
    esac
}

_pyrunc() {
    local REPLY="" word verb="" option="" given=" " current=${COMP_WORDS[COMP_CWORD]}
    local -i at count=0 only_words=0
    local -a call=("$1")
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $option && $word == "=" ]]; then
            continue
        elif [[ $option ]]; then
            [[ $verb || $option != root ]] || call+=(--root "${word/#\~\//$HOME/}")
            option=""
        elif ((only_words)) || [[ $word != -* ]]; then
            if [[ $verb ]]; then
                count+=1
                # What follows is the command line of another program.
                case $verb in @OTHERS@) return ;; esac
            else
                verb=$word
            fi
        elif [[ $word == "--" ]]; then
            only_words=1
        else
            word=${word#-}
            word=${word#-}
            given+="$word "
            if _pyrunc_takes "$verb" "$word"; then option=$word; fi
        fi
    done
    if [[ $option ]]; then
        [[ $current != "=" ]] || current=""
        _pyrunc_takes "$verb" "$option"
        _pyrunc_offer "$REPLY" "$current" "${call[@]}"
    elif [[ $current == -* ]] && ! ((only_words)); then
        _pyrunc_options "$verb"
        mapfile -t COMPREPLY < <(compgen -W "$REPLY" -- "$current")
    elif [[ -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W "@COMMANDS@" -- "$current")
    else
        _pyrunc_word "$verb" "$count" "$given"
        _pyrunc_offer "$REPLY" "$current" "${call[@]}"
    fi
}

complete -F _pyrunc pyrunc
"""


def script(commands: Sequence[Command]) -> str:
    """The script."""
    takings, options, words = _takes("", global_options()), [_options("", global_options())], []
    for command in commands:
        own = shown(command.options)
        takings += _takes(command.name, own)
        options.append(_options(command.name, own))
        words += _words(command)
    fills = {
        "TAKES": "\n".join(takings),
        "OPTIONS": "\n".join(options),
        "WORDS": "\n".join(words),
        "SIGNALS": " ".join(signal_names()),
        "OTHERS": "|".join(command.name for command in commands if not command.everywhere),
        "COMMANDS": " ".join(command.name for command in commands),
    }
    text = _HEAD + _BODY
    for name, value in fills.items():
        text = text.replace(f"@{name}@", value)
    return text


def _takes(verb: str, options: Sequence[Option]) -> list[str]:
    lines = []
    for option in options:
        kind = takes(option)
        if kind is not None:
            names = "|".join(f'"{verb} {name}"' for name in (option.name, option.short) if name)
            lines.append(f'        {names}) REPLY="{_said(kind)}" ;;')
    return lines


def _options(verb: str, options: Sequence[Option]) -> str:
    names = [f"--{option.name}" for option in options] + [
        f"-{option.short}" for option in options if option.short
    ]
    return f'        "{verb}") REPLY="{" ".join(names)}" ;;'


def _words(command: Command) -> list[str]:
    lines = []
    for words in forms(command):
        given: list[str] = []
        if words.option:
            option = next(option for option in command.options if option.name == words.option)
            given = [f"*' {name} '*" for name in (option.name, option.short) if name]
        for place, kind in enumerate(words.kinds):
            which = "*" if words.again and place == len(words.kinds) - 1 else f"{place}"
            patterns = [f'"{command.name} "{which}" "{tail}' for tail in given or ["*"]]
            lines.append(f'        {"|".join(patterns)}) REPLY="{_said(kind)}" ;;')
    return lines


def _said(kind: Kind) -> str:
    return kind if isinstance(kind, str) else f"words:{' '.join(kind)}"
