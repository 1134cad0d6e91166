"""restore: a container again from the images of a checkpoint, with criu (criu(8)).

As with create: the state directory is claimed first; the record names the cgroup before it is made; limits are set
before a process of the container enters. criu is a child of this process and makes the container's first process
another one. At `setup-namespaces` that exists, in its namespaces, and nothing else: then it is put on record, and the
prestart and createRuntime hooks run, as with runc (no others: the container's program does not start). At
`post-restore` everything is there, and nothing runs yet: then the record is saved as ready. Whatever fails, `Undo`
takes back all that was made.
"""

from __future__ import annotations

import os
from stat import S_IMODE

from pyrunc.config import CREATE_RUNTIME, PRESTART
from pyrunc.config.annotations import hook_files
from pyrunc.errors import PyruncError
from pyrunc.kernel.mountinfo import mounts, mounts_of
from pyrunc.kernel.procfs import children
from pyrunc.lifecycle.checkpoint import EXTERNAL, NOTIFIED, REJOINED, Flags
from pyrunc.lifecycle.create import claim
from pyrunc.lifecycle.criu import Criu, Images, check_may, settings
from pyrunc.lifecycle.foreground import adopt_size, block_signals
from pyrunc.lifecycle.hand_over import hand_over
from pyrunc.lifecycle.interrupt import Interruptible
from pyrunc.lifecycle.liveness import start_time
from pyrunc.lifecycle.prepare import prepare
from pyrunc.lifecycle.run import stay
from pyrunc.lifecycle.status import CREATING, state_document
from pyrunc.lifecycle.undo import Undo
from pyrunc.linux import hooks
from pyrunc.linux.cgroups.manager import SYSTEMD
from pyrunc.linux.criu import points, rpc, stdio
from pyrunc.linux.criu.agreement import check_mounts, check_namespaces
from pyrunc.linux.criu.mounts import shares_peers, sources
from pyrunc.linux.criu.start import STDIO, Surroundings
from pyrunc.linux.idmap import host_id
from pyrunc.linux.namespaces import KINDS, has, is_new, joined
from pyrunc.linux.signals import SIGKILL
from pyrunc.spawn.conversation import StepFailed
from pyrunc.spawn.init import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.config.spec import Config
    from pyrunc.lifecycle.container import Container
    from pyrunc.lifecycle.prepare import Prepared
    from pyrunc.lifecycle.request import Request

#: criu's log, in the work directory.
LOG: Final = "restore.log"
#: The directory of the container's state directory where criu gets the root file system.
ROOT: Final = "criu-root"


class Restoration(Flags):
    """What a restore is asked to do besides; "" where the option was not given.

    `lsm_profile`: "apparmor:NAME" or "selinux:CONTEXT" instead of that of the images; `lsm_mount_context`: instead of
    the context in mount options.
    """

    __slots__ = ("lsm_mount_context", "lsm_profile")

    def __init__(self, image_path: str, work_path: str = "") -> None:
        super().__init__(image_path, work_path)
        self.lsm_mount_context = ""
        self.lsm_profile = ""

    def options(self) -> dict[str, Any]:
        """The same as criu's options."""
        return {
            **super().options(),
            "log_file": LOG,
            "lsm_mount_context": self.lsm_mount_context or None,
            "lsm_profile": self.lsm_profile or None,
            "rst_sibling": True,
        }


def restore(request: Request, wanted: Restoration) -> int:
    """Carry out `pyrunc restore`; the exit status: 0 when detached, else that of the container's process."""
    check_may("restore")
    foreground = not request.detach
    if foreground and not request.no_subreaper:
        from pyrunc.kernel.attributes import become_subreaper

        become_subreaper()
    images = Images(wanted.image_path, wanted.work_path, LOG, make=False)
    try:
        with Undo(request.log) as undo:
            with Interruptible():
                container = _rebuild(request, wanted, images, undo)
                hand_over(request, container)
            signals = block_signals() if foreground else -1
            if foreground and container.master >= 0:
                adopt_size(container.master)
            undo.keep()
    except PyruncError as error:
        raise images.explain(error) from error
    finally:
        images.close()
    container.directory.unlock()
    return stay(request, container, signals, None) if foreground else 0


