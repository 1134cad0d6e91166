"""What a list of mounts must fulfil beyond the schema (config.md "Mounts")."""

from __future__ import annotations

from errno import EACCES, ENOENT, ENOTDIR

from pyrunc.errors import kernel_word
from pyrunc.linux.mounts.facts import VALUE_MAX, destination_of, is_bind, source_of
from pyrunc.linux.mounts.filesystem import CONTEXT, LAYERS, NOT_AT_ALL, PAGE_MAX, settings_of, way_of
from pyrunc.linux.mounts.options import Options, parse
from pyrunc.linux.namespaces import has, is_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config, IDMapping, Mount
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

#: Files of procfs that may be mounted over, because engines show the container's own numbers there (lxcfs).
#: Nothing else below /proc may: the runtime and security modules write there (CVE-2019-16884).
PROC_FILES: Final = frozenset(
    (
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
    )
)

OLD: Final = "which this kernel (before Linux 5.12) lacks, or a seccomp filter around pyrunc refuses"

#: File systems that must be mounted on a directory of the image itself: one with a symbolic link at /proc or /sys
#: wants them elsewhere than where runtimes look (CVE-2023-27561, CVE-2023-28642).
ORDINARY: Final = ("proc", "sysfs")


def check(config: Config, host: Host, report: Report) -> None:
    """Every mount by itself, and that there is a mount namespace to make them in."""
    mounts = config.get("mounts")
    if not mounts:
        return
    if not has(config, "mount"):
        report.error(
            "mounts",
            "mounts need a mount namespace of the container",
            'add {"type": "mount"} to linux.namespaces',
        )
    linux = config.get("linux", {})
    new = is_new(config, "user")
    mappings = {
        "uid": linux.get("uidMappings") if new else None,
        "gid": linux.get("gidMappings") if new else None,
    }
    known: dict[tuple[str, ...], Options] = {}
    for index, mount in enumerate(mounts):
        where = f"mounts[{index}]"
        words = tuple(mount.get("options") or ())
        options = known.get(words)
        if "\0" in mount["destination"] + mount.get("source", "") + mount.get("type", "") or (
            options is None and "\0" in "".join(words)
        ):
            report.error(where, "contains a NUL byte")
            continue
        if options is None:
            options = known[words] = parse(words)
        if options.idmap or mount.get("uidMappings") or mount.get("gidMappings"):
            from pyrunc.linux.mounts import idmapped

            idmapped.check(where, config, mount, options, host, report)
        if options.copy_up and (options.remount or options.bind or mount.get("type") != "tmpfs"):
            report.error(f"{where}.options", "tmpcopyup is only for a new tmpfs", "remove it")
        if host.old_mounts:
            _check_old(where, mount, options, report)
        _check_destination(where, mount, options, host, report)
        if is_bind(mount):
            _check_bind(where, mount, options, host, report)
        else:
            _check_filesystem(where, mount, options, host, mappings, report)


def _check_old(where: str, mount: Mount, options: Options, report: Report) -> None:
    """What mount(2) cannot do (mounts/old.py)."""
    below = options.set_all or options.clear_all
    if options.idmap or mount.get("uidMappings") or mount.get("gidMappings"):
        report.error(f"{where}.options", "idmap needs mount_setattr(2)", OLD)
    elif below and (options.remount or options.recursive):
        report.error(f"{where}.options", "options for all mounts below need mount_setattr(2)", OLD)


