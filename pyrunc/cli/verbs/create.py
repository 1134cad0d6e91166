"""create and run."""

from __future__ import annotations

from pyrunc.cli.options import BUNDLE, ID, Command, Option
from pyrunc.cli.parse import number
from pyrunc.cli.settings import absolute, manager_kind, rootless, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.lifecycle.request import Request
    from pyrunc.log import Log


def _create(settings: Values, values: Values, words: list[str], log: Log) -> int:
    request = request_of(settings, values, words[0], log)
    from pyrunc.lifecycle.create import create

    create(request)
    return 0


def _run(settings: Values, values: Values, words: list[str], log: Log) -> int:
    request = request_of(settings, values, words[0], log)
    from pyrunc.lifecycle.run import run

    return run(request)


def request_of(settings: Values, values: Values, container_id: str, log: Log) -> Request:
    """What these options ask for."""
    from pyrunc.lifecycle.request import Request

    return Request(
        store(settings),
        container_id,
        absolute(str(values["bundle"]) or "."),
        log,
        config_name=str(values["config"]),
        console_socket=absolute(values["console-socket"]),
        pidfd_socket=absolute(values["pidfd-socket"]),
        pid_file=absolute(values["pid-file"]),
        no_pivot=bool(values["no-pivot"]),
        no_new_keyring=bool(values["no-new-keyring"]),
        init=bool(values["init"]),
        preserve_fds=number(values, "preserve-fds"),
        detach=bool(values.get("detach")),
        keep=bool(values.get("keep")),
        no_subreaper=bool(values.get("no-subreaper")),
        cgroup_manager=manager_kind(settings),
        rootless=rootless(settings),
    )


_CREATE: Final = (
    BUNDLE,
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
    Option("init", "run an init in the container that forwards signals to its process and reaps orphans"),
    Option("no-new-keyring", "keep the caller's session keyring instead of making a new one"),
    Option("preserve-fds", "pass N more descriptors on (after stdio and LISTEN_FDS)", value="N", default=0),
)

COMMANDS: Final = (
    Command(
        "create",
        "create a container",
        ID,
        1,
        1,
        _CREATE,
        "Makes a container from a bundle: a directory with config.json and a root file system. The process "
        "named in config.json waits until `start`. The id must not be in use under the same --root.",
        _create,
    ),
    Command(
        "run",
        "create and start a container, wait for it and delete it",
        ID,
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
        _run,
    ),
)
