"""Hooks: order, where they run, what they are told, and what a failure undoes (config.md "POSIX-platform Hooks")."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, wait_for

ALL = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
RUNTIME_SIDE = ["prestart", "createRuntime", "poststart", "poststop"]


class Diary:
    """A folder shared by hooks in the runtime's and in the container's namespaces."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.path = runtime.folder / "diary"
        self.path.mkdir()
        self.inside = bundle.rootfs / "area"

    def lines(self) -> list[str]:
        """What was noted, in order."""
        file = self.path / "notes"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bundle(runtime: Runtime) -> Bundle:
    return runtime.bundle().sleeper()


@pytest.fixture
def diary(runtime: Runtime, bundle: Bundle) -> Diary:
    diary = Diary(runtime, bundle)
    bundle.bind(diary.path, "/area", "rbind")
    return diary


def note(diary: Diary, kind: str, text: str) -> str:
    """A line of shell that notes `text`, from where a hook of this kind runs."""
    place = "/area" if kind == "startContainer" else str(diary.path)
    return f'echo "{text}" >> {place}/notes'


def keep(diary: Diary, kind: str, name: str, command: str) -> str:
    """A line of shell that keeps the output of `command` in a file."""
    place = "/area" if kind == "startContainer" else str(diary.path)
    return f"{{ {command}; }} > {place}/{name}"


