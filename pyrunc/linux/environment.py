"""Environment of the container process (config.md "Process: env"; environ(7))."""

from __future__ import annotations

from pyrunc.linux.namespaces import is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.plan.program import Program

#: Where HOME leads when the image's passwd does not say.
NO_HOME: Final = "/"
#: Longest home directory that is taken from the image, in bytes: PATH_MAX.
HOME_SIZE: Final = 4096
#: Bytes for a pid in digits, with a NUL.
PID_SIZE: Final = 12


def environment(entries: Sequence[str]) -> list[str]:
    """The environment for execve(2): of entries with the same name the last one counts."""
    last: dict[str, str] = {}
    for entry in entries:
        name = entry.partition("=")[0]
        last.pop(name, None)
        last[name] = entry
    return list(last.values())


def value_of(entries: Sequence[str], name: str) -> str | None:
    """The value of a variable, or None if it is unset."""
    prefix = name + "="
    for entry in reversed(entries):
        if entry.startswith(prefix):
            return entry[len(prefix) :]
    return None


def needs_home(config: Config) -> bool:
    """Whether HOME is to be taken from the image's passwd: it is unset or empty."""
    return not value_of(config["process"].get("env") or (), "HOME")


def plan_listen(
    config: Config, program: Program, count: int, names: str, *, first: bool = True
) -> tuple[list[str | int], int]:
    """What sd_listen_fds(3) reads, for `count` descriptors from 3 on, and for `names`, divided by colons ("": none).

    LISTEN_PID must be the pid that the process has for itself. In a PID namespace made for it that is 1, if it is the
    `first` process there; elsewhere only the runtime can know: then the second result is the address of a buffer of
    `PID_SIZE` bytes for it, else 0.
    """
    entries: list[str | int] = [f"LISTEN_FDS={count}"]
    if names:
        entries.append(f"LISTEN_FDNAMES={names}")
    if first and is_new(config, "pid"):
        return [*entries, "LISTEN_PID=1"], 0
    entry = program.data(b"LISTEN_PID=" + bytes(PID_SIZE))
    return [*entries, entry], entry + len("LISTEN_PID=")


def plan(config: Config, program: Program, extra: Sequence[str | int] = ()) -> tuple[int, int]:
    """Lay out envp for execve(2), process.env and then `extra`: entries, or addresses of such.

    Returns its address and that of the buffer for the value of HOME, or 0 where process.env has one. The
    buffer has `HOME_SIZE` bytes and holds `/`; who learns better writes a C string there.
    """
    entries = [*(config["process"].get("env") or ()), *[entry for entry in extra if isinstance(entry, str)]]
    addresses = [entry for entry in extra if isinstance(entry, int)]
    if addresses:  # LISTEN_PID
        entries = [entry for entry in entries if not entry.startswith("LISTEN_PID=")]
    if not needs_home(config):
        return program.pointers([program.string(entry) for entry in environment(entries)] + addresses), 0
    kept = environment([entry for entry in entries if not entry.startswith("HOME=")])
    home = program.data(b"HOME=" + NO_HOME.encode() + bytes(HOME_SIZE - len(NO_HOME)))
    pointers = [program.string(entry) for entry in kept] + [home] + addresses
    return program.pointers(pointers), home + len("HOME=")


def find_home(passwd: bytes, uid: int) -> str:
    """The home directory of `uid` in the text of a passwd(5) file, `/` if it has none.

    The file is the image's: lines that make no sense are passed over.
    """
    wanted = str(uid).encode()
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 7 and fields[2] == wanted:
            home = fields[5]
            if home.startswith(b"/") and b"\0" not in home and len(home) < HOME_SIZE - 1:
                return home.decode("utf-8", "surrogateescape")
            break
    return NO_HOME
