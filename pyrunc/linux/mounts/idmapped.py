"""Id-mapped mounts: the options `idmap` and `ridmap`, `uidMappings` and `gidMappings` of a mount.

mount_setattr(2) with MOUNT_ATTR_IDMAP wants a user namespace that holds the maps, a mount that nobody has seen yet,
and CAP_SYS_ADMIN in the user namespace that owns the file system. Of a volume that is the host's, and init has
left that; so init hands over the detached mount, for every kind of mount alike, and the runtime maps it
(`pyrunc.lifecycle.mounts`). Here is which maps, and when.
"""

from __future__ import annotations

from pyrunc.linux.idmap import check_ranges, host_id, map_text
from pyrunc.linux.mounts.facts import is_bind
from pyrunc.linux.namespaces import has
from pyrunc.plan.talk import SAY_IDMAP, give, hear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, IDMapping, Mount
    from pyrunc.linux.mounts.options import Options
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program, Register
    from pyrunc.validate.report import Report

    #: Mappings of user ids, of group ids.
    Maps = tuple[list[IDMapping], list[IDMapping]]

#: Mounted by steps of their own; the kernel maps the ids of neither.
_NEVER: Final = ("cgroup", "cgroup2")
_FORM: Final = "write uids=INSIDE-HOST-COUNT#…;gids=INSIDE-HOST-COUNT#…"


def maps_of(config: Config, mount: Mount, options: Options) -> Maps | None:
    """The maps of an id-mapped mount; None for those of the container's user namespace.

    Its own mappings come first, as config.md demands, then crun's form of the option. Raises ValueError with what
    is wrong with that form.
    """
    if mount.get("uidMappings") or mount.get("gidMappings"):
        return mount.get("uidMappings") or [], mount.get("gidMappings") or []
    if options.idmap_text:
        return _maps_of_text(config, options.idmap_text)
    return None


def texts_of(config: Config, mount: Mount, options: Options) -> tuple[str, str] | None:
    """As `maps_of`: what is to be in uid_map and in gid_map."""
    maps = maps_of(config, mount, options)
    return None if maps is None else (map_text(maps[0]), map_text(maps[1]))


def _maps_of_text(config: Config, text: str) -> Maps:
    """crun(1) "idmap mount options". A range that begins with @ counts its host ids as the container does."""
    linux = config.get("linux", {})
    found: dict[str, list[IDMapping]] = {}
    for part in text.split(";"):
        kind, equals, ranges = part.partition("=")
        if kind not in ("uids", "gids") or not equals or kind in found:
            raise ValueError(f'"{part}" is not understood')
        found[kind] = entries = []
        outer = (linux.get("uidMappings") if kind == "uids" else linux.get("gidMappings")) or []
        for word in ranges.split("#"):
            numbers = word.removeprefix("@").split("-")
            if len(numbers) != 3 or not all(n.isascii() and n.isdecimal() and len(n) < 11 for n in numbers):
                raise ValueError(f'"{word}" is not INSIDE-HOST-COUNT')
            inside, outside, size = map(int, numbers)
            if word.startswith("@"):
                mapped = host_id(outer, outside)
                if mapped is None or host_id(outer, outside + size - 1) != mapped + size - 1:
                    raise ValueError(f'"{word}" is not within one mapping of the container')
                outside = mapped
            entries.append({"containerID": inside, "hostID": outside, "size": size})
    if len(found) != 2:
        raise ValueError("it gives maps only for user ids or only for group ids")
    return found["uids"], found["gids"]


def check(where: str, config: Config, mount: Mount, options: Options, host: Host, report: Report) -> None:
    """Maps for both kinds of ids or the container's own, and a caller that may map."""
    if options.remount:
        report.error(f"{where}.options", "idmap is only for a new mount, not for remount", "remove it")
        return
    if host.euid != 0:
        report.error(
            f"{where}.options",
            "id-mapped mounts are for the host's root only",
            "remove idmap and the mount's mappings; without root, let the user namespace map the files' ids",
        )
        return
    if mount.get("type") in _NEVER and not is_bind(mount):
        report.error(f"{where}.options", f"{mount['type']} cannot be id-mapped", "remove idmap")
        return
    uids, gids = mount.get("uidMappings"), mount.get("gidMappings")
    if bool(uids) != bool(gids):
        given, missing = ("uidMappings", "gidMappings") if uids else ("gidMappings", "uidMappings")
        report.error(
            f"{where}.{missing}", f"is required together with {given}", f"give both, or remove {given}"
        )
        return
    try:
        maps = maps_of(config, mount, options)
    except ValueError as error:
        report.error(f"{where}.options", f"idmap={options.idmap_text}: {error}", _FORM)
        return
    if maps is None:
        if not has(config, "user"):
            report.error(
                f"{where}.options",
                "idmap without uidMappings and gidMappings needs a user namespace of the container",
                'give the mount mappings, or add {"type": "user"} to linux.namespaces',
            )
        return
    for name, mappings in (("uidMappings", maps[0]), ("gidMappings", maps[1])):
        check_ranges(f"{where}.{name}" if uids else f"{where}.options", mappings, report)


def is_for_runtime(config: Config, mount: Mount, options: Options) -> bool:
    """Whether the runtime has anything to map of this id-mapped mount.

    Made in the container's user namespace, a file system counts its ids as that does, without any mapping of the mount;
    the kernel refuses to apply the same namespace once more.
    """
    return is_bind(mount) or maps_of(config, mount, options) is not None


def plan(
    config: Config, program: Program, index: int, mount: Mount, options: Options, tree: Register, step: str
) -> None:
    """Emit letting the runtime map the ids of the detached mount `tree`, mount number `index`, and waiting for it."""
    if not is_for_runtime(config, mount, options):
        return
    give(
        program, tree, SAY_IDMAP, index, step=f"{step}: let its ids be mapped", of=f"mounts[{index}].options"
    )
    hear(program, f"{step}: wait until its ids are mapped")