def test_order(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    for kind in ALL:
        bundle.hook(kind, note(diary, kind, f"{kind} 1")).hook(kind, note(diary, kind, f"{kind} 2"))
    container = runtime.container(bundle)
    container.create().ok()
    created = [f"{kind} {n}" for kind in ALL[:3] for n in (1, 2)]
    assert diary.lines() == created
    container.start().ok()
    started = [f"{kind} {n}" for kind in ALL[3:5] for n in (1, 2)]
    assert diary.lines() == created + started
    container.kill("KILL").ok()
    container.stops()
    assert diary.lines() == created + started
    container.delete().ok()
    assert diary.lines() == created + started + ["poststop 1", "poststop 2"]
    announced = json.loads(runtime.verb("features").ok().out)["hooks"]
    assert list(dict.fromkeys(line.split()[0] for line in diary.lines())) == announced


def test_poststart_comes_after_the_program(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    bundle.ask("write /area/program x", "sleep")
    bundle.hook(
        "poststart",
        f"for i in 1 2 3 4 5 6 7 8 9 10; do [ -e {diary.path}/program ] && exit 0; sleep 0.1; done; exit 1",
    )
    with runtime.running(bundle) as container:
        assert container.status == "running"


@pytest.mark.parametrize("kind", ALL)
def test_state_on_stdin(runtime: Runtime, bundle: Bundle, diary: Diary, kind: str) -> None:
    bundle.config["annotations"] = {"org.example.x": "y"}
    bundle.hook(kind, keep(diary, kind, "state", "cat"))
    container = runtime.container(bundle)
    container.create().ok()
    pid = container.pid
    container.start().ok()
    container.says("ready")
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    state: dict[str, Any] = json.loads((diary.path / "state").read_text())
    assert state["id"] == container.id
    assert state["ociVersion"].startswith("1.")
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"] == {"org.example.x": "y"}
    expected = {
        "prestart": ("creating", pid),
        "createRuntime": ("creating", pid),
        "createContainer": ("creating", 1),
        "startContainer": ("created", 1),
        "poststart": ("running", pid),
        "poststop": ("stopped", 0),
    }[kind]
    assert state["status"] == expected[0]
    if kind in RUNTIME_SIDE:
        assert state.get("pid", 0) == expected[1]
    else:
        assert state.get("pid", 0) in (1, pid)


@pytest.mark.parametrize("kind", ALL)
def test_namespaces(runtime: Runtime, bundle: Bundle, diary: Diary, kind: str) -> None:
    """Runtime-side hooks run in the caller's namespaces, the other two in the container's."""
    bundle.hook(kind, keep(diary, kind, "where", "for n in net uts ipc; do readlink /proc/self/ns/$n; done"))
    names = ("net", "uts", "ipc")
    own = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    with runtime.running(bundle) as container:
        inside = [os.readlink(f"/proc/{container.pid}/ns/{name}") for name in names]
    where = (diary.path / "where").read_text().split()
    assert where == (own if kind in RUNTIME_SIDE else inside)


def test_create_container_hook_sees_the_root_before_the_pivot(
    runtime: Runtime, bundle: Bundle, diary: Diary
) -> None:
    """Its path is the runtime's, it runs in the mount namespace of the container, in the root's directory."""
    bundle.hook(
        "createContainer",
        keep(
            diary,
            "createContainer",
            "seen",
            "pwd; ls /proc/self/cwd/bin; grep -c rootfs /proc/self/mountinfo",
        ),
    )
    with runtime.running(bundle):
        lines = (diary.path / "seen").read_text().splitlines()
        assert lines[0] == str(bundle.rootfs) and "testify" in lines
        assert int(lines[-1]) > 3


def test_create_container_hook_may_mount(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """What it mounts below the root is there in the container."""
    bundle.hook("createContainer", f"mount -t tmpfs from-hook {bundle.rootfs}/home")
    said = runtime.ask(bundle, "mounts")
    assert " /home " in said["mounts"]


def test_start_container_hook_is_the_images_program(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    bundle.hook("startContainer", keep(diary, "startContainer", "seen", "ls /; echo $$"))
    with runtime.running(bundle) as container:
        container.says("ready")
        assert "area" in (diary.path / "seen").read_text().split()


@pytest.mark.parametrize("kind", [k for k in ALL if k != "startContainer"])
def test_environment(runtime: Runtime, bundle: Bundle, diary: Diary, kind: str) -> None:
    """That of the hook, and nothing of the caller."""
    bundle.hook(kind, keep(diary, kind, "env", "/usr/bin/env"), env=["ONE=1", "TWO=a b"])
    container = runtime.container(bundle)
    container.create(env={"SECRET": "x"}).ok()
    runtime.verb("start", container.id, env={"SECRET": "x"}).ok()
    container.kill("KILL").ok()
    container.stops()
    runtime.verb("delete", container.id, env={"SECRET": "x"}).ok()
    lines = (diary.path / "env").read_text().splitlines()
    assert {"ONE=1", "TWO=a b"} <= set(lines)
    assert not any(line.startswith("SECRET") for line in lines)
    assert {line.split("=")[0] for line in lines} <= {"ONE", "TWO", "PWD", "SHLVL", "_", "OLDPWD"}


def test_environment_of_a_hook_of_the_image(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """The same: neither the caller's nor the process's."""
    bundle.process["env"] = ["PATH=/bin", "OF_THE_PROCESS=x"]
    bundle.hook("startContainer", keep(diary, "startContainer", "env", "export"), env=["ONE=1"])
    container = runtime.container(bundle)
    container.create(env={"SECRET": "x"}).ok()
    runtime.verb("start", container.id, env={"SECRET": "x"}).ok()
    names = [line.split()[-1].split("=")[0] for line in (diary.path / "env").read_text().splitlines()]
    assert "ONE" in names
    assert not {"SECRET", "OF_THE_PROCESS"} & set(names)


def test_args(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """`args` is the whole argv, as in execv(3)."""
    bundle.config["hooks"] = {
        "createRuntime": [
            {
                "path": "/bin/sh",
                "args": ["name-given", "-c", f"echo $0 $1 > {diary.path}/args", "zero", "one"],
            }
        ]
    }
    with runtime.running(bundle):
        assert (diary.path / "args").read_text().split() == ["zero", "one"]


def test_hook_without_args(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    script = runtime.folder / "hook"
    script.write_text(f"#!/bin/sh\necho $# $0 > {diary.path}/args\n")
    script.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [{"path": str(script)}]}
    with runtime.running(bundle):
        assert (diary.path / "args").read_text().split() == ["0", str(script)]


@pytest.mark.parametrize("kind", RUNTIME_SIDE)
def test_no_descriptor_leaks_into_hooks(runtime: Runtime, bundle: Bundle, diary: Diary, kind: str) -> None:
    bundle.hook(kind, keep(diary, kind, "fds", "ls /proc/self/fd"))
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.delete("--force").ok()
    assert set((diary.path / "fds").read_text().split()) <= {"0", "1", "2", "3"}  # 3: ls reads the directory


def test_output_of_hooks_is_not_the_containers(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    for kind in ALL[:5]:
        bundle.hook(kind, "echo noise; echo noise >&2")
    with runtime.running(bundle) as container:
        container.says("ready")
        assert "noise" not in container.out and "noise" not in container.err


def test_hook_that_does_not_read_its_stdin(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.long": "x" * 300000}
    bundle.hook("createRuntime", "exec <&-; exit 0")
    with runtime.running(bundle):
        pass


@pytest.mark.parametrize("kind", ALL[:3])
def test_failure_during_create(runtime: Runtime, bundle: Bundle, diary: Diary, kind: str) -> None:
    """Nothing stays; later hooks do not run; poststop hooks do (lifecycle, step 12 and 13)."""
    bundle.hook(kind, "echo out; echo because >&2; exit 3").hook(kind, note(diary, kind, "second"))
    for later in ALL[ALL.index(kind) + 1 : 5]:
        bundle.hook(later, note(diary, later, later))
    bundle.hook("poststop", note(diary, "poststop", "poststop"))
    before = runtime.footprint(bundle)
    before.skip = (*before.skip, diary.path)
    before.before = before.look()
    container = runtime.container(bundle)
    container.create().fails(f"{kind} hook", "3", "because")
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()
    assert diary.lines() == ["poststop"]


def test_failure_of_start_container(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """start fails, the program never runs, the container is gone or stopped for good."""
    bundle.ask("write /area/program x").hook("startContainer", "exit 4").hook(
        "poststart", note(diary, "poststart", "poststart")
    )
    container = runtime.container(bundle)
    container.create().ok()
    container.start().fails("startContainer hook", "4")
    assert not (diary.path / "program").exists()
    assert diary.lines() == []
    gone_or_stopped(runtime, container.id)


def gone_or_stopped(runtime: Runtime, id: str) -> None:
    """The container is stopped, or was deleted."""

    def check() -> bool:
        outcome = runtime.verb("state", id)
        return outcome.status != 0 or json.loads(outcome.out)["status"] == "stopped"

    wait_for(check, say="the end of the container")


def test_failure_of_poststart(runtime: Runtime, bundle: Bundle) -> None:
    """runtime-spec 1.3: error, the process is stopped."""
    bundle.hook("poststart", "exit 5")
    container = runtime.container(bundle)
    container.create().ok()
    pid = container.pid
    container.start().fails("poststart hook", "5")
    wait_for(
        lambda: (entry := footprint.stat_of(pid)) is None or entry[1] == "Z", say="the end of the process"
    )
    gone_or_stopped(runtime, container.id)


def test_failure_of_poststop(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """A warning; the rest goes on, and delete succeeds."""
    bundle.hook("poststop", "exit 6").hook("poststop", note(diary, "poststop", "second"))
    container = runtime.container(bundle)
    container.create().ok()
    outcome = container.delete("--force")
    assert outcome.status == 0, repr(outcome)
    assert "poststop hook" in outcome.err and "Traceback" not in outcome.err
    assert diary.lines() == ["second"]
    runtime.verb("state", container.id).fails("does not exist")


@pytest.mark.parametrize("kind", ALL)
def test_timeout(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    command = "exec sleep 60"
    bundle.hook(kind, command, timeout=1)
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    started = time.monotonic()
    if kind in ("startContainer", "poststart"):
        container.create().ok()
        outcome = container.start()
    elif kind == "poststop":
        container.create().ok()
        outcome = container.delete().ok()  # a warning
        assert "poststop hook" in outcome.err and "timeout" in outcome.err
    else:
        outcome = container.create()
    if kind != "poststop":
        outcome.fails(f"{kind} hook", "timeout")
    assert 0.9 < time.monotonic() - started < 8
    container.delete("--force")
    before.assert_unchanged()


def test_hook_within_its_timeout(runtime: Runtime, bundle: Bundle) -> None:
    bundle.hook("createRuntime", "exit 0", timeout=30)
    started = time.monotonic()
    with runtime.running(bundle):
        pass
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    "hook,words",
    [
        ({"path": "/no/such/hook"}, ("/no/such/hook", "no such file or directory")),
        ({"path": "relative"}, ("hooks.createRuntime[0].path",)),
        ({"path": "/etc/passwd"}, ("/etc/passwd", "permission denied")),
        ({"path": "/bin/true", "timeout": 0}, ("hooks.createRuntime[0].timeout",)),
        ({"path": "/bin/true", "timeout": -1}, ("hooks.createRuntime[0].timeout",)),
        ({"args": ["x"]}, ("hooks.createRuntime[0]", "path")),
    ],
    ids=["missing", "relative", "not-executable", "timeout-0", "timeout-negative", "no-path"],
)
def test_bad_hooks(runtime: Runtime, bundle: Bundle, hook: dict[str, Any], words: tuple[str, ...]) -> None:
    """Of each kind: `test_rules_hold_for_each_kind`."""
    bundle.config["hooks"] = {"createRuntime": [hook]}
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails(*words)
    before.assert_unchanged()


@pytest.mark.parametrize("kind", ALL)
def test_rules_hold_for_each_kind(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """config.md: `path` MUST be absolute, `timeout` MUST be greater than zero."""
    for hook, name in (({"path": "relative"}, "path"), ({"path": "/bin/true", "timeout": 0}, "timeout")):
        bundle.config["hooks"] = {kind: [hook]}
        runtime.container(bundle).create().fails(f"hooks.{kind}[0].{name}")


@pytest.mark.needs_root
@pytest.mark.parametrize("verb", ["create", "run"])
def test_what_cannot_be_undone_is_told(runtime: Runtime, bundle: Bundle, verb: str) -> None:
    """The hook's failure is the error; what it keeps from being removed is a warning."""
    container = runtime.container(bundle)
    place = runtime.root / container.id / "mine"
    bundle.hook("createRuntime", f"mkdir {place}; mount -t tmpfs mine {place}; exit 9")
    outcome = container.create() if verb == "create" else container.run_detached()
    outcome.fails("createRuntime hook", "exit status 9")
    warnings = [line for line in outcome.err.splitlines() if "level=warning" in line]
    assert len(warnings) == 1 and "left behind" in warnings[0], outcome.err
    assert str(place.parent) in warnings[0] and "device or resource busy" in warnings[0]
    subprocess.run(["umount", place], check=True)


@pytest.mark.needs_root
def test_child_of_a_failing_container_hook(runtime: Runtime, bundle: Bundle) -> None:
    """It belongs to the container, and ends with it, also where no PID namespace ends."""
    bundle.without_namespace("pid").hook("createContainer", "sleep 60 & sleep 61 & exit 3")
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails("createContainer hook", "exit status 3")
    before.assert_unchanged()


@pytest.mark.parametrize("kind", RUNTIME_SIDE)
def test_directory_and_descriptors(
    runtime: Runtime, bundle: Bundle, diary: Diary, folder: Path, kind: str
) -> None:
    """A hook starts in the bundle, with nothing but stdio of what the runtime's caller had open."""
    bundle.hook(kind, keep(diary, kind, "seen", "pwd; for f in /proc/$$/fd/*; do readlink $f || :; done"))
    (folder / "secret").touch()

    def arrange() -> None:
        os.dup2(os.open(folder / "secret", os.O_RDONLY), 7)
        os.dup2(7, 3)

    how: dict[str, Any] = {"preexec_fn": arrange, "close_fds": False}
    container = runtime.container(bundle)
    container.create("--preserve-fds", "1", **how).ok()
    runtime.verb("start", container.id, **how).ok()
    runtime.verb("delete", "--force", container.id, **how).ok()
    where, *descriptors = (diary.path / "seen").read_text().splitlines()
    assert where == str(bundle.path)
    assert str(folder / "secret") not in descriptors


def test_poststop_after_the_bundle_has_gone(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    bundle.hook("poststop", note(diary, "poststop", "ran"))
    with runtime.running(bundle):
        os.rename(bundle.path, runtime.folder / "elsewhere")
    assert diary.lines() == ["ran"]


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["createContainer", "startContainer"])
@pytest.mark.parametrize("mapped", [False, True])
def test_container_hook_gets_no_file_of_the_host(
    runtime: Runtime, bundle: Bundle, kind: str, mapped: bool
) -> None:
    """What it prints goes to memory that is charged to it: it cannot fill the host's /run, nor read or keep more."""
    if mapped:
        bundle.map_ids()
    bundle.hook(kind, "readlink /proc/self/fd/1; readlink /proc/self/fd/2; echo on stderr >&2; exit 3")
    container = runtime.container(bundle)
    outcome = container.create()
    if kind == "startContainer":
        outcome.ok()
        assert not any("hook" in name for name in os.listdir(runtime.root / container.id))
        outcome = container.start()
    outcome.fails(f"{kind} hook", "exit status 3", "on stderr")
    lines = outcome.err.partition("output: ")[2].split("\\n")
    assert [line.split()[0] for line in lines[:2]] == ["/memfd:hook-output"] * 2


def test_hook_killed_by_a_signal(runtime: Runtime, bundle: Bundle) -> None:
    bundle.hook("createRuntime", "kill -9 $$")
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails("createRuntime hook", "killed")
    before.assert_unchanged()


def test_create_runtime_hook_finds_the_container(runtime: Runtime, bundle: Bundle, diary: Diary) -> None:
    """The namespaces exist (network plugins rely on it), and the process is in its cgroup."""
    script = (
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); "
        f"readlink /proc/$pid/ns/net > {diary.path}/net; cat /proc/$pid/cgroup > {diary.path}/cgroup"
    )
    bundle.hook("createRuntime", script, env=["PATH=/usr/bin:/bin"])
    with runtime.running(bundle) as container:
        assert (diary.path / "net").read_text().strip() == os.readlink(f"/proc/{container.pid}/ns/net")
        assert container.id in (diary.path / "cgroup").read_text()


def test_hooks_of_run(runtime: Runtime, bundle: Bundle, diary: Diary, folder: Path) -> None:
    for kind in ALL:
        bundle.hook(kind, note(diary, kind, kind))
    assert runtime.run(bundle.ask("exit 7")).status == 7
    assert diary.lines() == ALL


@pytest.mark.needs_root
def test_a_hook_in_a_joined_pid_namespace_is_told_the_pid_there(runtime: Runtime) -> None:
    """The pid of the state is one that the hook can use: neither 1, which is somebody else, nor the host's."""
    with runtime.running(runtime.bundle().sleeper()) as other:
        bundle = runtime.bundle().namespace("pid", f"/proc/{other.pid}/ns/pid").ask("pid", "read /area/state")
        bundle.hook("startContainer", "cat > /area/state")
        said = runtime.run(bundle).ok().testimony
        assert json.loads(said["read /area/state"])["pid"] == said["pid"] > 1
