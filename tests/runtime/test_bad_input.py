"""Bad input: one clear line, a non-zero status, and nothing left behind.

Each case spoils one thing and names the words that the message must have. Before and after, the processes,
mounts, cgroups, namespaces, state directories and /dev/null of the host are compared (tests.support.footprint).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bad_input import Case

pytestmark = pytest.mark.usefixtures("nothing_is_left")

Spoil = Callable[[Case], Any]


def _set(path: str, value: Any) -> Spoil:
    """Set one property; `path` is dotted, numbers are positions."""

    def spoil(case: Case) -> None:
        *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
        at: Any = case.config
        for word in way:
            at = at[word]
        at[last] = value

    return spoil


def _drop(path: str) -> Spoil:
    """Take one property out."""

    def spoil(case: Case) -> None:
        *way, last = path.split(".")
        at: Any = case.config
        for word in way:
            at = at[word]
        del at[last]

    return spoil


def _raw(text: str | bytes) -> Spoil:
    """Let config.json be this text."""
    return lambda case: case.bundle.raw(text)


def _no_config(case: Case) -> None:
    case.bundle.raw("")
    (case.bundle.path / "config.json").unlink()


def _directory_as_config(case: Case) -> None:
    _no_config(case)
    (case.bundle.path / "config.json").mkdir()


def _missing_program(case: Case) -> None:
    case.program("nosuch-program")


def _missing_absolute(case: Case) -> None:
    case.program("/bin/nosuch-program")


def _not_executable(case: Case) -> None:
    case.put("bin/plain", "text", 0o644)
    case.program("/bin/plain")


def _directory(case: Case) -> None:
    case.program("/area")


def _missing_interpreter(case: Case) -> None:
    case.put("bin/script", "#!/no/such/interpreter -x\necho no\n")
    case.program("/bin/script")


def _missing_interpreter_on_path(case: Case) -> None:
    case.put("bin/script", "#! /no/such/interpreter\n")
    case.program("script")


def _missing_loader(case: Case) -> None:
    """A dynamic executable of the host without its loader."""
    case.put("bin/dynamic", "")
    (case.rootfs / "bin" / "dynamic").write_bytes(Path("/bin/true").read_bytes())
    case.program("dynamic")


def _not_a_program(case: Case) -> None:
    case.put("bin/garbage", "\x01\x02garbage")
    case.program("/bin/garbage")


def _rootfs_file(case: Case) -> None:
    (case.bundle.path / "plain").write_text("")
    case.config["root"]["path"] = "plain"


def _rootfs_link(case: Case) -> None:
    (case.bundle.path / "link").symlink_to("/usr")
    case.config["root"]["path"] = "link"


def _file_in_the_way(case: Case) -> None:
    case.put("area/file", "", 0o644)
    case.bundle.mount("/area/file", "tmpfs", "tmpfs")


def _cwd_is_a_file(case: Case) -> None:
    case.put("area/file", "", 0o644)
    case.bundle.process["cwd"] = "/area/file"


def _link(target: str) -> Spoil:
    def spoil(case: Case) -> None:
        (case.rootfs / "evil").symlink_to(target)
        case.bundle.mount("/evil", "tmpfs", "tmpfs")

    return spoil


def _loop(case: Case) -> None:
    (case.rootfs / "a").symlink_to("b")
    (case.rootfs / "b").symlink_to("a")
    case.bundle.mount("/a", "tmpfs", "tmpfs")


def _outside_uid(case: Case) -> None:
    case.bundle.map_ids(size=1000)
    case.bundle.process["user"]["uid"] = 1000


def _outside_gid(case: Case) -> None:
    case.bundle.map_ids(size=1000)
    case.bundle.process["user"]["gid"] = 1000


def _outside_group(case: Case) -> None:
    case.bundle.map_ids(size=1000)
    case.bundle.process["user"]["additionalGids"] = [5, 1000]


def _seccomp(**change: Any) -> Spoil:
    def spoil(case: Case) -> None:
        case.bundle.seccomp("SCMP_ACT_ALLOW", {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}, **change)

    return spoil


def _hook(kind: str, script: str, **more: Any) -> Spoil:
    return lambda case: case.bundle.hook(kind, script, **more)


def _init_of_nothing(case: Case) -> None:
    _drop("process")(case)
    case.config["annotations"] = {"run.pyrunc.init": "true"}


def _two_problems(case: Case) -> None:
    case.bundle.process["cwd"] = 7
    case.config["root"]["readonly"] = "yes"


CASES: list[tuple[str, Spoil, tuple[str, ...]]] = [
    # the file
    ("no-config", _no_config, ("config.json", "not found")),
    ("config-is-a-directory", _directory_as_config, ("config.json", "not a regular file")),
    ("empty-file", _raw(""), ("config.json",)),
    ("not-json", _raw("{ this is not JSON"), ("config.json", "line 1")),
    ("cut-off", _raw('{"ociVersion": "1.0.2", "process": {'), ("config.json",)),
    ("not-an-object", _raw("[1, 2]"), ("object",)),
    ("text-after-the-end", _raw('{"ociVersion": "1.0.2"} x'), ("config.json",)),
    ("not-utf-8", _raw(b'{"ociVersion": "1.0.2", "hostname": "\xff\xfe"}'), ("config.json", "utf-8")),
    (
        "duplicate-name",
        _raw('{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "root": {"path": "other"}}'),
        ("root", "more than once"),
    ),
    ("nan", _raw('{"ociVersion": "1.0.2", "root": {"path": NaN}}'), ("NaN",)),
    ("deep", _raw('{"ociVersion": "1.0.2", "x": ' + "[" * 100000 + "]" * 100000 + "}"), ("config.json",)),
    ("nul-in-text", _set("hostname", "a\0b"), ("hostname",)),
    # shapes
    ("args-is-text", _set("process.args", "sh"), ("process.args", "list")),
    ("uid-is-text", _set("process.user.uid", "0"), ("process.user.uid", "number")),
    ("uid-negative", _set("process.user.uid", -1), ("process.user.uid",)),
    ("uid-too-large", _set("process.user.uid", 2**32), ("process.user.uid",)),
    ("terminal-is-a-number", _set("process.terminal", 1), ("process.terminal", "true or false")),
    ("mounts-is-an-object", _set("mounts", {}), ("mounts", "list")),
    ("two-problems-at-once", _two_problems, ("process.cwd", "root.readonly")),
    ("no-ociVersion", _drop("ociVersion"), ("ociVersion", "missing")),
    ("no-root", _drop("root"), ("root",)),
    ("no-root-path", _drop("root.path"), ("root", "path")),
    ("no-process", _drop("process"), ("process: is missing",)),
    ("no-process-for-an-init", _init_of_nothing, ("process: is missing",)),
    ("no-args", _drop("process.args"), ("process.args",)),
    ("no-cwd", _drop("process.cwd"), ("process", "cwd")),
    ("no-destination", _set("mounts.0", {"type": "proc", "source": "proc"}), ("mounts[0]", "destination")),
    ("version-2", _set("ociVersion", "2.0.0"), ("ociVersion", "2.0.0")),
    ("version-0", _set("ociVersion", "0.5.0"), ("ociVersion", "0.5.0")),
    ("version-no-semver", _set("ociVersion", "one"), ("ociVersion", "one")),
    ("empty-version", _set("ociVersion", ""), ("ociVersion",)),
    # the root
    ("rootfs-missing", _set("root.path", "nosuch"), ("root", "nosuch", "no such file or directory")),
    ("rootfs-is-a-file", _rootfs_file, ("root", "plain", "not a directory")),
    ("rootfs-is-a-link-out", _rootfs_link, ("root", "link")),
    ("rootfs-empty", _set("root.path", ""), ("root",)),
    # the program
    ("args-empty", _set("process.args", []), ("process.args",)),
    ("args-with-empty-name", _set("process.args", [""]), ('exec: ""',)),
    ("program-missing", _missing_program, ('exec: "nosuch-program"', "executable file not found in $PATH")),
    ("program-missing-absolute", _missing_absolute, ("/bin/nosuch-program", "no such file or directory")),
    ("program-not-executable", _not_executable, ("/bin/plain", "permission denied")),
    ("program-is-a-directory", _directory, ("/area",)),
    (
        "interpreter-missing",
        _missing_interpreter,
        ("/bin/script", "/no/such/interpreter", "no such file or directory"),
    ),
    (
        "interpreter-missing-on-path",
        _missing_interpreter_on_path,
        ("script", "/no/such/interpreter", "no such file or directory"),
    ),
    ("loader-missing", _missing_loader, ("dynamic", "ld-linux", "no such file or directory")),
    # places
    ("cwd-relative", _set("process.cwd", "area"), ("process.cwd", "absolute")),
    ("cwd-empty", _set("process.cwd", ""), ("process.cwd",)),
    ("cwd-is-a-file", _cwd_is_a_file, ("/area/file", "not a directory")),
    (
        "bind-source-missing",
        lambda case: case.bundle.bind("/no/such/source", "/area"),
        ("mounts[5]", "/no/such/source", "no such file or directory"),
    ),
    ("file-where-a-directory-must-be", _file_in_the_way, ("/area/file", "not a directory")),
    ("destination-loops", _loop, ("/a", "too many levels of symbolic links")),
    ("destination-magic-link", _link("/proc/1/root"), ("mounts[5].destination",)),
    ("destination-magic-fd", _link("/proc/self/fd/3"), ("mounts[5].destination",)),
    ("destination-in-proc", lambda case: case.bundle.bind("/etc", "/proc/sys"), ("/proc/sys",)),
    (
        "unknown-file-system",
        lambda case: case.bundle.mount("/area", "nosuchfs", "x"),
        ("/area", "nosuchfs", "no such device"),
    ),
    (
        "bad-mount-data",
        lambda case: case.bundle.mount("/area", "tmpfs", "x", "nosuchoption"),
        ("/area", "nosuchoption"),
    ),
    # ids and rights
    ("uid-outside-the-mapping", _outside_uid, ("process.user.uid", "1000", "map")),
    ("gid-outside-the-mapping", _outside_gid, ("process.user.gid", "1000", "map")),
    ("group-outside-the-mapping", _outside_group, ("additionalGids", "1000", "map")),
    (
        "rlimit-unknown",
        _set("process.rlimits", [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]),
        ("process.rlimits[0]", "RLIMIT_NOSUCH"),
    ),
    # seccomp
    (
        "seccomp-default-action",
        _seccomp(defaultAction="SCMP_ACT_NOSUCH"),
        ("linux.seccomp.defaultAction", "SCMP_ACT_NOSUCH"),
    ),
    (
        "seccomp-action",
        _seccomp(syscalls=[{"names": ["keyctl"], "action": "SCMP_ACT_NOSUCH"}]),
        ("linux.seccomp.syscalls[0].action", "SCMP_ACT_NOSUCH"),
    ),
    (
        "seccomp-operator",
        _seccomp(
            syscalls=[
                {
                    "names": ["keyctl"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}],
                }
            ]
        ),
        ("linux.seccomp.syscalls[0].args[0].op", "SCMP_CMP_NOSUCH"),
    ),
    (
        "seccomp-architecture",
        _seccomp(architectures=["SCMP_ARCH_NOSUCH"]),
        ("linux.seccomp.architectures[0]", "SCMP_ARCH_NOSUCH"),
    ),
    # cgroups
    ("memory-too-low", _set("linux.resources", {"memory": {"limit": 4096}}), ("memory", "limit")),
    (
        "pids-too-low-type",
        _set("linux.resources", {"pids": {"limit": "ten"}}),
        ("linux.resources.pids.limit",),
    ),
    ("cgroups-path-type", _set("linux.cgroupsPath", 7), ("linux.cgroupsPath",)),
    # hooks
    (
        "hook-fails",
        _hook("createRuntime", "echo why >&2; exit 3"),
        ("createRuntime hook", "exit status 3", "why"),
    ),
    ("prestart-hook-fails", _hook("prestart", "exit 1"), ("prestart hook", "exit status 1")),
    ("container-hook-fails", _hook("createContainer", "exit 9"), ("createContainer hook", "9")),
    ("hook-times-out", _hook("createRuntime", "exec sleep 30", timeout=1), ("createRuntime hook", "timeout")),
    (
        "container-hook-times-out",
        _hook("createContainer", "exec sleep 30", timeout=1),
        ("createContainer hook", "timeout"),
    ),
    (
        "hook-missing",
        _set("hooks", {"createRuntime": [{"path": "/no/such/hook"}]}),
        ("/no/such/hook", "no such file or directory"),
    ),
]


@pytest.mark.parametrize("spoil,words", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_create(case: Case, spoil: Spoil, words: tuple[str, ...]) -> None:
    spoil(case)
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.run(case.bundle).fails(*words).status == 1


def test_run_that_fails_leaves_nothing_by_itself(case: Case) -> None:
    _missing_program(case)
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.run(case.bundle).fails("executable file not found in $PATH").status == 1
