"""exec."""

from __future__ import annotations

from pyrunc.cli.options import ID, Command, Option
from pyrunc.cli.parse import number, texts
from pyrunc.cli.settings import absolute, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.lifecycle.exec_request import Overrides
    from pyrunc.log import Log


def _exec(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.exec import exec_process
    from pyrunc.lifecycle.exec_request import ExecRequest

    request = ExecRequest(
        store(settings),
        words[0],
        log,
        file=absolute(values["process"]),
        words=words[1:],
        overrides=_overrides(values),
        console_socket=absolute(values["console-socket"]),
        pidfd_socket=absolute(values["pidfd-socket"]),
        pid_file=absolute(values["pid-file"]),
        detach=bool(values["detach"]),
        preserve_fds=number(values, "preserve-fds"),
        cgroups=texts(values, "cgroup"),
        ignore_paused=bool(values["ignore-paused"]),
    )
    return exec_process(request)


def _overrides(values: Values) -> Overrides:
    from pyrunc.lifecycle.exec_request import Overrides

    return Overrides(
        cwd=str(values["cwd"]),
        env=texts(values, "env"),
        terminal=bool(values["tty"]),
        user=str(values["user"]),
        additional_gids=texts(values, "additional-gids"),
        capabilities=texts(values, "cap"),
        apparmor=str(values["apparmor"]),
        selinux=str(values["process-label"]),
        no_new_privileges=None if values["no-new-privs"] is None else bool(values["no-new-privs"]),
    )


_OPTIONS: Final = (
    Option("process", "file with the process as JSON, as `process` is in config.json", "p", "FILE"),
    Option("detach", "return when the process runs", "d"),
    Option("tty", "give the process a terminal", "t"),
    Option(
        "console-socket",
        "AF_UNIX stream socket that receives the master of the process's terminal",
        value="SOCKET",
    ),
    Option("pidfd-socket", "AF_UNIX stream socket that receives a pidfd of the process", value="SOCKET"),
    Option("pid-file", "file to write the process id to", value="FILE"),
    Option("cwd", "working directory in the container", value="DIR"),
    Option(
        "env", "add a variable to the environment; may be given several times", "e", "NAME=VALUE", many=True
    ),
    Option("user", "user and group of the process, as numbers", "u", "UID[:GID]"),
    Option("additional-gids", "add a supplementary group; may be given several times", "g", "GID", many=True),
    Option(
        "cap",
        "add a capability to the bounding, effective and permitted sets; may be given several times",
        "c",
        "CAPABILITY",
        many=True,
    ),
    Option(
        "no-new-privs", "set no_new_privs, or with =false do not, whatever config.json says", default=None
    ),
    Option("apparmor", "AppArmor profile of the process", value="PROFILE"),
    Option("process-label", "SELinux label of the process", value="LABEL"),
    Option("preserve-fds", "pass N more descriptors on (after stdio)", value="N", default=0),
    Option(
        "cgroup",
        "run the process in a cgroup below the container's, which must exist; with cgroup v1 one for each controller "
        "may be given",
        value="[CONTROLLER[,CONTROLLER]:]PATH",
        many=True,
    ),
    Option("ignore-paused", "also in a paused container; the process runs when that is resumed"),
)

COMMANDS: Final = (
    Command(
        "exec",
        "run another process in a container",
        f"{ID} command [arguments...]",
        1,
        1 << 30,
        _OPTIONS,
        "Runs the command in a created or running container, under all that the container was created with. What is "
        "not given is that of the container's own process; with --process all is in the file but limits, capabilities, "
        "labels and priorities that it leaves out. The exit status is that of the process, or 128 plus the number of "
        "the signal that ended it; 255 if pyrunc fails. Options stand before the id: what follows it is the command.",
        _exec,
        everywhere=False,
    ),
)
