"""Manual pages from the tables of `pyrunc.cli.options`: `python -m pyrunc.cli.man DIRECTORY`.

The pages under docs/man are what this writes; tests/unit/test_cli_man.py holds them to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyrunc import SPEC_VERSION, __version__
from pyrunc.cli.error_codes import CODES
from pyrunc.cli.help import option_text
from pyrunc.cli.options import GLOBAL, HELP
from pyrunc.cli.verbs import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from pyrunc.cli.options import Command, Option

STATUSES: Final = (
    ("0", "Success."),
    ("1", "Failure, also of the command line. One line on standard error, one entry in the log."),
    ("255", "The same for `exec`, whose process may well end with 1."),
    ("128+N", "`run`, `exec` and `restore` without --detach: signal N ended the process."),
    ("other", "`run`, `exec` and `restore` without --detach: the exit status of the process."),
    ("130", "SIGINT ended pyrunc."),
    ("141", "Nobody reads standard output any more; nothing is said."),
)
FILES: Final = (
    ("/run/pyrunc", "State of the containers of root, a directory for each."),
    ("$XDG_RUNTIME_DIR/pyrunc", "The same for an ordinary user."),
)
JSON_NOTE: Final = (
    "An entry of a json log has the keys level, msg, time and code. On failure exactly one is written, because "
    "podman reads the file as one object; warnings are left out of it unless --log-level or --debug asks for "
    "them."
)
VERSION_NOTE: Final = (
    "The first line of --version names pyrunc. Programs that look for `runc version` there, such as containerd's "
    "go-runc, find no number and go on without; the lines commit: and spec: are those that they know."
)
JOURNAL_NOTE: Final = (
    "An entry of --log journald:NAME has the fields MESSAGE, PRIORITY, SYSLOG_IDENTIFIER (the NAME), PYRUNC_LEVEL and, "
    "for an error, PYRUNC_CODE; of --log syslog:NAME the facility user, and with --log-format json the whole entry as "
    "its message."
)
CODES_NOTE: Final = (
    "The code of an error says of what kind it is, in words that stay the same in later versions."
)
NOTES: Final = (JSON_NOTE, JOURNAL_NOTE, VERSION_NOTE)


def escape(text: str) -> str:
    """`text` as roff: no control line, no escape, minus signs that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def page(name: str, summary: str, sections: Iterable[tuple[str, list[str]]]) -> str:
    """A page of section 8."""
    lines = [f'.TH {name.upper()} 8 "" "pyrunc {__version__}" "OCI runtime {SPEC_VERSION}"']
    lines += [".SH NAME", f"{escape(name)} \\- {escape(summary)}"]
    for title, body in sections:
        lines += [f".SH {title}", *body]
    return "\n".join(lines) + "\n"


def pairs(entries: Iterable[tuple[str, str]]) -> list[str]:
    """A list of terms with their explanations."""
    return [line for term, text in entries for line in (".TP", f"\\fB{escape(term)}\\fR", escape(text))]


def _options(options: Iterable[Option]) -> list[str]:
    lines = []
    for option in options:
        if option.hidden:
            continue
        value = f" \\fI{option.value}\\fR" if option.value else ""
        names = [f"\\fB{escape('--' + option.name)}\\fR{value}"]
        if option.short:
            names.append(f"\\fB{escape('-' + option.short)}\\fR{value}")
        lines += [".TP", ", ".join(names), escape(option_text(option))]
    return lines


def main_page() -> str:
    """pyrunc(8)."""
    synopsis = "\\fBpyrunc\\fR [\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]"
    also = ",\n".join(f".BR pyrunc\\-{command.name} (8)" for command in commands()).replace(",\n", " ,\n")
    return page(
        "pyrunc",
        "a container runtime of the Open Container Initiative",
        (
            ("SYNOPSIS", [synopsis]),
            ("COMMANDS", pairs((command.name, command.summary) for command in commands())),
            ("GLOBAL OPTIONS", _options(GLOBAL)),
            ("EXIT STATUS", pairs(STATUSES)),
            ("ERROR CODES", [escape(CODES_NOTE), *pairs(CODES.items())]),
            ("FILES", pairs(FILES)),
            ("NOTES", [line for note in NOTES for line in (".PP", escape(note))]),
            ("SEE ALSO", [also]),
        ),
    )


def command_page(command: Command) -> str:
    """pyrunc-COMMAND(8)."""
    synopsis = f"\\fBpyrunc {command.name}\\fR [\\fIoptions\\fR] {escape(command.arguments)}".rstrip()
    return page(
        f"pyrunc-{command.name}",
        command.summary,
        (
            ("SYNOPSIS", [synopsis]),
            ("DESCRIPTION", [escape(command.description)]),
            ("OPTIONS", _options((*command.options, HELP))),
            ("SEE ALSO", [".BR pyrunc (8)"]),
        ),
    )


def pages() -> dict[str, str]:
    """File name → text."""
    return {
        "pyrunc.8": main_page(),
        **{f"pyrunc-{entry.name}.8": command_page(entry) for entry in commands()},
    }


def main() -> None:
    """Write the pages into the directory that the first word names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        folder.joinpath(name).write_text(text)


if __name__ == "__main__":
    main()
