"""Where our verdict on a configuration differs from that of the official schemas, on purpose, each with its reason."""

from __future__ import annotations

from typing import Any, NamedTuple


class Difference(NamedTuple):
    """Our verdict differs at `path` (a regular expression) for `keyword`; `at` and `value` make an example."""

    path: str
    keyword: str
    at: tuple[str | int, ...]
    value: Any
    reason: str


GONE = object()
NO_ID = 2**32 - 1
UNITS = "cannot be applied, and an invalid value must be an error (spec.md)"

STRICTER = [
    Difference("root", "required", ("root",), GONE, "config.md: required on all platforms but Hyper-V"),
    Difference(r"root\.path", "pattern", ("root", "path"), "", "config.md: a directory must exist there"),
    Difference(
        r"process\.args", "required", ("process", "args"), GONE, "config.md: optional on Windows only"
    ),
    Difference(r"process\.args", "minItems", ("process", "args"), [], "config.md: at least one entry"),
    Difference(r"process\.cwd", "pattern", ("process", "cwd"), "tmp", "config.md: must be an absolute path"),
    Difference(
        r"process\.env\[\]", "pattern", ("process", "env", 0), "A", "config.md: as environ, NAME=value"
    ),
    Difference(r"process\.user\.uid", "maximum", ("process", "user", "uid"), NO_ID, "(uid_t)-1 is no id"),
    Difference(r"process\.user\.gid", "maximum", ("process", "user", "gid"), NO_ID, "(gid_t)-1 is no id"),
    Difference(
        r"process\.user\.additionalGids\[\]",
        "maximum",
        ("process", "user", "additionalGids", 0),
        NO_ID,
        "(gid_t)-1 is no id",
    ),
    Difference(
        r"process\.user\.umask", "maximum", ("process", "user", "umask"), 0o1000, f"umask(2): {UNITS}"
    ),
    Difference(
        r"process\.rlimits\[\]\.type",
        "enum",
        ("process", "rlimits", 0, "type"),
        "RLIMIT_SLEEP",
        "config.md: a value without kernel interface must be an error",
    ),
    Difference(r"process\.oomScoreAdj", "minimum", ("process", "oomScoreAdj"), -1001, f"proc(5): {UNITS}"),
    Difference(r"process\.oomScoreAdj", "maximum", ("process", "oomScoreAdj"), 1001, f"proc(5): {UNITS}"),
    Difference(
        r"process\.ioPriority\.priority",
        "required",
        ("process", "ioPriority", "priority"),
        GONE,
        "config.md: required",
    ),
    Difference(
        r"process\.ioPriority\.priority",
        "minimum",
        ("process", "ioPriority", "priority"),
        -1,
        "config.md: 0 to 7",
    ),
    Difference(
        r"process\.ioPriority\.priority",
        "maximum",
        ("process", "ioPriority", "priority"),
        8,
        "config.md: 0 to 7",
    ),
    Difference(r"mounts\[\]\.destination", "pattern", ("mounts", 0, "destination"), "", "config.md: a path"),
    Difference(
        r"hooks\.\w+\[\]\.path",
        "pattern",
        ("hooks", "poststop", 0, "path"),
        "true",
        "config.md: must be absolute",
    ),
    Difference(
        r"hooks\.\w+\[\]\.env\[\]",
        "pattern",
        ("hooks", "poststop", 0, "env", 0),
        "=v",
        "config.md: as environ",
    ),
    Difference(
        r"hooks\.\w+\[\]\.timeout", "maximum", ("hooks", "poststop", 0, "timeout"), 2**63, "config.md: an int"
    ),
    Difference(
        "annotations", "propertyNames", ("annotations", ""), "x", "config.md: a key must not be empty"
    ),
    Difference(
        r"linux\.sysctl", "propertyNames", ("linux", "sysctl", ""), "x", f"no such parameter: {UNITS}"
    ),
    Difference(
        r"linux\.resources\.unified",
        "propertyNames",
        ("linux", "resources", "unified", ""),
        "1",
        "a file name",
    ),
    Difference(
        r"linux\.namespaces\[\]\.path",
        "pattern",
        ("linux", "namespaces", 7, "path"),
        "ns/time",
        "must be absolute",
    ),
    Difference(r"linux\.devices\[\]\.path", "pattern", ("linux", "devices", 1, "path"), "vda", "a full path"),
    Difference(
        r"linux\.devices\[\]\.major", "required", ("linux", "devices", 1, "major"), GONE, "unless a FIFO"
    ),
    Difference(
        r"linux\.devices\[\]\.minor", "required", ("linux", "devices", 1, "minor"), GONE, "unless a FIFO"
    ),
    Difference(
        r"linux\.devices\[\]\.uid", "maximum", ("linux", "devices", 0, "uid"), NO_ID, "-1 keeps the owner"
    ),
    Difference(
        r"linux\.devices\[\]\.gid", "maximum", ("linux", "devices", 0, "gid"), NO_ID, "-1 keeps the group"
    ),
    Difference(r"linux\.maskedPaths\[\]", "pattern", ("linux", "maskedPaths", 0), "proc", "must be absolute"),
    Difference(
        r"linux\.readonlyPaths\[\]", "pattern", ("linux", "readonlyPaths", 0), "proc", "must be absolute"
    ),
    Difference(
        r"linux\.resources\.devices\[\]\.type",
        "enum",
        ("linux", "resources", "devices", 0, "type"),
        "u",
        "a, b or c",
    ),
    Difference(
        r"linux\.resources\.devices\[\]\.access",
        "pattern",
        ("linux", "resources", "devices", 1, "access"),
        "rx",
        "made of r, w, m",
    ),
    Difference(
        r"linux\.resources\.memory\.swappiness",
        "maximum",
        ("linux", "resources", "memory", "swappiness"),
        101,
        "config-linux.md: 0 to 100",
    ),
    Difference(
        r"linux\.seccomp\.listenerPath",
        "dependentRequired",
        ("linux", "seccomp", "listenerPath"),
        GONE,
        "config-linux.md: listenerMetadata must not be set without it",
    ),
    Difference(
        r"linux\.seccomp\.syscalls\[\]\.args\[\]\.index",
        "maximum",
        ("linux", "seccomp", "syscalls", 0, "args", 0, "index"),
        6,
        f"a system call has six arguments: {UNITS}",
    ),
    Difference(
        r"linux\.memoryPolicy\.mode",
        "required",
        ("linux", "memoryPolicy", "mode"),
        GONE,
        "config-linux.md: required",
    ),
    Difference(
        r"linux\.personality\.domain",
        "required",
        ("linux", "personality", "domain"),
        GONE,
        "config-linux.md: required",
    ),
    # Any string on its way to the kernel; also a name of an object, such as a sysctl.
    Difference(
        ".*", "NUL", ("process", "args", 0), "sh\0-c", f"the kernel would see less than was written: {UNITS}"
    ),
]
LAXER = [
    Difference(
        r"linux\.devices\[\]\.fileMode",
        "maximum",
        ("linux", "devices", 0, "fileMode"),
        0o2660,
        "config-linux.md: a uint32; engines pass a host device's set-group-id and sticky bits on, runc takes them",
    ),
    Difference(
        r"linux\.rootfsPropagation",
        "enum",
        ("linux", "rootfsPropagation"),
        "rslave",
        "docker writes the recursive forms, runc and crun take them",
    ),
]
