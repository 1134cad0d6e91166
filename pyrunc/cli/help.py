"""`--help` and `--version`, rendered from the tables of `pyrunc.cli.options`."""

from __future__ import annotations

from pyrunc import SPEC_VERSION, __version__
from pyrunc.cli.options import GLOBAL, HELP, NUMBER
from pyrunc.cli.verbs import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.cli.options import Command, Option

WIDTH: Final = 100


def version_text() -> str:
    """What `--version` prints: three parsers (containerd, docker, podman) read these lines."""
    commit, libseccomp = build_facts()
    lines = [f"pyrunc version {__version__}", f"commit: {commit}", f"spec: {SPEC_VERSION}"]
    if libseccomp:
        lines.append(f"libseccomp: {libseccomp}")
    return "\n".join(lines) + "\n"


def build_facts() -> tuple[str, str]:
    """The commit this was built from and the version of libseccomp then; see `pyrunc.cli.build`."""
    try:
        from pyrunc.cli._built import COMMIT, LIBSECCOMP  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # run from a tree that was never built
        return "unknown", ""
    return COMMIT, LIBSECCOMP


def global_help() -> str:
    """The help of the whole program."""
    known = commands()
    width = max(len(command.name) for command in known)
    lines = [f"   {command.name.ljust(width)}  {command.summary}" for command in known]
    return "\n".join(
        (
            "NAME:",
            "   pyrunc - a container runtime of the Open Container Initiative",
            "",
            "USAGE:",
            "   pyrunc [global options] command [command options] [arguments...]",
            "",
            "VERSION:",
            f"   {__version__}",
            "",
            "COMMANDS:",
            *lines,
            "",
            "   `pyrunc COMMAND --help` tells about one command.",
            "",
            "GLOBAL OPTIONS:",
            *option_lines(GLOBAL),
            "",
        )
    )


def command_help(command: Command) -> str:
    """The help of one command."""
    description = ["   " + line for line in _wrap(command.description, WIDTH - 3)]
    return "\n".join(
        (
            "NAME:",
            f"   pyrunc {command.name} - {command.summary}",
            "",
            "USAGE:",
            f"   pyrunc {command.name} [command options] {command.arguments}".rstrip(),
            "",
            "DESCRIPTION:",
            *description,
            "",
            "OPTIONS:",
            *option_lines((*command.options, HELP)),
            "",
        )
    )


def option_names(option: Option) -> str:
    """How an option is written: `--bundle DIR, -b DIR`."""
    value = f" {option.value}" if option.value else ""
    short = f", -{option.short}{value}" if option.short else ""
    return f"--{option.name}{value}{short}"


def option_text(option: Option) -> str:
    """The help text of an option with its default."""
    if option.kind == NUMBER:
        return f"{option.help} (default: {option.default})"
    return f'{option.help} (default: "{option.default}")' if option.default else option.help


def option_lines(options: Sequence[Option]) -> list[str]:
    """The options that are not hidden, in two columns."""
    shown = [option for option in options if not option.hidden]
    left = max(len(option_names(option)) for option in shown)
    lines = []
    for option in shown:
        head = "   " + option_names(option).ljust(left) + "  "
        for part in _wrap(option_text(option), WIDTH - len(head)):
            lines.append(head + part)
            head = " " * len(head)
    return lines


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines
