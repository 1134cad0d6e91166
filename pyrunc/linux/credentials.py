"""User, groups, umask and no_new_privs of the container process (config.md "POSIX process: user").

credentials(7), user_namespaces(7). The pieces, in the order in which they have to run:

1. `plan_stdio_owner`: while init may still chown, so that the program can open /dev/stdout again.
2. `plan_user`: groups first, then gid, then uid, for each takes a privilege that the next one gives up.
3. `plan_umask`: after init has made the last file of its own with an exact mode.
4. `plan_no_new_privileges`: before a seccomp filter is loaded without CAP_SYS_ADMIN, and after nothing that
   needs privileges from an execve(2), of which init makes only the last one.
"""

from __future__ import annotations

from errno import EINVAL, EPERM, EROFS
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG
from struct import pack

from pyrunc.config.annotations import keeps_groups
from pyrunc.kernel.constants import AT_EMPTY_PATH, PR_SET_NO_NEW_PRIVS, STATX_TYPE, STATX_UID
from pyrunc.kernel.structs import STATX_AT_MODE, STATX_AT_UID, STATX_SIZE
from pyrunc.linux.namespaces import is_new
from pyrunc.plan.program import ANY, BITS, EQ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, IDMapping, User
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Label, Program, Register
    from pyrunc.validate.report import Report

#: The umask of a process whose config gives none, as with the peers.
UMASK: Final = 0o022
#: (gid_t)-1: chown(2) takes it as "leave unchanged".
NO_ID: Final = 0xFFFF_FFFF

#: The bit of st_mode that character and block devices have, and pipes, sockets, files and directories have not.
_DEVICE: Final = S_IFBLK & S_IFCHR


def check(config: Config, host: Host, report: Report) -> None:
    """Ids must exist in the new user namespace; additional groups must be possible."""
    user = _user(config)
    linux = config.get("linux", {})
    new = is_new(config, "user")
    uids = linux.get("uidMappings") if new else None
    gids = linux.get("gidMappings") if new else None
    _check_id("process.user.uid", "setuid", "uid", user.get("uid", 0), uids, report)
    _check_id("process.user.gid", "setgid", "gid", user.get("gid", 0), gids, report)
    groups = user.get("additionalGids") or ()
    for index, group in enumerate(groups):
        _check_id(f"process.user.additionalGids[{index}]", "setgroups", "gid", group, gids, report)
    if groups and new and setgroups_denied(config, host):
        report.error(
            "process.user.additionalGids",
            "cannot set any additional groups: setgroups is denied where one's own gid alone is mapped",
            "map more gids (newgidmap) or remove additionalGids",
        )


def _check_id(
    where: str, verb: str, kind: str, number: int, mappings: list[IDMapping] | None, report: Report
) -> None:
    if mappings and not any(0 <= number - entry["containerID"] < entry["size"] for entry in mappings):
        report.error(
            where,
            f"cannot {verb} to unmapped {kind} {number} in the user namespace",
            f"map it in linux.{kind}Mappings or choose a mapped one",
        )


def _user(config: Config) -> User:
    return config.get("process", {}).get("user") or {}


def setgroups_denied(config: Config, host: Host) -> bool:
    """Whether the gid map is written without privilege, for which setgroups(2) has to be denied first."""
    mappings = config.get("linux", {}).get("gidMappings") or ()
    return host.euid != 0 and len(mappings) == 1 and mappings[0]["size"] == 1


def plan_stdio_owner(config: Config, host: Host, program: Program) -> None:
    """Emit fchown(2) of stdin, stdout and stderr to the container's user.

    A pipe, socket or written file made by root cannot be opened again by another user, as `> /dev/stdout` does; nor
    can the container's own terminal. Nothing else that the caller has there is given away: a device (the terminal or
    a disk of the host, /dev/null) and a directory serve others too, and a file on stdin is somebody's data.
    """
    uid = _user(config).get("uid", 0)
    if uid == 0:
        return
    status = program.buffer(STATX_SIZE)
    value = program.register()
    own_terminal = bool(config["process"].get("terminal"))
    for fd, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        done, give = program.label(), program.label()
        program.call(
            "statx", fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_UID, status, step=f"look at {name}",
            tolerate=ANY, otherwise=done,
        )  # fmt: skip
        program.load(value, status + STATX_AT_UID, 4)
        program.branch(value, EQ, uid, done, f"{name} is the user's already")
        if not own_terminal:
            program.load(value, status + STATX_AT_MODE, 2)
            _plan_kind(program, value, fd, name, give, done)
        program.place(give)
        # Refused for what another user or namespace owns or is read-only: the program may never need it.
        step = f"give {name} to uid {uid}"
        program.call(
            "fchown", fd, uid, NO_ID, step=step, of="process.user.uid", tolerate=(EPERM, EINVAL, EROFS)
        )
        program.place(done)
    program.release(value)


def _plan_kind(program: Program, mode: Register, fd: int, name: str, give: Label, keep: Label) -> None:
    """Emit going to `give` or `keep` by what is on stdio, told from the bits that only some kinds of file have."""
    program.branch(mode, BITS, _DEVICE, keep, f"{name} is a device")
    program.branch(mode, BITS, S_IFIFO, give, f"{name} is a pipe")
    if fd == 0:
        other = program.label()
        program.branch(mode, BITS, S_IFDIR, other, f"{name} is a socket or directory")
        program.jump(keep)
        program.place(other)
    program.branch(mode, BITS, S_IFREG, give, f"{name} is a {'file or ' if fd else ''}socket")
    program.jump(keep)


def plan_user(config: Config, host: Host, program: Program) -> None:
    """Emit setgroups(2), setresgid(2) and setresuid(2)."""
    user = _user(config)
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    # Where the ids are mapped is known for a new user namespace only; elsewhere the kernel answers EINVAL.
    hint = "" if is_new(config, "user") else ", which must be mapped in its user namespace"
    if not keeps_groups(config):  # podman's `--group-add keep-groups`
        _plan_groups(user.get("additionalGids") or [], host, program)
    program.call("setresgid", gid, gid, gid, step=f"set group id to {gid}{hint}", of="process.user.gid")
    program.call("setresuid", uid, uid, uid, step=f"set user id to {uid}{hint}", of="process.user.uid")


def _plan_groups(groups: list[int], host: Host, program: Program) -> None:
    of = "process.user.additionalGids"
    if groups:
        array = program.data(pack(f"<{len(groups)}I", *groups))
        shown = ", ".join(str(group) for group in groups)
        program.call("setgroups", len(groups), array, step=f"set additional groups {shown}", of=of)
    else:
        # Where setgroups is denied for the user namespace (user_namespaces(7)) the groups cannot be dropped,
        # and the config did not ask for any.
        tolerate = (EPERM,) if host.rootless else ()
        program.call("setgroups", 0, 0, step="drop all additional groups", of=of, tolerate=tolerate)


def plan_umask(config: Config, host: Host, program: Program) -> None:
    """Emit umask(2)."""
    mask = _user(config).get("umask", UMASK)
    program.call("umask", mask, step=f"set umask to {mask:#05o}", of="process.user.umask")


def plan_no_new_privileges(config: Config, host: Host, program: Program) -> None:
    """Emit PR_SET_NO_NEW_PRIVS if the config wants it."""
    if config["process"].get("noNewPrivileges"):
        program.call(
            "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, step="set no_new_privs", of="process.noNewPrivileges"
        )
