"""tmpcopyup: a tmpfs begins with what the container has at its mount point (runc's extension of mount options).

What is to be copied is known only when the mounts before it are there, so init hands over two descriptors,
the directory below and the detached tmpfs, and waits; a child of the runtime copies. The child first enters
the container's cgroup, so that its limits hold for the copy, and its user namespace, whose ids the new files
shall have. No path of the image is resolved: every name is one entry of an open directory, links are copied.
Whoever exchanges entries meanwhile gets one file's content under the attributes of another in no case: of a set-user-ID
program only its own content is copied.

Not copied: extended attributes. A hard link becomes a file of its own.
"""

from __future__ import annotations

import os
from errno import ENXIO, ESTALE
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from stat import S_ISDIR, S_ISLNK, S_ISREG
from struct import pack, unpack_from

from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLONE_NEWUSER, PR_SET_DUMPABLE
from pyrunc.kernel.native import syscall
from pyrunc.linux.idmap import root_ids
from pyrunc.linux.mounts.facts import destination_of
from pyrunc.linux.namespaces import has
from pyrunc.plan.talk import SAY_COPY, give, hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.linux.cgroups.manager import Manager
    from pyrunc.plan.program import Program, Register
    from pyrunc.spawn.conversation import Conversation

#: How a message says which of the two descriptors it brings: index of the mount * 2 + this.
_FROM, _TO = 0, 1
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def plan(program: Program, index: int, point: Register, tree: Register, step: str) -> None:
    """Emit handing the mount point and the detached tmpfs of mount `index` over, and waiting for the copy."""
    of = f"mounts[{index}].options"
    give(program, point, SAY_COPY, index * 2 + _FROM, step=f"{step}: let its content be copied", of=of)
    give(program, tree, SAY_COPY, index * 2 + _TO, step=f"{step}: let its content be copied", of=of)
    hear(program, f"{step}: wait for the copy")


def serve(
    config: Config, talk: Conversation, manager: Manager, init: int, index: int, users: int = -1
) -> None:
    """Copy for mount number `index`, when init comes to it. Raises PyruncError, StepFailed, InitEnded.

    `users`: a descriptor of the container's user namespace, where that is not init's.
    """
    source = talk.expect(SAY_COPY, index * 2 + _FROM).descriptor
    target = talk.expect(SAY_COPY, index * 2 + _TO).descriptor
    own = -1
    try:
        if users < 0 and has(config, "user"):
            own = users = os.open(f"/proc/{init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        _copy_in_child(config, source, target, manager, users, destination_of(config["mounts"][index]))
    finally:
        for descriptor in (source, target, own):
            if descriptor >= 0:
                os.close(descriptor)
    talk.go()


def _copy_in_child(
    config: Config, source: int, target: int, manager: Manager, users: int, destination: str
) -> None:
    step = f"copy the content of {destination} into its tmpfs"
    entrances = list(manager.entrances().values())
    directory = manager.directory()
    if directory is not None:
        entrances.append(os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
        os.close(directory)
    reader, writer = os.pipe()
    gate, opener = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Nothing of the parent's may be finished twice, whatever happens: this process only ever _exits.
        status = 1
        try:
            os.close(opener)
            if not os.read(gate, 1):
                os._exit(status)  # the parent has given up
            for entrance in entrances:
                os.write(entrance, b"0")
            if users >= 0:
                _become_root_of(config, users)
            os.umask(0)
            _copy_tree(source, os.open(".", _DIRECTORY, dir_fd=target))
            status = 0
        except OSError as error:
            name = error.filename if isinstance(error.filename, str) else ""
            os.write(writer, pack("<i", error.errno or 0) + name.encode("utf-8", "surrogateescape"))
        finally:
            os._exit(status)
    os.close(writer)
    for descriptor in (*entrances, gate):
        os.close(descriptor)
    try:
        manager.join(pid)
        os.write(opener, b"1")
    except PyruncError:
        os.close(opener)
        os.waitpid(pid, 0)
        raise
    os.close(opener)
    said = os.read(reader, 4096)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if said:
        (number,) = unpack_from("<i", said)
        raise KernelError(step, number, detail=said[4:].decode("utf-8", "replace"))
    if status:
        raise PyruncError(
            f"{step}: ended by signal {-status}" if status < 0 else f"{step}: failed",
            remedy="raise linux.resources.memory.limit" if status == -9 else "",
            code="helper-failed",
        )


def _become_root_of(config: Config, namespace: int) -> None:
    """Enter the user namespace with all capabilities in it, as the user that init is while it mounts."""
    # In the container's user namespace its root could look into this process of the host's, if it sees that at all.
    syscall("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    syscall("setns", namespace, CLONE_NEWUSER)
    uid, gid = root_ids(config)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _copy_tree(source: int, target: int) -> None:
    """Copy all that is in one directory to another, empty one; both are descriptors.

    Without recursion, and with one descriptor for each level, as the image decides how deep it goes. Only in the
    tmpfs, which nobody else sees, `..` leads back: a directory of the image may be moved meanwhile.
    """
    _, most = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (most, most))
    sources = [os.open(".", _DIRECTORY, dir_fd=source)]
    left = [os.listdir(sources[0])]
    here = target
    inside: list[tuple[str, os.stat_result]] = []
    while True:
        if left[-1]:
            name = left[-1].pop()
            status = os.stat(name, dir_fd=sources[-1], follow_symlinks=False)
            if S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=here)
                sources.append(os.open(name, _DIRECTORY, dir_fd=sources[-1]))
                left.append(os.listdir(sources[-1]))
                inside.append((name, os.fstat(sources[-1])))
                here = _step(name, here)
            else:
                _copy_attributes(name, _copy_entry(name, status, sources[-1], here), here)
        elif inside:
            os.close(sources.pop())
            left.pop()
            here = _step("..", here)
            _copy_attributes(*inside.pop(), here)
        else:
            return


def _step(name: str, directory: int) -> int:
    there = os.open(name, _DIRECTORY, dir_fd=directory)
    os.close(directory)
    return there


def _copy_entry(name: str, status: os.stat_result, source: int, target: int) -> os.stat_result:
    """Make one entry, all but its attributes, which are returned: those of the very file whose content it has."""
    kind = status.st_mode
    if S_ISLNK(kind):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif S_ISREG(kind):
        return _copy_file(name, source, target)
    else:
        os.mknod(name, kind, status.st_rdev, dir_fd=target)
    return status


def _copy_attributes(name: str, status: os.stat_result, target: int) -> None:
    kind = status.st_mode
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not S_ISLNK(kind):
        os.chmod(name, kind & 0o7777, dir_fd=target)  # after chown, which takes set-id bits away
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> os.stat_result:
    """Copy data and leave holes: a sparse file of the image must not fill the tmpfs. Returns what was copied.

    Raises OSError, ESTALE where the name is not that of a regular file any more.
    """
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        status = os.fstat(reader)
        if not S_ISREG(status.st_mode):
            raise OSError(ESTALE, os.strerror(ESTALE), name)
        size = status.st_size
        os.ftruncate(writer, size)
        place = 0
        while place < size:
            try:
                place = os.lseek(reader, place, os.SEEK_DATA)
            except OSError as error:
                if error.errno == ENXIO:  # only a hole is left
                    break
                raise
            end = min(size, os.lseek(reader, place, os.SEEK_HOLE))
            os.lseek(writer, place, os.SEEK_SET)
            while place < end:
                sent = os.sendfile(writer, reader, place, end - place)
                if not sent:
                    return status
                place += sent
        return status
    finally:
        os.close(reader)
        os.close(writer)
