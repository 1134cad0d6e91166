"""update."""

from __future__ import annotations

from pyrunc.cli.options import ID, Command, Option
from pyrunc.cli.settings import store
from pyrunc.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.cli.options import Values
    from pyrunc.log import Log

#: Options whose value is a number, or a text, of a property of linux.resources.
_NUMBERS: Final = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
_SIZES: Final = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}
_TEXTS: Final = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
#: Options of properties of linux.intelRdt.
_SHARES: Final = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema", "schemata": "schemata"}
_OBSOLETE: Final = ("kernel-memory", "kernel-memory-tcp")
_UNITS: Final = "kmgtp"


def _update(settings: Values, values: Values, words: list[str], log: Log) -> int:
    file = str(values["resources"])
    if file:
        given = [name for name in (*_NUMBERS, *_SIZES, *_TEXTS, *_SHARES, *_OBSOLETE) if values[name]]
        if given:
            log.warning(f"ignored because of --resources: {', '.join([f'--{name}' for name in given])}")
        from pyrunc.config.load import load_document

        resources, source = load_document(file)
        shares: dict[str, Any] = {}
    else:
        source = "options"
        resources = _from_options(values, log)
        shares = {name: values[option] for option, name in _SHARES.items() if values[option]}
    from pyrunc.lifecycle.update import update

    update(store(settings), words[0], resources, shares, log, source)
    return 0


def _from_options(values: Values, log: Log) -> dict[str, Any]:
    """linux.resources with what the options say."""
    found: dict[str, Any] = {}
    for table, read in ((_NUMBERS, _number), (_SIZES, _size), (_TEXTS, _text)):
        for option, (group, name) in table.items():
            if text := str(values[option]):
                found.setdefault(group, {})[name] = read(option, text)
    for option in _OBSOLETE:
        if values[option]:
            log.warning(f"--{option} is ignored: kernel memory counts as memory, use --memory")
    return found


def _text(option: str, text: str) -> str:
    return text


def _number(option: str, text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise UsageError(f'invalid value for {option}: "{text}" is not a number')
    return int(text)


def _size(option: str, text: str) -> int:
    """Bytes, as docker and runc read them: `64m`, `1.5GiB`, `512 kb`; powers of 1024; -1 for no limit."""
    if text == "-1":
        return -1
    rest = text.lower().removesuffix("b").removesuffix("i")
    factor = 1
    if rest[-1:] and rest[-1] in _UNITS:
        factor = 1 << 10 * (_UNITS.index(rest[-1]) + 1)
        rest = rest[:-1]
    if text[-1:].isalpha():
        rest = rest.removesuffix(" ")
    whole, dot, part = rest.partition(".")
    digits = whole + part
    good = whole and (part or not dot) and digits.isascii() and digits.isdecimal() and len(digits) < 20
    # "64i" is none, "64b" is.
    if not good or (factor == 1 and "i" in text.lower()):
        raise UsageError(
            f'invalid value for {option}: "{text}" is no number of bytes, such as 67108864, 64m or -1'
        )
    return int(digits) * factor // int(f"1{'0' * len(part)}")


def _option(name: str, text: str, value: str = "N", hidden: bool = False) -> Option:
    return Option(name, text, value=value, hidden=hidden)


COMMANDS: Final = (
    Command(
        "update",
        "change the resources of a container",
        ID,
        1,
        1,
        (
            Option(
                "resources",
                "file with a JSON object like linux.resources of config.json, - for standard input; with it the "
                "other options are ignored",
                "r",
                "FILE",
            ),
            _option("blkio-weight", "weight of block I/O, 10 to 1000"),
            _option("cpu-period", "period of the CPU quota in microseconds"),
            _option("cpu-quota", "microseconds of CPU time in each period, -1 for no limit"),
            _option("cpu-burst", "microseconds of unused quota that may be saved up"),
            _option("cpu-share", "weight of CPU time, 2 to 262144"),
            _option("cpu-rt-period", "period of real-time tasks in microseconds (cgroup v1)"),
            _option("cpu-rt-runtime", "microseconds of real-time tasks in each of their periods (cgroup v1)"),
            _option("cpu-idle", "1: run only when nothing else does; 0: as others"),
            _option("cpuset-cpus", "CPUs to run on, such as 0-2,7", "LIST"),
            _option("cpuset-mems", "memory nodes to use", "LIST"),
            _option("memory", "memory limit in bytes, or with the unit k, m or g; -1 for no limit", "BYTES"),
            _option("memory-reservation", "memory that is left to it when the host runs short", "BYTES"),
            _option("memory-swap", "limit of memory and swap together, -1 for no limit", "BYTES"),
            _option("kernel-memory", "obsolete, ignored", "BYTES", hidden=True),
            _option("kernel-memory-tcp", "obsolete, ignored", "BYTES", hidden=True),
            _option("pids-limit", "number of tasks, -1 for no limit; 0 leaves the first process alone"),
            _option("l3-cache-schema", "line of Intel RDT for the L3 cache, such as L3:0=f", "LINE"),
            _option("mem-bw-schema", "line of Intel RDT for memory bandwidth, such as MB:0=50", "LINE"),
            Option("schemata", "any line of Intel RDT; may be given several times", value="LINE", many=True),
        ),
        "Sets limits of a created, running or paused container. What is not given stays as it is; 0, where it is "
        "no limit of its own (it is for --cpu-burst, --cpu-idle and --pids-limit), counts as not given. If one value "
        "cannot be set, those that were are put back. --resources takes every property of linux.resources, also "
        "unified and devices: device rules replace all former ones, an entry for a block device replaces the one "
        "for the same device.",
        _update,
    ),
)
