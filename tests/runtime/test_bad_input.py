"""Bad input: one clear line, a non-zero status, and nothing left behind.

Each case spoils one thing and names the words that the message must have. Before and after, the processes,
mounts, cgroups, namespaces, state directories and /dev/null of the host are compared (tests.support.footprint).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Outcome, Runtime


class Case:
    """What a case works on."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.bundle: Bundle = runtime.bundle().ask("pid")
        self.folder: Path = runtime.folder
        self.rootfs: Path = self.bundle.rootfs
        self.config: dict[str, Any] = self.bundle.config

    def create(self, *flags: str, **how: Any) -> Outcome:
        """`create` of the spoiled bundle."""
        id = self.runtime.new_id()
        return self.runtime.verb("create", "--bundle", self.runtime.put(self.bundle, id), *flags, id, **how)

    def put(self, path: str, text: str, mode: int = 0o755) -> None:
        """Make a file of the image."""
        place = self.rootfs / path
        place.write_text(text)
        place.chmod(mode)

    def program(self, *args: str) -> None:
        """Run this in the container."""
        self.bundle.process["args"] = list(args)


@pytest.fixture
def case(runtime: Runtime) -> Case:
    return Case(runtime)


@pytest.fixture(autouse=True)
def nothing_is_left(case: Case) -> Iterator[None]:
    """The host is the same after each test of this file, `delete` not being called by the test."""
    before: list[footprint.Footprint] = []
    case.before = lambda: before.append(case.runtime.footprint(case.bundle))  # type: ignore[attr-defined]
    yield
    assert before, "the test did not take its snapshot"
    before[0].assert_unchanged()


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


@pytest.mark.parametrize("verb", ["create", "run"])
def test_no_bundle(case: Case, verb: str) -> None:
    case.before()  # type: ignore[attr-defined]
    runtime = case.runtime
    outcome = runtime.verb(verb, "--bundle", "/no/such/bundle", runtime.new_id())
    assert outcome.fails("/no/such/bundle", "no such file or directory").status == 1


def test_bundle_is_a_file(case: Case) -> None:
    (case.folder / "plain").write_text("")
    case.before()  # type: ignore[attr-defined]
    case.runtime.verb("create", "--bundle", str(case.folder / "plain"), case.runtime.new_id()).fails(
        "plain", "not a directory"
    )


HOSTILE_IDS = {
    "dots": "..",
    "dot": ".",
    "slash": "a/b",
    "climb": "../../etc",
    "absolute": "/etc/x",
    "empty": "",
    "long": "x" * 1000,
    "newline": "a\nb",
    "blank": "a b",
    "umlaut": "ü",
    "star": "*",
    "not-utf-8": os.fsdecode(b"\xff\xfe"),
    "dollar": "$(id)",
    "colon": "a:b",
    "backslash": "a\\b",
}