def _rebuild(request: Request, wanted: Restoration, images: Images, undo: Undo) -> Container:
    """The container, restored and running."""
    notified = os.access(NOTIFIED, os.F_OK, dir_fd=images.directory)
    prepared = prepare(request, foreground=not request.detach, socket=False, notifies=notified)
    try:
        container = claim(request, undo, prepared)
        config = prepared.config
        if has(config, "mount"):
            points.make(config, prepared.bundle, prepared.host.root_real)
            os.mkdir(ROOT, 0o700, dir_fd=container.directory.fd)
        if is_new(config, "user"):
            _open_to_container(config, images.directory)
        # systemd makes a cgroup around a process; and where criu ignores cgroups, what it makes stays in its own.
        inside = request.cgroup_manager == SYSTEMD or wanted.cgroups_mode == "ignore"
        around = Surroundings(
            images.path,
            images.work_path,
            kept=list(prepared.joins),
            root=prepared.host.root_real if has(config, "mount") else "",
            point=f"{container.directory.path}/{ROOT}",
            keyring=prepared.choices.keyring,
            config=config,
            manager=prepared.manager if inside else None,
        )
        undo.push(_end_children)
        # What it has mounted goes with its mount namespace, where it has one of its own.
        with Criu(around, prepared.joins, expendable=bool(around.root)) as criu:
            criu.check()
            options = {
                **wanted.options(),
                **_of_container(container, images, criu.numbers),
            }
            if inside and (made := prepared.manager.record()) != container.record.cgroup:
                container.record.cgroup = made
                container.directory.save(container.record)
            ignored = {"cgroup"} if wanted.cgroups_mode == "ignore" else set()
            progress = _Progress(container, [kind for kind in KINDS if kind not in ignored])
            answer = criu.carry_out(rpc.RESTORE, options, progress.notified)
            progress.know(answer.get("restore", {}).get("pid", 0))
    except StepFailed as error:
        raise PyruncError(f"start criu: {error}", code="criu") from error
    finally:
        prepared.close()
    return container


def _open_to_container(config: Config, directory: int) -> None:
    """Let the root of the container's user namespace, as whom criu reads most of the images, reach those in there.

    By the group, and no others: with the memory of the container they are its own secrets.
    """
    status = os.fstat(directory)
    gid = host_id(config.get("linux", {}).get("gidMappings") or (), 0)
    if gid is not None and not status.st_mode & 0o001:
        os.fchown(directory, -1, gid)
        os.fchmod(directory, S_IMODE(status.st_mode) & ~0o070 | 0o010)


def _of_container(container: Container, images: Images, numbers: dict[str, int]) -> dict[str, Any]:
    """What criu has to know of this container. `numbers`: of criu's descriptors, by name."""
    prepared, config = container.prepared, container.prepared.config
    inherited: list[dict[str, object]] = []
    if not config["process"].get("terminal"):
        given = [numbers[name] for name in STDIO]
        inherited += stdio.inherited(images.directory, images.path, given)
    joins = []
    for kind, path in joined(config).items():
        if kind in EXTERNAL:
            inherited.append({"key": EXTERNAL[kind][1], "fd": numbers[f"namespace-{kind}"]})
        elif kind in REJOINED:
            joins.append({"ns": REJOINED[kind], "ns_file": path})
    options: dict[str, Any] = {
        "inherit_fd": inherited,
        "join_ns": joins,
        "cg_root": _cgroup_roots(prepared),
        "config_file": settings(container.record.annotations, prepared.bundle),
    }
    if has(config, "mount"):
        table = mounts()
        root, cgroups = prepared.host.root_real, prepared.manager.paths()
        places = sources(config, prepared.bundle, root, cgroups, table)
        options["mntns_compat_mode"] = shares_peers(config, prepared.bundle, root, table) or None
        options["root"] = f"{container.directory.path}/{ROOT}"
        options["ext_mnt"] = [{"key": point, "val": source} for point, source in places.items()]
    return options


