"""checkpoint: write a running container into image files with criu, and end it unless it is to go on (criu(8)).

The order, and why: nothing of the container is touched before the request is complete. criu freezes the cgroup, writes
the images and asks at each stage; where anything fails it thaws the container, which runs on. Only when criu has said
that all is written, and has ended the processes, is the container removed as by `delete`.
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from pyrunc.config.annotations import wants_init
from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLONE_NEWNET
from pyrunc.kernel.mountinfo import mounts, mounts_of
from pyrunc.lifecycle.criu import Criu, Images, check_may, settings
from pyrunc.lifecycle.delete import destroy
from pyrunc.lifecycle.failure import saved_config
from pyrunc.lifecycle.interrupt import Interruptible
from pyrunc.lifecycle.liveness import PATIENCE, open_process, wait_end
from pyrunc.lifecycle.status import STOPPED, check_allowed, current, load
from pyrunc.linux.criu import rpc, stdio
from pyrunc.linux.criu.agreement import check_mounts
from pyrunc.linux.criu.mounts import external
from pyrunc.linux.criu.start import Surroundings
from pyrunc.linux.namespaces import has, joined
from pyrunc.store.store import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.log import Log
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory, Store

#: criu's log, in the work directory.
LOG: Final = "dump.log"
#: criu's level for everything, as runc asks for: what went wrong is found in the log, or nowhere.
LOG_LEVEL: Final = 4
#: The names under which a namespace joined by path is outside for criu (runc's); a restore gives it another.
EXTERNAL: Final = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
#: Those of which criu dumps what is in them, and which a restore joins by path instead.
REJOINED: Final = {"ipc": "ipc", "uts": "uts", "time": "time"}
#: Why a restore can join none of the others.
_NOT_JOINED: Final = {
    "cgroup": "criu knows of none to join",
    "mount": "criu would run, as the host's root, what is there in the place of the host's ip and iptables",
    "user": "criu makes that of the images anew, and may join no other from inside it",
}
#: Beside the images, made by pyrunc: there if the container has a directory for sd_notify(3).
NOTIFIED: Final = "pyrunc-notify"


class Flags:
    """What criu is told alike for checkpoint and restore. The names are those of the options.

    `cgroups_mode`: a word of `rpc.CGROUP_MODES`, `network_lock` one of `rpc.NETWORK_LOCKS` or "".
    """

    __slots__ = (
        "auto_dedup",
        "cgroups_mode",
        "empty_network",
        "ext_unix_sk",
        "file_locks",
        "image_path",
        "lazy_pages",
        "network_lock",
        "shell_job",
        "tcp_close",
        "tcp_established",
        "work_path",
    )

    def __init__(self, image_path: str, work_path: str = "") -> None:
        self.image_path = image_path
        self.work_path = work_path
        self.auto_dedup = False
        self.cgroups_mode = "soft"
        self.empty_network = False
        self.ext_unix_sk = False
        self.file_locks = False
        self.lazy_pages = False
        self.network_lock = ""
        self.shell_job = False
        self.tcp_close = False
        self.tcp_established = False

    def options(self) -> dict[str, Any]:
        """The same as criu's options."""
        return {
            "log_level": LOG_LEVEL,
            "auto_dedup": self.auto_dedup,
            "empty_ns": CLONE_NEWNET if self.empty_network else None,
            "ext_unix_sk": self.ext_unix_sk,
            "file_locks": self.file_locks,
            "lazy_pages": self.lazy_pages,
            "manage_cgroups": True,  # for what knows no modes
            "manage_cgroups_mode": rpc.CGROUP_MODES[self.cgroups_mode],
            "network_lock": rpc.NETWORK_LOCKS.get(self.network_lock),
            "orphan_pts_master": True,
            "shell_job": self.shell_job,
            "tcp_close": self.tcp_close or None,
            "tcp_established": self.tcp_established,
        }


class Dump(Flags):
    """What a checkpoint is asked to do besides.

    `parent_path`: of an earlier checkpoint, relative to the images. `page_server`: (address, port) of `criu
    page-server`, or None. `status_fd`: where a NUL byte is written as soon as lazy pages can be fetched; -1: nowhere.
    """

    __slots__ = (
        "leave_running",
        "link_remap",
        "page_server",
        "parent_path",
        "pre_dump",
        "status_fd",
        "tcp_skip_in_flight",
    )

    def __init__(self, image_path: str, work_path: str = "") -> None:
        super().__init__(image_path, work_path)
        self.leave_running = False
        self.link_remap = False
        self.page_server: tuple[str, int] | None = None
        self.parent_path = ""
        self.pre_dump = False
        self.status_fd = -1
        self.tcp_skip_in_flight = False

    def options(self) -> dict[str, Any]:
        """The same as criu's options."""
        server = self.page_server
        return {
            **super().options(),
            "log_file": LOG,
            "leave_running": self.leave_running or self.pre_dump,
            "link_remap": self.link_remap,
            "parent_img": self.parent_path or None,
            "ps": {"address": server[0], "port": server[1]} if server else None,
            "tcp_skip_in_flight": self.tcp_skip_in_flight,
            # Pages that have not changed since are left out, or are to be left out of the next one.
            "track_mem": self.pre_dump or bool(self.parent_path),
        }