def _check_destination(where: str, mount: Mount, options: Options, host: Host, report: Report) -> None:
    given = mount["destination"]
    if not given:
        report.error(f"{where}.destination", "is empty", "give an absolute path in the container")
        return
    if not given.startswith("/"):
        report.warn(
            f"{where}.destination",
            f'"{given}" is relative, which is deprecated; it is taken relative to /',
            "write it with a leading /",
        )
    path = destination_of(mount)
    if path in host.links:
        if mount.get("type") in ORDINARY:
            report.error(
                f"{where}.destination",
                f'filesystem "{mount["type"]}" must be mounted on ordinary directory: {path} is a symbolic link in the '
                f"image and leads to {host.links[path]}",
                "correct the image",
            )
            return
        path = host.links[path]
    if path == "/proc":
        # Whether a bind mount's source is procfs is for init to see.
        if mount.get("type") != "proc" and not is_bind(mount) and not options.remount:
            report.error(f"{where}.destination", "/proc cannot be mounted because it is not of type proc")
    elif path.startswith("/proc/") and path not in PROC_FILES:
        report.error(
            f"{where}.destination",
            f'"{path}" cannot be mounted because it is inside /proc',
            "use maskedPaths or readonlyPaths, or mount elsewhere",
        )


def _check_bind(where: str, mount: Mount, options: Options, host: Host, report: Report) -> None:
    if options.data:
        shown = ", ".join(options.data)
        report.error(
            f"{where}.options",
            f"bind mounts cannot have any filesystem-specific options: {shown}",
            "an unknown or misspelt option, or one for another type of mount",
        )
    if shared := options.of_file_system:
        # The peers drop them, too, and engines pass on what users write: no reason to refuse the container.
        report.warn(
            f"{where}.options",
            f"{', '.join(shared)} on {destination_of(mount)}: without effect, for they belong to the file system and "
            "not to a bind mount of it",
            "give them where the file system is mounted",
        )
    if options.remount:
        return
    if not mount.get("source"):
        report.error(f"{where}.source", "is missing", "name the file or directory to bind-mount")
        return
    source = source_of(mount, host.bundle)
    mode = host.sources[source]
    if mode >= 0 or (mode == -EACCES and host.euid == 0):
        return
    remedy = ""
    if mode in (-ENOENT, -ENOTDIR):
        remedy = "create it or remove the mount"
    elif mode == -EACCES:
        remedy = "the caller must be able to reach it"
    report.error(f"{where}.source", f"bind source path: stat {source}: {kernel_word(-mode)}", remedy)


def _check_filesystem(
    where: str,
    mount: Mount,
    options: Options,
    host: Host,
    mappings: dict[str, list[IDMapping] | None],
    report: Report,
) -> None:
    kind = mount.get("type", "")
    if kind in ("", "none") and not options.remount:
        report.error(
            f"{where}.type",
            "is missing" if not kind else '"none" is not a file system',
            "name a file system of /proc/filesystems, or add the option bind or rbind",
        )
        return
    if options.remount and options.of_new_file_system:
        report.warn(
            f"{where}.options",
            f"{', '.join(options.of_new_file_system)} on {destination_of(mount)}: without effect, for only a new "
            "file system takes them",
            "give them where it is mounted",
        )
    settings = settings_of(kind, options)
    source = mount.get("source", "")
    way = way_of(kind, source, settings, options)
    if way == NOT_AT_ALL or (way == LAYERS and host.old_mounts):
        report.error(
            f"{where}.options" if len(source) < VALUE_MAX else where,
            f"source and options are longer than the page of {PAGE_MAX} bytes that the kernel takes",
            "shorten the paths; of an overlay, 500 layers of at most 255 bytes each are taken, without escapes in them",
        )
    elif options.remount and way != CONTEXT and not any(options.flags.values()):
        report.error(
            f"{where}.options", f"an option of a remount is longer than {VALUE_MAX} bytes", "shorten it"
        )
    for name, value in settings:
        ids = mappings.get(name)
        if ids and value and value.isdecimal() and len(value) < 11:
            number = int(value)
            if not any(0 <= number - entry["containerID"] < entry["size"] for entry in ids):
                report.error(
                    f"{where}.options",
                    f"cannot specify {name}={value} mount option for unmapped {name} in the user namespace",
                    f"remove {name}={value}, or map it in linux.{name}Mappings",
                )