def _cgroup_roots(prepared: Prepared) -> list[dict[str, str]]:
    """Where the container's cgroups are now, relative to their hierarchies; they may have had another name before."""
    tops = sorted({entry.point for entry in mounts("cgroup", "cgroup2")}, key=len, reverse=True)
    roots = []
    for controller, path in prepared.manager.paths().items():
        top = next((top for top in tops if f"{path}/".startswith(f"{top}/")), "")
        root = {"path": path[len(top) :] or "/"}
        if any(prepared.manager.paths()):
            # "" is the unified hierarchy beside others. A root without a controller criu takes for that of every other
            # hierarchy, too: it would make cgroups where the container is not, and nobody would remove them.
            root["ctrl"] = controller
        roots.append(root)
    return roots


class _Progress:
    """What criu says on its way, and what is done then. `known`: the types of namespaces that it restores."""

    def __init__(self, container: Container, known: list[str]) -> None:
        self.container = container
        self.known = known

    def notified(self, script: str, pid: int, descriptor: int) -> None:
        """Answer one notification."""
        if script == "orphan-pts-master" and descriptor >= 0:
            self.container.master = descriptor
        elif script == "setup-namespaces":
            self.know(pid)
            self._set_up()
        elif script == "post-restore":
            self.know(pid)
            self._check()
            self.container.record.ready = True
            self.container.directory.save(self.container.record)

    def know(self, pid: int) -> None:
        """Put the container's first process on record, which is a child of ours."""
        container = self.container
        if container.init is not None:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # of a child of ours, if criu tells the truth
            raise PyruncError(
                f"criu tells of process {pid}, which cannot be opened: {error}", code="criu"
            ) from error
        container.init = Process(pid, pidfd)
        container.record.pid = pid
        container.record.start_time = start_time(pid) or 0
        container.directory.save(container.record)

    def _check(self) -> None:
        """Hold what criu has made to the bundle: nothing in it has run yet."""
        prepared, pid = self.container.prepared, self.container.record.pid
        has_terminal = self.container.master >= 0
        if bool(prepared.config["process"].get("terminal")) != has_terminal:
            raise PyruncError(
                f"process.terminal: the images have {'a' if has_terminal else 'no'} terminal of their own",
                remedy="restore with the process.terminal of the container that was checkpointed",
                code="unsupported",
            )
        check_namespaces(prepared.config, pid, prepared.joins, self.known)
        if has(prepared.config, "mount"):
            check_mounts(prepared.config, prepared.host.root_real, mounts_of(pid))

    def _set_up(self) -> None:
        container, prepared = self.container, self.container.prepared
        record = container.record
        if container.group:
            container.group.enter(record.pid)  # before it starts another process
        listed = prepared.config.get("hooks") or {}
        if listed:
            container.hooks_reached = True
            state = state_document(record, CREATING).encode()
            files = hook_files(prepared.config.get("annotations"), prepared.bundle)
            hooks.run_hooks(PRESTART, listed.get(PRESTART) or (), state, prepared.bundle, files)
            hooks.run_hooks(CREATE_RUNTIME, listed.get(CREATE_RUNTIME) or (), state, prepared.bundle, files)


def _end_children() -> None:
    """End what criu, which has ended, has left: the container's first process, and with its namespace all others.

    All children of this process are its, also one of which it has not told yet. Their numbers are theirs as long as
    nobody else collects them.
    """
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return
        if found is None:
            for pid in children():
                os.kill(pid, SIGKILL)
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