def checkpoint(store: Store, container_id: str, wanted: Dump, log: Log) -> None:
    """Carry out `pyrunc checkpoint`. Raises PyruncError; then the container runs on."""
    check_may("checkpoint")
    with store.open(container_id) as directory, directory.lock():
        record = load(directory)
        check_allowed("checkpoint", container_id, current(directory, record))
        pidfd = open_process(record.pid, record.start_time)
        if pidfd < 0:
            check_allowed("checkpoint", container_id, STOPPED)
        images = Images(wanted.image_path, wanted.work_path, LOG, make=True)
        try:
            with Interruptible():
                _dump(directory, record, pidfd, wanted, images)
        except PyruncError as error:
            raise images.explain(error) from error
        finally:
            images.close()
        log.debug(f"wrote the images to {wanted.image_path}")
        if wanted.leave_running or wanted.pre_dump:
            return
        if not wait_end(pidfd, PATIENCE):
            raise PyruncError(
                f"container {container_id} did not end after its checkpoint", code="still-running"
            )
        destroy(store, directory, record, log)


def _dump(directory: Directory, record: Record, pidfd: int, wanted: Dump, images: Images) -> None:
    if wants_init(record.annotations):
        # criu writes such images without a word, and finds no program for the first process when it reads them.
        raise PyruncError(
            "a container with an init of its own cannot be checkpointed: the file of its program is in memory only",
            remedy="make the container without --init and without the annotation run.pyrunc.init",
            code="unsupported",
        )
    if record.mounts and not wanted.pre_dump:
        raise PyruncError(
            "a container with mounts added since it was made cannot be checkpointed: its bundle does not name them",
            remedy=f"take them away first: pyrunc mounts remove {record.id}",
            code="unsupported",
        )
    options = {
        **wanted.options(),
        **_of_container(directory, record, wanted, images.directory),
        "config_file": settings(record.annotations, record.bundle),
    }
    if wanted.parent_path:
        _check_parent(images, wanted.parent_path)
    kind, feature, why = rpc.DUMP, "", ""
    if wanted.pre_dump:
        kind, feature, why = rpc.PRE_DUMP, "mem_track", "a pre-dump"
    elif wanted.lazy_pages:
        feature, why = "lazy_pages", "a checkpoint with lazy pages"

    def notified(script: str, pid: int, descriptor: int) -> None:
        if script == "status-ready" and wanted.status_fd >= 0:
            _tell(wanted.status_fd)
        elif script == "post-dump" and wait_end(pidfd, 0):
            # Its number may be another's by now; refused, criu ends nobody.
            raise PyruncError(
                "container not running: its first process ended during the checkpoint", code="not-running"
            )
        # Nothing of the host's network is the container's to lock: engines do that themselves.

    with Criu(Surroundings(images.path, images.work_path), {}, expendable=False) as criu:
        criu.check(feature, why)
        criu.carry_out(kind, options, notified)


def _tell(status_fd: int) -> None:
    try:
        os.write(status_fd, b"\0")
        os.close(status_fd)
    except OSError as error:
        raise KernelError.of(f"write to --status-fd {status_fd}", error) from error


def _of_container(directory: Directory, record: Record, wanted: Dump, images: int) -> dict[str, Any]:
    """What criu has to know of this container."""
    config, pid = saved_config(directory), record.pid
    options: dict[str, Any] = {
        "pid": pid,
        "root": record.rootfs,
        "freeze_cgroup": _freezer(record),
    }
    outside = _namespaces(config, pid)
    if not wanted.pre_dump:
        table = mounts_of(pid)
        names, descriptors = stdio.names(pid, [entry.id for entry in table])
        outside += descriptors
        if has(config, "mount"):
            check_mounts(config, record.rootfs, table)
            points = external(config, record.rootfs, table, mounts())
            if directory.has(NOTIFY):
                from pyrunc.linux.notify_socket import MOUNT_POINT

                points = list(dict.fromkeys([*points, MOUNT_POINT]))
            options["ext_mnt"] = [{"key": point, "val": point} for point in points]
        stdio.save(images, names)
        _mark(images, directory.has(NOTIFY))
    return {**options, "external": outside}


def _mark(images: int, notified: bool) -> None:
    """Note beside the images whether the container has a directory for sd_notify(3)."""
    try:
        if notified:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(NOTIFIED, flags, 0o600, dir_fd=images))
        else:
            os.unlink(NOTIFIED, dir_fd=images)
    except FileNotFoundError:
        pass  # nothing to take away
    except OSError as error:
        raise KernelError.of(f"write {NOTIFIED} beside the images", error) from error


def _freezer(record: Record) -> str | None:
    """The directory of the cgroup by which criu finds all processes and stops them at once."""
    from pyrunc.linux.cgroups.manager import restore

    paths = restore(record.cgroup).paths()
    return paths.get("freezer") or paths.get("")


def _namespaces(config: Config, pid: int) -> list[str]:
    """criu's names of the joined namespaces that are outside. Raises PyruncError for one that no restore can join."""
    found = []
    for kind in joined(config):
        if kind in EXTERNAL:
            short, name = EXTERNAL[kind]
            # Of the container's process, not of the path, where something else may be by now.
            found.append(f"{short}[{os.stat(f'/proc/{pid}/ns/{short}').st_ino}]:{name}")
        elif kind not in REJOINED:
            raise PyruncError(
                f"a container that has joined a {kind} namespace cannot be checkpointed: {_NOT_JOINED[kind]}",
                remedy="network, pid, ipc, uts and time namespaces can be joined",
                code="unsupported",
            )
    return found


def _check_parent(images: Images, parent: str) -> None:
    """A parent is relative to the images, so that both can be moved together (runc's rule)."""
    try:
        found = S_ISDIR(os.stat(parent, dir_fd=images.directory).st_mode)
    except OSError as error:
        raise KernelError.of(
            f"invalid --parent-path {parent}", error, remedy="it is relative to --image-path"
        ) from error
    if not found:
        raise PyruncError(f"invalid --parent-path {parent}: not a directory", code="usage")
