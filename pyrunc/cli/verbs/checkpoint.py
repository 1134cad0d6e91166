"""checkpoint and restore."""

from __future__ import annotations

from pyrunc.cli.options import BUNDLE, ID, Command, Option
from pyrunc.cli.parse import texts
from pyrunc.cli.settings import absolute, manager_kind, rootless, store
from pyrunc.errors import PyruncError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.cli.options import Values
    from pyrunc.lifecycle.checkpoint import Flags
    from pyrunc.log import Log

#: Where the images are, if nothing is said.
_IMAGES: Final = "checkpoint"
_PORT_MAX: Final = 0xFFFF


def _checkpoint(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.checkpoint import Dump, checkpoint

    wanted = Dump(_image_path(values), absolute(values["work-path"]))
    _fill(wanted, values)
    wanted.leave_running = bool(values["leave-running"])
    wanted.link_remap = bool(values["link-remap"])
    wanted.tcp_skip_in_flight = bool(values["tcp-skip-in-flight"])
    wanted.pre_dump = bool(values["pre-dump"])
    wanted.parent_path = str(values["parent-path"])
    if wanted.parent_path.startswith("/"):
        raise UsageError(
            f"--parent-path {wanted.parent_path}: expected a relative path",
            remedy="it is relative to --image-path",
        )
    wanted.page_server = _address(str(values["page-server"]))
    wanted.status_fd = _descriptor(str(values["status-fd"]))
    if wanted.lazy_pages and wanted.page_server is None:
        raise UsageError(
            "--lazy-pages needs --page-server", remedy="where the pages can be fetched: ADDRESS:PORT"
        )
    checkpoint(store(settings), words[0], wanted, log)
    return 0


def _restore(settings: Values, values: Values, words: list[str], log: Log) -> int:
    from pyrunc.lifecycle.request import Request
    from pyrunc.lifecycle.restore import Restoration, restore

    wanted = Restoration(_image_path(values), absolute(values["work-path"]))
    _fill(wanted, values)
    wanted.lsm_mount_context = str(values["lsm-mount-context"])
    wanted.lsm_profile = str(values["lsm-profile"])
    if wanted.lsm_profile and not wanted.lsm_profile.startswith(("apparmor:", "selinux:")):
        raise UsageError(f"--lsm-profile {wanted.lsm_profile}: it begins with apparmor: or selinux:")
    request = Request(
        store(settings),
        words[0],
        absolute(str(values["bundle"]) or "."),
        log,
        console_socket=absolute(values["console-socket"]),
        pid_file=absolute(values["pid-file"]),
        no_pivot=bool(values["no-pivot"]),
        no_new_keyring=bool(values["no-new-keyring"]),
        detach=bool(values["detach"]),
        no_subreaper=bool(values["no-subreaper"]),
        cgroup_manager=manager_kind(settings),
        rootless=rootless(settings),
    )
    return restore(request, wanted)


def _image_path(values: Values) -> str:
    return absolute(str(values["image-path"]) or _IMAGES)


def _fill(wanted: Flags, values: Values) -> None:
    """What both commands have."""
    from pyrunc.linux.criu.rpc import CGROUP_MODES, NETWORK_LOCKS

    wanted.auto_dedup = bool(values["auto-dedup"])
    wanted.ext_unix_sk = bool(values["ext-unix-sk"])
    wanted.file_locks = bool(values["file-locks"])
    wanted.lazy_pages = bool(values["lazy-pages"])
    wanted.shell_job = bool(values["shell-job"])
    wanted.tcp_close = bool(values["tcp-close"])
    wanted.tcp_established = bool(values["tcp-established"])
    wanted.cgroups_mode = str(values["manage-cgroups-mode"])
    if wanted.cgroups_mode not in CGROUP_MODES:
        raise UsageError(
            f"invalid manage-cgroups-mode: {wanted.cgroups_mode}", remedy="use soft, full, strict or ignore"
        )
    wanted.network_lock = str(values["network-lock"])
    if wanted.network_lock and wanted.network_lock not in NETWORK_LOCKS:
        raise UsageError(
            f"invalid network-lock: {wanted.network_lock}", remedy="use iptables, nftables or skip"
        )
    for kind in texts(values, "empty-ns"):
        if kind != "network":
            raise UsageError(f"namespace {kind} is not supported by --empty-ns", remedy="only network is")
        wanted.empty_network = True


def _address(text: str) -> tuple[str, int] | None:
    """The two parts of ADDRESS:PORT; an IPv6 address may be in brackets."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX):
        raise UsageError(f"--page-server {text} is not ADDRESS:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _descriptor(text: str) -> int:
    """The number of --status-fd, which the caller has opened; -1 without the option."""
    if not text:
        return -1
    import os

    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"--status-fd {text} is not a number")
    try:
        # What is not inheritable this process has opened itself, such as its log.
        if os.get_inheritable(int(text)):
            return int(text)
    except OSError:
        pass
    raise PyruncError(f"--status-fd {text}: no such descriptor was given", code="usage")


_BOTH: Final = (
    Option("image-path", "directory of the image files", value="DIR", default=_IMAGES),
    Option("work-path", "directory for criu's log and notes (default: that of the images)", value="DIR"),
    Option("tcp-established", "allow open TCP connections"),
    Option("tcp-close", "restore TCP connections as closed ones"),
    Option("ext-unix-sk", "allow connections to unix sockets outside of the container"),
    Option("shell-job", "allow a process that shares its session or terminal with others outside"),
    Option("lazy-pages", "leave the memory to be fetched when it is needed (userfaultfd)"),
    Option("file-locks", "handle file locks"),
    Option(
        "manage-cgroups-mode",
        "what criu does with cgroups: soft, full, strict or ignore",
        value="MODE",
        default="soft",
    ),
    Option("empty-ns", "make this namespace anew, with nothing in it: network", value="KIND", many=True),
    Option("auto-dedup", "take pages out of earlier images as soon as they are not needed there"),
    Option(
        "network-lock",
        "how connections are kept still meanwhile: iptables, nftables or skip (default: criu's)",
        value="METHOD",
    ),
)

COMMANDS: Final = (
    Command(
        "checkpoint",
        "write a running container into image files",
        ID,
        1,
        1,
        (
            *_BOTH,
            Option("leave-running", "let the container run on"),
            Option(
                "pre-dump", "write the memory only, for a later checkpoint with --parent-path; it runs on"
            ),
            Option(
                "parent-path",
                "images of an earlier checkpoint or pre-dump, relative to --image-path: what has not changed since is "
                "left out",
                value="DIR",
            ),
            Option("link-remap", "link deleted files that are still open into the file system again"),
            Option("tcp-skip-in-flight", "leave out TCP connections that are not established yet"),
            Option("page-server", "send the memory to a criu page-server", value="ADDRESS:PORT"),
            Option("status-fd", "descriptor that gets a NUL byte when lazy pages can be fetched", value="FD"),
        ),
        "Stops the container and writes it into image files with criu, which must be installed (3.16 or later). The "
        "container is then deleted, unless it is to run on. If the checkpoint fails, it runs on too.",
        _checkpoint,
    ),
    Command(
        "restore",
        "restore a container from image files",
        ID,
        1,
        1,
        (
            BUNDLE,
            *_BOTH,
            Option(
                "console-socket",
                "AF_UNIX stream socket that receives the master of the container's terminal",
                value="SOCKET",
            ),
            Option("detach", "return when the container has been restored", "d"),
            Option("pid-file", "file to write the process id to", value="FILE"),
            Option("no-subreaper", "do not become the reaper of orphaned processes"),
            Option("no-pivot", "accepted for runc's sake: criu brings the root file system in place itself"),
            Option("no-new-keyring", "keep the caller's session keyring instead of making a new one"),
            Option(
                "lsm-profile",
                "label of the processes, instead of that of the images: apparmor:NAME or selinux:CONTEXT",
                value="PROFILE",
            ),
            Option("lsm-mount-context", "context of mounts, instead of that of the images", value="CONTEXT"),
        ),
        "Makes the container of a bundle from the images of a checkpoint, under this id, with the mounts, the cgroup "
        "and the limits of the bundle. Without --detach it waits for the container as `run` does, and deletes it then.",
        _restore,
    ),
)
