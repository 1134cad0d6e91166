"""The entrance: understand the command line, carry out one command, end with its status.

Every failure ends here, once: one entry in the log, one line on standard error (after a usage error also the
help text on standard output), an exit status, never a traceback. Statuses: 0 success, 1 failure (usage errors
too, as runc), for `run` and `exec` that of the container's process, 255 where `exec` itself has failed, 130 after
SIGINT, 141 when nobody reads standard output.

The start-up is short on purpose (docs/design.md, "Start-up"): this module imports the parser, a
family of commands its tables, a command imports what it needs when it is called.
"""

from __future__ import annotations

import gc
import os
import sys

from pyrunc.cli import options, verbs
from pyrunc.cli.parse import defaults, parse_command, parse_global
from pyrunc.errors import KernelError, PyruncError, UsageError, kernel_word
from pyrunc.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Final, NoReturn

    from pyrunc.cli.options import Command, Value
else:
    import _signal  # built in; `signal` costs 5 ms for its enumerations

FAILED: Final = 1
EXEC_FAILED: Final = 255
INTERRUPTED: Final = 128 + 2
UNREAD: Final = 128 + 13


class OutputClosed(Exception):
    """Nobody reads standard output any more; like a program that SIGPIPE ended, we say nothing."""


def run_main() -> NoReturn:
    """What the executable calls: `main` with the words of the process, then the end of the process."""
    # The process lives for milliseconds: no cycle is worth looking for, and nothing is worth tearing down.
    gc.disable()
    # What a caller ignores stays ignored over execve(2), and who ignores this never learns how a child has ended.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _open_stdio()
    os._exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line `arguments` (without the program's name); returns the exit status."""
    try:
        return _main(arguments)
    except OutputClosed:
        return UNREAD
    except KeyboardInterrupt:
        return INTERRUPTED


def show(text: str) -> None:
    """Write `text` to standard output, at once and whole."""
    rest = memoryview(text.encode("utf-8", "surrogateescape"))
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except BrokenPipeError:
            raise OutputClosed from None
        except BlockingIOError:
            # O_NONBLOCK belongs to the pipe, not to us: whoever made it set it for his own end's sake.
            import select

            room = select.poll()
            room.register(1, select.POLLOUT)
            room.poll()
        except OSError as error:
            raise KernelError.of("write to standard output", error) from None


def _main(arguments: Sequence[str]) -> int:
    settings = defaults(options.GLOBAL)
    log = Log()
    command: Command | None = None
    try:
        try:
            words = parse_global(arguments, settings)
        finally:
            # Also after a usage error: the options before it may name the log that the caller reads.
            log = _open_log(settings)
        if settings["version"]:
            from pyrunc.cli.help import version_text

            show(version_text())
            return 0
        name, rest = (words[0], words[1:]) if words else ("help", [])
        if settings["help"] or name in ("help", "h"):
            return _help(rest if name in ("help", "h") else words)
        command = _command(name)
        values = defaults((*command.options, options.HELP))
        given = parse_command(command, rest, values)
        if values["help"]:
            return _help([name])
        return command.call(settings, values, given, log)
    except UsageError as error:
        _explain_usage(error, command)
        log.error(str(error), error.code)
        return FAILED
    except PyruncError as error:
        log.error(f"{_prefix(command)}{error}", error.code)
        if log.debugging:
            log.debug(_traceback(error))
    except Exception as error:
        if isinstance(error, OutputClosed):
            raise
        log.error(f"{_prefix(command)}{_unforeseen(error)}", "internal")
        if log.debugging:
            log.debug(_traceback(error))
    return EXEC_FAILED if command and command.name == "exec" else FAILED


def _open_log(settings: dict[str, Value]) -> Log:
    level = "debug" if settings["debug"] else str(settings["log-level"])
    return Log(str(settings["log"]), str(settings["log-format"]), level)


def _command(name: str) -> Command:
    found = verbs.command(name)
    if found:
        return found
    raise PyruncError(f'pyrunc: unknown command "{name}"', remedy="pyrunc --help lists them", code="usage")


def _help(words: Sequence[str]) -> int:
    from pyrunc.cli.help import command_help, global_help

    show(command_help(_command(words[0])) if words else global_help())
    return 0


def _explain_usage(error: UsageError, command: Command | None) -> None:
    from pyrunc.cli.help import command_help, global_help

    words = "" if error.message.startswith("pyrunc: ") else f" {error.message}"
    try:
        show(f"Incorrect Usage.{words}\n\n" + (command_help(command) if command else global_help()))
    except (OutputClosed, KernelError):
        pass  # the error itself still goes to the log


def _prefix(command: Command | None) -> str:
    # As runc's, so that people and scripts recognise it.
    if command is None:
        return ""
    if command.name == "exec":
        return "exec failed: "
    return f"pyrunc {command.name} failed: " if command.name in ("create", "run") else ""


def _unforeseen(error: Exception) -> str:
    trace = error.__traceback__
    where = "unknown place"
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        where = f"{file[file.rfind('/pyrunc/') + 1 :]}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, OSError) and error.errno:
        subject = f": {error.filename}" if error.filename else ""
        what = f"{kernel_word(error.errno)}{subject}"
    else:
        what = str(error)
    return (
        f"unforeseen {type(error).__name__}: {what} at {where} "
        "(this is a fault in pyrunc, please report it; --debug logs more)"
    )


def _traceback(error: BaseException) -> str:
    from traceback import format_exception

    return "".join(format_exception(error))


def _open_stdio() -> None:
    # A caller may start us with stdin, stdout or stderr closed. The next file we open would take that number
    # and be handed to the container, so the gap is filled first (ascending: open takes the lowest free
    # number).
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)
