"""User namespace mappings: who writes them, and how init becomes root of its namespace (user_namespaces(7))."""

from __future__ import annotations

import os

from pyrunc.config.annotations import keeps_groups
from pyrunc.errors import KernelError, PyruncError
from pyrunc.kernel.constants import CLOSE_RANGE_CLOEXEC, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
from pyrunc.kernel.native import syscall
from pyrunc.linux.namespaces import has, is_new, joined
from pyrunc.plan.program import ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.config.spec import Config, IDMapping
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: user_namespaces(7): a map file holds at most this many lines (since Linux 4.15).
MAX_LINES = 340


def _mappings(config: Config) -> tuple[tuple[str, Sequence[IDMapping]], tuple[str, Sequence[IDMapping]]]:
    """("uid", its mappings), ("gid", its mappings): as the property, the map's file and its program begin."""
    linux = config.get("linux", {})
    return ("uid", linux.get("uidMappings") or ()), ("gid", linux.get("gidMappings") or ())


def check(config: Config, host: Host, report: Report) -> None:
    """Mappings exactly where a user namespace is made; ranges that do not overlap; at most 340 of them."""
    for kind, mappings in _mappings(config):
        where = f"linux.{kind}Mappings"
        if mappings and not has(config, "user"):
            report.error(where, "needs a user namespace", 'add {"type": "user"} to linux.namespaces')
        if not mappings and is_new(config, "user"):
            report.error(where, "is required by a new user namespace", "map at least the id 0")
        check_ranges(where, mappings, report)


def check_ranges(where: str, mappings: Sequence[IDMapping], report: Report) -> None:
    """At most 340 ranges, none empty, none overlapping another on either side."""
    if len(mappings) > MAX_LINES:
        report.error(where, f"has {len(mappings)} entries, the kernel takes {MAX_LINES}")
    inside = [(entry["containerID"], entry["size"], index) for index, entry in enumerate(mappings)]
    outside = [(entry["hostID"], entry["size"], index) for index, entry in enumerate(mappings)]
    _check_overlap(where, "containerID", sorted(inside), report)
    _check_overlap(where, "hostID", sorted(outside), report)


def _check_overlap(where: str, side: str, ranges: list[tuple[int, int, int]], report: Report) -> None:
    end = 0
    for first, size, index in ranges:
        entry = f"{where}[{index}]"
        if size == 0:
            report.error(f"{entry}.size", "must be at least 1")
        if first < end:
            report.error(f"{entry}.{side}", f"{first} is mapped twice")
        end = first + size
        if end > 1 << 32:
            report.error(f"{entry}.size", f"{side} {first} plus {size} goes past the largest id, 4294967295")


def host_id(mappings: Sequence[IDMapping], number: int) -> int | None:
    """The host id of the container's id `number`, or None where it is not mapped."""
    for entry in mappings:
        if 0 <= number - entry["containerID"] < entry["size"]:
            return entry["hostID"] + number - entry["containerID"]
    return None


def root_ids(config: Config) -> tuple[int, int]:
    """The uid and gid, as the container counts, that init has in its user namespace: 0, or the first mapped."""
    linux = config.get("linux", {})
    uids, gids = linux.get("uidMappings") or (), linux.get("gidMappings") or ()
    uid = 0 if not uids or host_id(uids, 0) is not None else uids[0]["containerID"]
    gid = 0 if not gids or host_id(gids, 0) is not None else gids[0]["containerID"]
    return uid, gid


def plan_root(config: Config, program: Program) -> None:
    """Emit becoming root of the user namespace, once its maps are written.

    Until then init has an unmapped uid and could create no file. Groups first: after the uid is changed from
    0 the right to change them would be lost.
    """
    if not has(config, "user"):
        return
    uid, gid = root_ids(config)
    if not keeps_groups(config):
        program.call("setgroups", 0, 0, step="drop the runtime's supplementary groups", tolerate=ANY)
    program.call(
        "setresgid", gid, gid, gid, step=f"become gid {gid} of the user namespace", of="linux.gidMappings"
    )
    program.call(
        "setresuid", uid, uid, uid, step=f"become uid {uid} of the user namespace", of="linux.uidMappings"
    )
    program.call(
        "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, step="clear ambient capabilities"
    )


def write_maps(config: Config, host: Host, pid: int) -> None:
    """Map the ids of the new user namespace of `pid`; hold a joined one to the mappings in the config.

    An unprivileged caller may map its own id alone; for more, newuidmap(1) and newgidmap(1) do it within
    /etc/subuid and /etc/subgid. Raises KernelError, PyruncError.
    """
    for kind, mappings in _mappings(config):
        path = f"/proc/{pid}/{kind}_map"
        if "user" in joined(config):
            if mappings and not _is_written(path, mappings):
                raise PyruncError(
                    f"linux.{kind}Mappings: differs from the map of the joined user namespace",
                    remedy="leave the mappings out where linux.namespaces gives a path",
                    code="invalid-config",
                )
        elif is_new(config, "user"):
            own = host.euid if kind == "uid" else host.egid
            alone = len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == own
            if host.euid != 0 and not alone:
                _map_by_program(f"new{kind}map", pid, mappings)
                continue
            if host.euid != 0 and kind == "gid":
                # An unprivileged gid map is only taken from a process that gave up setgroups(2).
                write_map(f"/proc/{pid}/setgroups", "deny")
            write_map(path, map_text(mappings))


def map_text(mappings: Sequence[IDMapping]) -> str:
    """The lines of a map file (user_namespaces(7))."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def write_map(path: str, text: str) -> None:
    """Write a file of /proc/PID that settles a user namespace. Raises KernelError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(
            f'write "{text.strip()}" to {path}',
            error,
            remedy="are the host ids allowed to this user, and mapped in its own user namespace?",
        ) from error


def differs(config: Config, pid: int) -> str:
    """Which mappings ("uid", "gid") of process `pid`'s user namespace are not those of the configuration, or ""."""
    for kind, mappings in _mappings(config):
        if not _is_written(f"/proc/{pid}/{kind}_map", mappings):
            return kind
    return ""


def _is_written(path: str, mappings: Sequence[IDMapping]) -> bool:
    with open(path, encoding="ascii") as file:
        present = [tuple(map(int, line.split())) for line in file]
    # The kernel sorts longer maps.
    return sorted(present) == sorted((m["containerID"], m["hostID"], m["size"]) for m in mappings)


def _map_by_program(name: str, pid: int, mappings: Sequence[IDMapping]) -> None:
    """Run newuidmap(1) or newgidmap(1): set-uid root, held to /etc/subuid and /etc/subgid."""
    words = [name, str(pid)]
    for entry in mappings:
        words += [str(entry["containerID"]), str(entry["hostID"]), str(entry["size"])]
    # A set-uid program gets nothing but its stdio.
    syscall("close_range", 3, 0xFFFF_FFFF, CLOSE_RANGE_CLOEXEC)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.posix_spawnp(
            name,
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)],
        )
    except OSError as error:
        os.close(read_end)
        raise KernelError.of(f"run {name}", error, remedy="install the package uidmap") from error
    finally:
        os.close(write_end)
    said = b""
    while piece := os.read(read_end, 4096):
        said += piece
    os.close(read_end)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise PyruncError(
            f"{' '.join(words)}: exit status {status}: {said.decode(errors='replace').strip()}",
            remedy=f"give this user a range in /etc/sub{name[3:6]}",
            code="helper-failed",
        )
