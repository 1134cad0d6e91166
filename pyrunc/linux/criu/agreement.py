"""Whether a container agrees with its configuration in what criu takes from the images alone.

These may be older than the bundle that is restored, or of another one. And the container had its part in them: by
renaming the directories above two mount points a process exchanges the names of the mounts. criu goes by the names: a
restore would mount each source with the flags of the other, and what was read-only could be written to. So a
checkpoint is refused where a restore would be, and at a restore nothing runs before this is seen to hold.
"""

from __future__ import annotations

import os

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux import idmap
from pyrunc.linux.criu.mounts import destinations
from pyrunc.linux.mounts.facts import is_bind
from pyrunc.linux.mounts.options import OPTIONS, parse
from pyrunc.linux.namespaces import KINDS, is_own, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

    from pyrunc.config.spec import Config
    from pyrunc.kernel.mountinfo import Mount as Mounted

#: The flags that keep something from the container, by their words in options and in the kernel's tables.
_FLAGS: Final = ("ro", "nosuid", "nodev", "noexec", "nosymfollow")


def check_namespaces(config: Config, pid: int, joins: Mapping[str, int], known: Iterable[str]) -> None:
    """Raise PyruncError unless the namespaces of process `pid` are those of the configuration, with its mappings.

    `joins`: the descriptors of those to join, by the names of `open_joined`. `known`: the types that criu restores.
    """
    wanted = listed(config)
    for kind in known:
        if kind == "time" and kind not in wanted:
            continue  # criu makes one for every container: its clocks go on where they stood
        path = f"/proc/{pid}/ns/{KINDS[kind][1]}"
        try:
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError.of(f"open {path}", error) from error
        try:
            own, joined = is_own(found, kind), joins.get(f"namespace-{kind}", -1)
            agrees = os.path.sameopenfile(found, joined) if joined >= 0 else own != (kind in wanted)
        finally:
            os.close(found)
        if not agrees:
            asked = "another" if joined >= 0 else "a new one" if kind in wanted else "none"
            raise PyruncError(
                f"the images have {'no' if own else 'a'} {kind} namespace, the bundle asks for {asked}",
                remedy="restore with the namespaces of the container that was checkpointed",
                code="unsupported",
            )
    if wanted.get("user") == "" and (kind := idmap.differs(config, pid)):
        raise PyruncError(
            f"linux.{kind}Mappings: differs from what the images have",
            remedy="restore with the mappings of the container that was checkpointed",
            code="unsupported",
        )


def check_mounts(config: Config, root: str, table: list[Mounted]) -> None:
    """Raise PyruncError unless the root and each bind mount of the configuration is in its place, with its flags.

    `table`: the mounts of a process of the container. `root`: the root file system on the host.
    """
    there = {entry.point: entry.flags for entry in table}  # the last one covers those before
    wanted = {"/": ["ro"] if config["root"].get("readonly") else []}
    for path, mount in destinations(config, root):
        if is_bind(mount):
            attributes = parse(mount.get("options") or ()).attributes
            wanted[path] = [word for word in _FLAGS if attributes & OPTIONS[word][1]]
    for path, words in wanted.items():
        if path not in there:
            raise _refuse(f"nothing is mounted on {path}")
        if missing := [word for word in words if word not in there[path]]:
            raise _refuse(f"what is mounted on {path} is not {','.join(missing)}")


def _refuse(what: str) -> PyruncError:
    return PyruncError(
        f"the container's mounts are not those of its configuration: {what}",
        remedy="a process of the container has moved or changed one, or the bundle is not that of the images",
        code="unsupported",
    )
