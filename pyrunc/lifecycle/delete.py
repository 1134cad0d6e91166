"""delete: undo what create made, in reverse, and run the poststop hooks (runtime-spec runtime.md "Delete").

The order, each step repeatable, the record last, so that a `delete` killed anywhere can be done again:
 1. the processes (SIGKILL, waited for), 2. cgroup and resctrl group, 3. the poststop hooks, 4. the state directory.
The hooks come before the directory goes: killed between the two, the next `delete` runs them again. They
clean up, and a clean-up done twice is harmless where one not done at all is not.
"""

from __future__ import annotations

import os
from errno import EBUSY

from pyrunc.config import POSTSTOP
from pyrunc.errors import KernelError, NotFound, PyruncError
from pyrunc.lifecycle.kill import kill_cgroup
from pyrunc.lifecycle.liveness import PATIENCE, open_process, wait_end
from pyrunc.lifecycle.status import CREATED, STOPPED, check_allowed, current, load, state_document
from pyrunc.linux.signals import SIGKILL, SIGTERM, send
from pyrunc.store.store import STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.log import Log
    from pyrunc.store.record import Record
    from pyrunc.store.store import Directory, Store


def delete(store: Store, container_id: str, force: bool, log: Log) -> None:
    """Delete container `container_id`.

    It must be stopped, or created and then is killed first. With `force` it is killed in any status, an unknown id is
    no error, and removed is also what an interrupted `create` left, a container whose record is damaged or was written
    by a newer pyrunc, other files in its directory, and what is mounted there. Only a directory that nothing shows to
    be pyrunc's is left.
    """
    try:
        with store.open(container_id) as directory:
            if force:
                _delete_by_force(store, directory, log)
                return
            with directory.lock():
                record = load(directory)
                status = current(directory, record)
                check_allowed("delete", container_id, status)
                if status == CREATED:
                    end(record)
                destroy(store, directory, record, log)
    except NotFound:
        if not force:
            raise


def _delete_by_force(store: Store, directory: Directory, log: Log) -> None:
    # Before the lock is asked for: a create or start that hangs (in a hook, say) holds it, and gives it up when
    # it is interrupted, or its init is gone.
    record = _load_if_sound(directory, log)
    if record:
        _interrupt_creator(record)
        end(record)
    with directory.lock(PATIENCE):
        delete_locked(store, directory, log)


def delete_locked(store: Store, directory: Directory, log: Log) -> None:
    """`delete --force` for who holds the lock of `directory`."""
    record = _load_if_sound(directory, log)
    if record is None and not directory.is_own():
        raise PyruncError(
            f"{directory.path} is not the state of a container: it holds other files",
            remedy="check --root, or remove the directory by hand",
            code="foreign-directory",
        )
    if record and current(directory, record) != STOPPED:
        end(record)
    if record and not record.newer:
        destroy(store, directory, record, log)
        return
    if record:
        log.warning("the container was made by a newer pyrunc, and may have had more than was removed")
    if directory.has(STATE):
        from pyrunc.lifecycle.lost import end_without_record

        end_without_record(store, directory, log)
    _remove(directory)


def _load_if_sound(directory: Directory, log: Log) -> Record | None:
    try:
        return directory.load()
    except PyruncError as error:
        if error.code != "damaged-state":
            raise
        log.warning(str(error))
        return None


def _interrupt_creator(record: Record) -> None:
    """Have a `create` that is not finished undo what it has made."""
    pidfd = -1 if record.ready else open_process(*record.creator)
    if pidfd < 0:
        return
    try:
        send(pidfd, SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except OSError as error:
        raise KernelError.of(
            f"interrupt process {record.creator[0]}, which creates {record.id}", error
        ) from None
    finally:
        os.close(pidfd)


def end(record: Record) -> None:
    """SIGKILL the container's processes and wait until the first one has ended."""
    pidfd = open_process(record.pid, record.start_time)
    if pidfd < 0:
        return
    try:
        try:
            send(pidfd, SIGKILL)
        except ProcessLookupError:
            return
        except OSError as error:
            raise KernelError.of(f"kill container {record.id}", error) from None
        # A frozen process dies when it is thawed, and no PID namespace of its own ends the others with the
        # first.
        if record.cgroup:
            from pyrunc.linux.cgroups.frozen import holds_frozen

            if not record.pid_namespace_private or holds_frozen(record.cgroup):
                kill_cgroup(record)
        if not wait_end(pidfd):
            raise PyruncError(
                "container init still running",
                remedy=f"process {record.pid} did not end in {PATIENCE:.0f} s, it waits for the kernel",
                code="still-running",
            )
    finally:
        os.close(pidfd)


def destroy(store: Store, directory: Directory, record: Record, log: Log) -> None:
    """Steps 1 (what the end of the first process left) to 4 for a container whose first process has ended."""
    if record.cgroup is not None:
        _remove_cgroup(store, record, log)
    if record.intel_rdt:
        from pyrunc.linux import intel_rdt

        intel_rdt.remove(record.intel_rdt)
    if record.hooks.get(POSTSTOP):
        _run_poststop(record, log)
    _remove(directory)


def _remove(directory: Directory) -> None:
    """Remove the state directory, and what is mounted in it before: a runtime that crashed had no time to."""
    try:
        directory.remove()
    except KernelError as error:
        if error.number != EBUSY:
            raise
        from pyrunc.lifecycle.left_mounts import unmount_below

        unmount_below(directory.path)
        directory.remove()


def _remove_cgroup(store: Store, record: Record, log: Log) -> None:
    from pyrunc.linux.cgroups.manager import restore

    manager = restore(record.cgroup or {})
    if record.pid:
        # `create` found the cgroup unused and put init into it. Of a finished one with a PID namespace of its own
        # nothing is left with init; who else is in the cgroup then is not ours.
        if not (record.ready and record.pid_namespace_private) and manager.pids():
            from pyrunc.lifecycle.sharing import taken

            if home := taken(store, record):
                log.warning(f"its cgroup was left, another container has it: {home}")
                return
            manager.kill()
        manager.remove()
        return
    # Killed before it told of its init. It may not have come to making its cgroup either, and another container
    # has it: of all in there only an init can be ours, and what cannot be removed for others is not.
    for pid in _inits(manager.pids()):
        os.kill(pid, SIGKILL)
    try:
        manager.remove()
    except PyruncError as error:
        if _inits(manager.pids()):
            raise
        log.warning(f"left alone: {error}")


def _inits(pids: list[int]) -> list[int]:
    """Those of the processes `pids` that still are pyrunc-init, which no other program can pass for.

    Not the init of a container that runs (`linux.init_process`), which holds stdio only, and no conversation.
    """
    found = []
    for pid in pids:
        try:
            ours = os.readlink(f"/proc/{pid}/exe").startswith("/memfd:pyrunc-init ")
            if ours and any(int(number) > 2 for number in os.listdir(f"/proc/{pid}/fd")):
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
    return found


def _run_poststop(record: Record, log: Log) -> None:
    from pyrunc.config.annotations import hook_files
    from pyrunc.linux.hooks import run_poststop

    # runtime.md "Lifecycle", step 13: a failure is a warning, the remaining hooks still run.
    state = state_document(record, STOPPED).encode()
    files = hook_files(record.annotations, record.bundle)
    for warning in run_poststop(record.hooks[POSTSTOP], state, record.bundle, files):
        log.warning(warning)
