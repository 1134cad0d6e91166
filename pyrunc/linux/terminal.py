"""The terminal: a pty of the container's own devpts (config.md "process.terminal"; pty(7), devpts).

`plan_console` runs while the root is still reached by a descriptor: it opens the pair, binds the slave on
/dev/console and sends the master to the runtime. `plan_attach` runs inside, before init gives up the right to
change owners: it makes the slave the controlling terminal and stdio.
"""

from __future__ import annotations

from errno import EEXIST, ENXIO
from stat import S_IFCHR, S_IFREG
from struct import pack

from pyrunc.kernel.constants import (
    AT_EMPTY_PATH,
    DEVPTS_SUPER_MAGIC,
    O_CLOEXEC,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDWR,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    STATX_INO,
    TIOCGPTPEER,
    TIOCSCTTY,
    TIOCSPTLCK,
    TIOCSWINSZ,
)
from pyrunc.kernel.structs import OPEN_HOW_SIZE, STATX_AT_INO, STATX_SIZE
from pyrunc.linux.devices import plan_verify
from pyrunc.linux.file_system import plan_magic
from pyrunc.linux.mounts.points import STRAIGHT, Points
from pyrunc.linux.namespaces import has
from pyrunc.plan.program import EQ, NE
from pyrunc.plan.talk import SAY_CONSOLE, give

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

_OF: Final = "process.terminal"
_PTMX: Final = "/dev/pts/ptmx"
#: The inode number of a devpts instance's own ptmx (Linux, fs/devpts/inode.c: 1 is the root, 2 is ptmx).
_PTMX_INODE: Final = 2
#: struct winsize has 16 bits for each.
SIZE_MAX: Final = 0xFFFF


def check(config: Config, host: Host, report: Report) -> None:
    """The size fits struct winsize; a terminal needs the container's own devpts, hence a mount namespace."""
    process = config.get("process", {})
    if not process.get("terminal"):
        if process.get("consoleSize"):
            report.warn("process.consoleSize", "is ignored without process.terminal")
        return
    size = process.get("consoleSize")
    if size:
        for name, number in (("height", size["height"]), ("width", size["width"])):
            if not 0 <= number <= SIZE_MAX:
                report.error(f"process.consoleSize.{name}", f"{number} is not from 0 to {SIZE_MAX}")
    if not has(config, "mount"):
        report.error(_OF, "needs a mount namespace", 'add {"type": "mount"} to linux.namespaces')


def plan_console(config: Config, host: Host, program: Program, root: Register) -> Register | None:
    """Emit opening the pty, /dev/console, and sending the master to the runtime (SAY_CONSOLE).

    Returns the register of the slave for `plan_attach`, or None without a terminal.
    """
    if not config["process"].get("terminal"):
        return None
    points = Points(program, root)
    master, slave = _plan_pair(config, points)
    _plan_dev_console(points, slave)
    _plan_send(program, master)
    return slave


def plan_pty(config: Config, program: Program, root: Register) -> Register:
    """Emit the same for a process that joins the container later: /dev/console stays the first process's."""
    master, slave = _plan_pair(config, Points(program, root))
    _plan_send(program, master)
    return slave


def _plan_pair(config: Config, points: Points) -> tuple[Register, Register]:
    program = points.program
    master, slave = program.register(), program.register()
    # No link is followed and the node is looked at before it is used, so that nobody can put something else in
    # the place of the pty that is going to be bind-mounted (CVE-2025-52565).
    flags = O_RDWR | O_NOCTTY | O_NOFOLLOW
    step = f"open {_PTMX}"
    points.open(_PTMX, flags, master, step=step, of=_OF, resolve=STRAIGHT)
    _plan_verify_ptmx(program, master)
    unlock = program.data(pack("<i", 0))
    program.call("ioctl", master, TIOCSPTLCK, unlock, step="unlock the pty", of=_OF)
    step = "open the other end of the pty"
    program.call("ioctl", master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC, step=step, of=_OF, into=slave)
    size = config["process"].get("consoleSize")
    if size:
        window = program.data(pack("<4H", size["height"], size["width"], 0, 0))
        step = "set the size of the terminal"
        program.call("ioctl", master, TIOCSWINSZ, window, step=step, of="process.consoleSize")
    return master, slave


def _plan_send(program: Program, master: Register) -> None:
    give(program, master, SAY_CONSOLE, 0, step="send the terminal to the runtime", of=_OF)
    program.call("close", master, step="close the master of the pty")
    program.release(master)


def _plan_verify_ptmx(program: Program, master: Register) -> None:
    kind = program.register()
    right, wrong = program.label(), program.label()
    step = f"look at {_PTMX}"
    plan_magic(program, master, kind, step, _OF)
    program.branch(kind, NE, DEVPTS_SUPER_MAGIC, wrong)
    plan_verify(program, master, "", S_IFCHR, 5, 2, wrong, step, _OF)
    node = program.buffer(STATX_SIZE)
    program.call("statx", master, "", AT_EMPTY_PATH, STATX_INO, node, step=step, of=_OF)
    program.load(kind, node + STATX_AT_INO, 8)
    program.branch(kind, EQ, _PTMX_INODE, right)
    program.place(wrong)
    program.fail(
        ENXIO, f"{_PTMX} is not the ptmx of a devpts file system, which mounts should have on /dev/pts", _OF
    )
    program.place(right)
    program.release(kind)


def _plan_dev_console(points: Points, slave: Register) -> None:
    """Emit bind-mounting the slave on /dev/console, by descriptors on both sides."""
    program = points.program
    step = "bind-mount the terminal on /dev/console"
    holder, name = points.parent("/dev/console", step=step, of=_OF)
    point, tree = program.register(), program.register()
    program.call("mknodat", holder, name, S_IFREG | 0o666, 0, step=step, of=_OF, tolerate=(EEXIST,))
    how = points.how(O_PATH, STRAIGHT)
    program.call("openat2", holder, name, how, OPEN_HOW_SIZE, step=step, of=_OF, into=point)
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
    program.call("open_tree", slave, "", flags, step=step, of=_OF, into=tree)
    points.move(tree, point, step=step, of=_OF)
    points.close(tree, point, holder)


def plan_attach(
    config: Config, host: Host, program: Program, slave: Register | None, *, controlling: bool = True
) -> None:
    """Emit making the slave the controlling terminal and stdin, stdout and stderr.

    Init is a session leader by then (setsid(2) at its start). After the mounts and hooks, which must not
    write to the terminal; before `credentials.plan_stdio_owner`, which gives stdio, so now the slave, to the
    process's user, as login(1) does, so that /dev/tty and /dev/console can be opened again.
    `controlling`: false where a child of init is going to have it in a session of its own.
    """
    if slave is not None:
        plan_stdio(program, slave)
        if controlling:
            plan_control(program)


def plan_stdio(program: Program, slave: Register) -> None:
    """Emit making the slave stdin, stdout and stderr."""
    for fd, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        program.call("dup3", slave, fd, 0, step=f"make the terminal {name}", of=_OF)
    program.call("close", slave, step="close the terminal's own descriptor")
    program.release(slave)


def plan_control(program: Program) -> None:
    """Emit making stdin the controlling terminal of the session, which has to be this process's own."""
    program.call("ioctl", 0, TIOCSCTTY, 0, step="make the terminal the controlling one", of=_OF)
