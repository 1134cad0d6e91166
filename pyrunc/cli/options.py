"""The command line as data: every command and option, once.

Parsing (`pyrunc.cli.parse`), `--help` (`pyrunc.cli.help`) and the man pages (`pyrunc.cli.man`) all read these
tables; nothing else knows an option by name except the code that uses its value. Names, short names and
defaults are those of runc, with crun's `--config` and `--cgroup-manager` added.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Value = str | int | bool | None

FLAG, TEXT, NUMBER = "flag", "text", "number"


class Option:
    """One option. `value` is the word that stands for its value in help texts; empty for a flag."""

    __slots__ = ("default", "help", "hidden", "kind", "name", "short", "value")

    def __init__(
        self,
        name: str,
        text: str,
        short: str = "",
        value: str = "",
        default: Value = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.help = text
        self.short = short
        self.value = value
        self.hidden = hidden
        self.kind = TEXT
        self.default = default
        if not value:
            self.kind = FLAG
            self.default = False
        elif type(default) is int:
            self.kind = NUMBER


class Command:
    """One command: its words after the options (`least` to `most` of them), options and texts."""

    __slots__ = ("arguments", "description", "least", "most", "name", "options", "summary")

    def __init__(
        self,
        name: str,
        summary: str,
        arguments: str,
        least: int,
        most: int,
        options: tuple[Option, ...],
        description: str,
    ) -> None:
        self.name = name
        self.summary = summary
        self.arguments = arguments
        self.least = least
        self.most = most
        self.options = options
        self.description = description


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
        "append log entries to FILE instead of standard error; errors also go to the latter",
        value="FILE",
    ),
    Option("log-format", "how log entries look: text or json", value="FORMAT", default="text"),
    Option(
        "log-level",
        "write entries up to this level: error, warning or debug. Default: warning, for a json log error",
        value="LEVEL",
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
    ),
    Option(
        "rootless",
        "ignore cgroup permission errors, and use the caller's own systemd: true, false or auto",
        value="CHOICE",
        default="auto",
    ),
    HELP,
    Option("version", "print the version", "v"),
)

_BUNDLE: Final = Option("bundle", "path of the bundle. Default: the current directory", "b", "DIR")

_CREATE: Final = (
    _BUNDLE,
    Option("config", "name of the configuration file in the bundle", "f", "FILE", "config.json"),
    Option(
        "console-socket",
        "AF_UNIX stream socket that receives the master of the container's terminal",
        value="SOCKET",
    ),
    Option(
        "pidfd-socket",
        "AF_UNIX stream socket that receives a pidfd of the container's process",
        value="SOCKET",
    ),
    Option("pid-file", "file to write the process id to", value="FILE"),
    Option("no-pivot", "do not use pivot_root; insecure, for a root file system on a ramdisk only"),
    Option("no-new-keyring", "keep the caller's session keyring instead of making a new one"),
    Option("preserve-fds", "pass N more descriptors on (after stdio and LISTEN_FDS)", value="N", default=0),
)

_ID: Final = "<container-id>"

COMMANDS: Final = (
    Command(
        "create",
        "create a container",
        _ID,
        1,
        1,
        _CREATE,
        "Makes a container from a bundle: a directory with config.json and a root file system. The process "
        "named in config.json waits until `start`. The id must not be in use under the same --root.",
    ),
    Command(
        "start",
        "run the process of a created container",
        _ID,
        1,
        1,
        (),
        "Runs the process that config.json named when the container was created. With NOTIFY_SOCKET in the "
        "environment it returns when the container is ready (sd_notify(3)), or has ended.",
    ),
    Command(
        "state",
        "print the state of a container",
        _ID,
        1,
        1,
        (),
        "Prints the state as JSON: status (creating, created, running, paused, stopped), pid, bundle, "
        "annotations.",
    ),
    Command(
        "kill",
        "send a signal to a container",
        f"{_ID} [signal]",
        1,
        2,
        (
            Option(
                "all",
                "obsolete: a container that is not running is not an error",
                "a",
                hidden=True,
            ),
        ),
        "Sends the signal (a name with or without SIG, RTMIN+n, or a number; default SIGTERM) to the first "
        "process of a created or running container. KILL ends every process of a container that has no PID "
        "namespace of its own.",
    ),
    Command(
        "delete",
        "delete a container",
        _ID,
        1,
        1,
        (Option("force", "kill the container if it still runs; an unknown id is not an error", "f"),),
        "Removes all that a stopped container holds. A container that was created but not started is killed "
        "first.",
    ),
    Command(
        "run",
        "create and start a container, wait for it and delete it",
        _ID,
        1,
        1,
        (
            *_CREATE,
            Option("detach", "return when the container has started", "d"),
            Option("keep", "do not delete the container after its process ended"),
            Option("no-subreaper", "do not become the reaper of orphaned processes"),
        ),
        "Creates the container, starts it and waits. The exit status is that of the container's process, or "
        "128 plus the number of the signal that ended it. Signals are passed on to the process, and what it "
        "tells through sd_notify(3) to NOTIFY_SOCKET; with --detach only until it is ready.",
    ),
    Command(
        "list",
        "list the containers under --root",
        "",
        0,
        0,
        (
            Option("format", "table or json", "f", "FORMAT", "table"),
            Option("quiet", "print ids only", "q"),
        ),
        "Lists all containers that have their state under --root.",
    ),
    Command(
        "spec",
        "write a config.json to start from",
        "",
        0,
        0,
        (
            _BUNDLE,
            Option("rootless", "write a configuration that an ordinary user can run"),
        ),
        "Writes a config.json that runs a shell in the root file system `rootfs` of the bundle. An existing "
        "file is left alone.",
    ),
    Command(
        "features",
        "print what this runtime supports, as JSON",
        "",
        0,
        0,
        (Option("probe", "try out what of it this kernel lets this user do, and say why not the rest"),),
        "Prints the features document of the OCI runtime specification. It depends on this version of "
        "pyrunc only, not on the host. With --probe each entry of it has an answer instead: supported (by this "
        "build), available (here and now), and the reason if not.",
    ),
)

#: Commands of runc that a later version will have; named so that the error can say so.
LATER: Final = ("checkpoint", "events", "exec", "pause", "ps", "restore", "resume", "update")


def command(name: str) -> Command | None:
    """The command `name`, or None."""
    for entry in COMMANDS:
        if entry.name == name:
            return entry
    return None
