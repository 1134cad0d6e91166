"""The machine from the command line: `python -m tests.vm test`, `run`, `up`, `exec`, `down`, `build`.

Exit status: that of the command in the guest; 124 when its time or the machine's is over, 125 when the machine failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.vm import machine, recipe, suite
from tests.vm.image import VmError
from tests.vm.machine import Machine


def main() -> int:
    """Run what the command line says."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    options = _options()
    try:
        status: int = options.function(options)
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return error.status
    except subprocess.CalledProcessError as error:
        print(f"vm: {error}", file=sys.stderr)
        return VmError.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _test(options: argparse.Namespace) -> int:
    return suite.run(options.part, options.timeout, options.args, short=options.short)


def _build(_: argparse.Namespace) -> int:
    machine.build()
    return 0


def _run(options: argparse.Namespace) -> int:
    machine.build()
    with machine.started(f"run-{os.getpid()}", bound=True, **_settings(options)) as guest:
        return guest.execute(options.command, options.user)


def _up(options: argparse.Namespace) -> int:
    machine.build()
    guest = Machine(options.name)
    if guest.is_running():
        raise VmError(f"machine {guest.name!r} is already up")
    try:
        guest.start(**_settings(options))
    except BaseException:
        guest.stop()
        raise
    return 0


def _exec(options: argparse.Namespace) -> int:
    return Machine(options.name).execute(options.command, options.user, timeout=options.timeout)


def _down(options: argparse.Namespace) -> int:
    Machine(options.name).stop()
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "lifetime": options.timeout,
        "shares": options.dir,
        "keep": options.keep,
        "network": options.net,
        "memory": options.memory,
        "cpus": options.cpus,
        "security": options.security,
    }


def _shared_folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir() or path == Path("/"):
        raise argparse.ArgumentTypeError(f"{text} is not a folder that can be shared")
    return path


def _options() -> argparse.Namespace:
    settings = argparse.ArgumentParser(add_help=False)
    add = settings.add_argument
    add("--dir", action="append", default=[], type=_shared_folder, help="share this folder, at the same path; "
        "the command runs in the first")  # fmt: skip
    add("--keep", action="store_true", help="keep what the guest changes on its disk")
    add("--net", action="store_true", help="let the guest reach what this machine reaches")
    add("--memory", default="2G")
    add("--cpus", type=int, default=2)
    add("--security", choices=list(recipe.SECURITY), default="apparmor", help="what labels processes")
    add(
        "--timeout",
        type=float,
        default=1800,
        metavar="SECONDS",
        help="the machine's whole life (%(default)s)",
    )
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="default", help="which machine, where there are several")
    command = argparse.ArgumentParser(add_help=False)
    command.add_argument("--user", default="root", help=f"root or {recipe.USER}")
    command.add_argument("command", nargs="*", help="none: a login shell")

    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")

    def verb(
        name: str, function: Any, parents: list[argparse.ArgumentParser], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=parents, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    test = verb("test", _test, [], "boot, copy the tree there, build it, run the tests of the guest")
    test.add_argument(
        "--part", action="append", choices=[part.name for part in suite.PARTS], help="only this"
    )
    test.add_argument(
        "--timeout", type=float, default=suite.DEADLINE, metavar="SECONDS", help="(%(default)s)"
    )
    test.add_argument(
        "--short",
        action="store_true",
        help="without tests that have had the same result on every kind of host",
    )
    test.add_argument("args", nargs="*", metavar="ARG", help="for pytest, after --")
    verb("build", _build, [], "make the disk image, unless it is there")
    verb("run", _run, [settings, command], "boot, run one command, throw the machine away")
    verb("up", _up, [settings, named], "boot a machine that stays up")
    execute = verb("exec", _exec, [named, command], "run a command on a machine that is up")
    execute.add_argument("--timeout", type=float, metavar="SECONDS", help="kill the command after this time")
    verb("down", _down, [named], "throw a machine away")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