@pytest.mark.parametrize("verb", ["create", "run", "state", "start", "kill", "delete"])
@pytest.mark.parametrize("id", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
def test_hostile_id(case: Case, verb: str, id: str) -> None:
    runtime = case.runtime
    flags = ["--bundle", runtime.put(case.bundle, "unused")] if verb in ("create", "run") else []
    case.before()  # type: ignore[attr-defined]
    outcome = runtime.verb(verb, *flags, "--", id).fails()
    assert outcome.status == 1
    assert "id" in outcome.err or "does not exist" in outcome.err
    assert len(outcome.err) < 2500


def test_nul_in_an_id_cannot_be_passed(case: Case) -> None:
    """The kernel ends an argument at a NUL: what arrives is the shorter id, and no other container is meant."""
    case.before()  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        case.runtime.verb("state", "a\0b")


@pytest.mark.parametrize("verb", ["delete", "state"])
def test_force_with_a_hostile_id(case: Case, verb: str) -> None:
    """`delete --force ../victim` removes nothing outside the state directory."""
    victim = case.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("x")
    case.runtime.root.mkdir(exist_ok=True)
    case.before()  # type: ignore[attr-defined]
    flags = ["--force"] if verb == "delete" else []
    case.runtime.verb(verb, *flags, "../victim")
    assert (victim / "file").exists()


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete"])
def test_unknown_id(case: Case, verb: str) -> None:
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.verb(verb, case.runtime.new_id()).fails("does not exist").status == 1


def test_duplicate_id(case: Case) -> None:
    case.bundle.sleeper()
    container = case.runtime.container(case.bundle)
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    place = case.runtime.put(case.bundle, container.id)
    case.runtime.verb("create", "--bundle", place, container.id).fails("already exists")
    assert container.status == "created"
    container.delete("--force").ok()


@pytest.mark.parametrize("kind", ["bounding", "effective", "permitted", "inheritable", "ambient"])
@pytest.mark.parametrize("name", ["CAP_NOSUCH", "chown", "CAP_CHOWN "])
def test_unknown_capability(case: Case, kind: str, name: str) -> None:
    """Stricter than config.md, which wants a warning: a misspelt name is a mistake of the configuration."""
    case.bundle.process["capabilities"][kind] = ["CAP_KILL", name]
    case.before()  # type: ignore[attr-defined]
    case.create().fails(f"process.capabilities.{kind}[1]", name)


def test_unknown_system_call(case: Case) -> None:
    """A name that no Linux has is a misspelt one; those of newer kernels are tested in test_seccomp.py."""
    case.bundle.seccomp("SCMP_ACT_ALLOW", {"names": ["keyctl", "nosuchcall"], "action": "SCMP_ACT_ERRNO"})
    case.before()  # type: ignore[attr-defined]
    case.create().fails("linux.seccomp.syscalls[0].names[1]", "nosuchcall")


def test_missing_cwd_is_made(case: Case) -> None:
    """As runc and crun do: a missing working directory is made, mode 0755, owned by root."""
    case.bundle.process["cwd"] = "/no/such/place"
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.ask(case.bundle, "cwd")["cwd"] == "/no/such/place"


def test_missing_cwd_that_cannot_be_made(case: Case) -> None:
    case.bundle.process["cwd"] = "/no/such/place"
    (case.folder / "source").mkdir()
    case.bundle.bind(case.folder / "source", "/no", "bind", "ro")
    case.before()  # type: ignore[attr-defined]
    case.create().fails("/no/such", "read-only file system")


@pytest.mark.parametrize("target", ["absolute", "dots"])
def test_destination_through_a_link_out(case: Case, target: str) -> None:
    """A link of the image is the image's: it is followed below its root, and the host is not touched."""
    victim = case.folder / "victim"
    victim.mkdir()
    (case.rootfs / "evil").symlink_to(str(victim) if target == "absolute" else "../" * 30 + str(victim))
    case.bundle.mount("/evil/made", "tmpfs", "tmpfs")
    case.before()  # type: ignore[attr-defined]
    said = case.runtime.ask(case.bundle, "mounts")["mounts"]
    assert f" {victim}/made " in said
    assert list(victim.iterdir()) == []


@pytest.mark.needs_root
def test_cgroup_path_is_not_writable(case: Case) -> None:
    """The cgroup file systems are read-only here (a nested container, say)."""
    script = (
        "for m in $(grep -o '/sys/fs/cgroup/[a-z_,]*' /proc/self/mounts); do mount -o remount,bind,ro $m; done; "
        'mount -o remount,bind,ro /sys/fs/cgroup 2>/dev/null; exec "$@"'
    )
    twin = case.runtime.like()
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    case.before()  # type: ignore[attr-defined]
    id = case.runtime.new_id()
    outcome = twin.verb("create", "--bundle", twin.put(case.bundle, id), id)
    outcome.fails("cgroup", "read-only file system")


@pytest.mark.parametrize("limit", [4, 16, 64, 128])
def test_memory_limit_too_low_to_start(case: Case, limit: int) -> None:
    """The message says what the reason is; `limit` in KiB."""
    case.config["linux"]["resources"] = {"memory": {"limit": limit << 10}}
    case.before()  # type: ignore[attr-defined]
    case.runtime.run(case.bundle).fails("memory limit", "too low")


@pytest.mark.parametrize(
    "status,verb",
    [
        ("created", "create"),
        ("running", "start"),
        ("running", "delete"),
        ("stopped", "start"),
        ("stopped", "kill"),
    ],
)
def test_verb_not_allowed_in_this_status(case: Case, status: str, verb: str) -> None:
    container = case.runtime.container(case.bundle.sleeper())
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    if status != "created":
        container.start().ok()
        container.says("ready")
    if status == "stopped":
        container.kill("KILL").ok()
        container.stops()
    between = case.runtime.footprint(case.bundle)
    words = [verb, container.id]
    if verb == "create":
        words = ["create", "--bundle", case.runtime.put(case.bundle, container.id), container.id]
    assert case.runtime.verb(*words).fails().status == 1
    between.assert_unchanged()
    assert container.status == status
    container.delete("--force").ok()


def test_two_creates_of_one_id_at_once(case: Case) -> None:
    id = case.runtime.new_id()
    place = case.runtime.put(case.bundle.sleeper(), id)
    case.before()  # type: ignore[attr-defined]
    calls = [case.runtime.spawn("create", "--bundle", place, id) for _ in range(3)]
    statuses = [call.process.wait(20) for call in calls]
    assert sorted(statuses) == [0, 1, 1]
    assert all(
        call.err.count("\n") == 1 and "exist" in call.err
        for call, status in zip(calls, statuses, strict=True)
        if status
    )
    case.runtime.verb("delete", "--force", id).ok()


def test_init_killed_between_create_and_start(case: Case) -> None:
    container = case.runtime.container(case.bundle.sleeper())
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    os.kill(container.pid, signal.SIGKILL)
    container.stops()
    container.start().fails("cannot start", "stopped")
    container.delete().ok()


def test_failed_exec_at_start(case: Case) -> None:
    """The file is no program at all: the kernel refuses it only when it is executed."""
    case.put("bin/garbage", "\x01\x02garbage")
    case.program("/bin/garbage")
    case.before()  # type: ignore[attr-defined]
    container = case.runtime.container(case.bundle)
    if container.create().status == 0:
        container.start().fails("/bin/garbage", "exec format error")
    else:
        assert "/bin/garbage" in container.err and "exec format error" in container.err
    container.delete("--force").ok()


def test_run_that_fails_leaves_nothing_by_itself(case: Case) -> None:
    _missing_program(case)
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.run(case.bundle).fails("executable file not found in $PATH").status == 1


def test_program_that_disappears_between_create_and_start(case: Case) -> None:
    case.put("bin/script", "#!/bin/sh\necho hello\n")
    case.program("/bin/script")
    case.before()  # type: ignore[attr-defined]
    container = case.runtime.container(case.bundle)
    container.create().ok()
    (case.rootfs / "bin" / "script").unlink()
    container.start().fails("/bin/script", "no such file or directory")
    container.delete("--force").ok()
