"""What of a list of mounts can be mounted into a container that runs, beyond `rules`; and what may be unmounted."""

from __future__ import annotations

from pyrunc.linux.mounts import filesystem
from pyrunc.linux.mounts.facts import destination_of, is_bind
from pyrunc.linux.mounts.options import parse
from pyrunc.linux.mounts.rules import PROC_FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config, Mount
    from pyrunc.validate.report import Report


def check_add(config: Config, report: Report) -> None:
    """What `create` would mount, and what cannot be mounted into a container that runs."""
    for index, mount in enumerate(config["mounts"]):
        where = f"mounts[{index}]"
        options = parse(mount.get("options") or ())
        kind = "" if is_bind(mount) else mount.get("type", "")
        _check_place(where, config, mount, report)
        if options.remount:
            report.error(
                f"{where}.options",
                "a remount changes a mount that is there, and could not be taken back",
                "remove the mount, and add it with the other options",
            )
        elif kind in ("cgroup", "cgroup2"):
            report.error(
                f"{where}.type",
                f"{kind} can only be mounted by create",
                "list it in config.json, or bind-mount a directory of /sys/fs/cgroup",
            )
        elif kind:
            settings = filesystem.settings_of(kind, options)
            if filesystem.way_of(kind, mount.get("source", ""), settings, options) == filesystem.PAGE:
                report.error(
                    where,
                    "silent, iversion, and options longer than 255 bytes, take mount(2), which only create uses",
                    "mount it on the host, and bind-mount it",
                )


def check_remove(config: Config, report: Report) -> None:
    """What must stay mounted."""
    for index, mount in enumerate(config["mounts"]):
        where, path = f"mounts[{index}]", destination_of(mount)
        _check_place(where, config, mount, report)
        if path.startswith("/proc/") and path not in PROC_FILES:
            report.error(f"{where}.destination", f'"{path}": what is mounted inside /proc stays')


def _check_place(where: str, config: Config, mount: Mount, report: Report) -> None:
    """Where mounts come and go: not in place of the root, not over or under what the container must not see or change.

    A new /proc or /sys would show what is masked in the one that is there.
    """
    path = destination_of(mount)
    where = f"{where}.destination"
    linux = config.get("linux", {})
    if path == "/":
        report.error(
            where, "the root of a container that runs cannot be another one", "mount on a directory in it"
        )
    elif path == "/proc":
        report.error(where, f'"{path}": /proc of a container that runs stays as it is', "mount elsewhere")
    else:
        for kept in (*(linux.get("maskedPaths") or ()), *(linux.get("readonlyPaths") or ())):
            if f"{kept}/".startswith(f"{path}/"):
                report.error(
                    where, f'"{path}" is, or holds, {kept}, which is masked or read-only', "mount elsewhere"
                )
                break
