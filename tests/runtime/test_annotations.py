"""Annotations with a meaning (docs/annotations.md), each as the container or the caller notices it."""

from __future__ import annotations

import array
import errno
import json
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from pyrunc.config.annotations import MEANINGS, WITHOUT
from tests.runtime.test_seccomp import everything, rule
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime, wait_for
from tests.support.seccomp_agent import agent


def test_features_announce_the_table_that_the_code_runs_on(runtime: Runtime) -> None:
    document = json.loads(runtime.verb("features").ok().out)
    assert document["potentiallyUnsafeConfigAnnotations"] == sorted(MEANINGS)


def test_the_table_is_all_there_is() -> None:
    """No other place knows an annotation by its name, and the document for people has each of them."""
    told = (REPOSITORY / "docs" / "annotations.md").read_text()
    for name, meaning in MEANINGS.items():
        assert f"| `{name}{'NAME' if name.endswith('.') else ''}` | {meaning} |" in told
    for name, instead in WITHOUT.items():
        assert re.search(rf"^\| `{re.escape(name)}` ⚠ \|.*\| {re.escape(instead)} \|$", told, re.MULTILINE), (
            name
        )
    assert told.count(" ⚠ |") == len(WITHOUT)
    for path in (REPOSITORY / "pyrunc").rglob("*.py"):
        if path.name != "annotations.py":
            text = path.read_text()
            assert '"run.oci.' not in text and '"org.systemd.' not in text and '"org.criu.' not in text, path


def test_other_annotations_do_nothing_and_are_in_the_state(runtime: Runtime) -> None:
    """config.md "Annotations": unknown keys are no error."""
    bundle = runtime.bundle().sleeper()
    given = {
        "module.wasm.image/variant": "x",
        "com.example.criu": "/x",
        "com.example": "",
        "bundle": "/elsewhere",
    }
    bundle.config["annotations"] = given | dict.fromkeys(WITHOUT, "")
    with runtime.running(bundle) as container:
        assert container.state()["annotations"] == bundle.config["annotations"]
    assert not runtime.run(bundle.ask("fds")).ok().err


def test_those_of_crun_that_do_nothing_here_are_warned_of(runtime: Runtime) -> None:
    """Once each, with what to do instead; the empty value asks for nothing, as CRI-O sets it for every container."""
    bundle = runtime.bundle().ask("fds")
    bundle.config["annotations"] = dict.fromkeys(WITHOUT, "something")
    said = runtime.run(bundle).ok().err.splitlines()
    assert len(said) == len(WITHOUT) and all("level=warning" in line for line in said)
    for line, (name, instead) in zip(said, WITHOUT.items(), strict=True):
        assert f'annotations[\\"{name}\\"]: is crun\'s, and does nothing here ({instead})' in line


# -- run.oci.seccomp.receiver, run.oci.seccomp_fail_unknown_syscall -----------------------------------------


@pytest.mark.parametrize("listed", [False, True])
def test_seccomp_receiver(runtime: Runtime, folder: Path, listed: bool) -> None:
    """The agent, of `exec` too; where the configuration itself names another one, that."""
    with agent(folder / "agent", keyctl=errno.EADDRNOTAVAIL) as judge:
        more = {"listenerPath": str(judge.path)} if listed else {}
        bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("NOTIFY", "keyctl"), **more).sleeper()
        bundle.config["annotations"] = {"run.oci.seccomp.receiver": "/nowhere" if listed else str(judge.path)}
        with runtime.running(bundle) as container:
            wait_for(lambda: len(judge.messages) == 1, say="the listener")
            said = container.asks("syscall keyctl 1001")
            wait_for(lambda: len(judge.messages) == 2, say="the second listener")
    assert said["syscall keyctl 1001"] == {"errno": "EADDRNOTAVAIL"}


def test_seccomp_receiver_where_nobody_listens(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("NOTIFY", "keyctl"))
    bundle.config["annotations"] = {"run.oci.seccomp.receiver": "agent"}
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(
        f"run.oci.seccomp.receiver: send the seccomp listener to {bundle.path}/agent",
        "no such file or directory",
    )
    before.assert_unchanged()


@pytest.mark.parametrize("value", [None, "0", "1", "yes"])
def test_seccomp_unknown_call(runtime: Runtime, value: str | None) -> None:
    """A name that only a newer kernel has, in a list of what is allowed, is a warning; or an error, if wanted so."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything(), rule("ALLOW", "brand_new")).ask("fds")
    if value is not None:
        bundle.config["annotations"] = {"run.oci.seccomp_fail_unknown_syscall": value}
    done = runtime.run(bundle)
    if value in (None, "0"):
        assert 'unknown system call \\"brand_new\\"' in done.ok().err
    else:
        done.fails("invalid config.json", 'unknown system call "brand_new"')


# -- run.oci.keep_original_groups ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"), [("1", True), ("true", True), ("0", False), ("", False), (None, False)]
)
def test_keep_original_groups(runtime: Runtime, value: str | None, kept: bool) -> None:
    bundle = runtime.bundle().ask("ids")
    bundle.process["user"]["additionalGids"] = [7]
    if value is not None:
        bundle.config["annotations"] = {"run.oci.keep_original_groups": value}
    said = runtime.run(bundle, extra_groups=[0, 4321, 4322]).ok().testimony
    assert sorted(said["ids"]["groups"]) == ([0, 4321, 4322] if kept else [7])


def test_keep_original_groups_in_a_user_namespace(runtime: Runtime) -> None:
    """podman's `--group-add keep-groups`: a file of one of the caller's groups stays within reach."""
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    secret = bundle.rootfs / "area" / "secret"
    secret.write_text("for the group")
    os.chown(secret, 0, 4321)
    secret.chmod(0o640)
    bundle.process["user"] = {"uid": 5, "gid": 6}
    bundle.ask("read /area/secret")
    denied = runtime.run(bundle, extra_groups=[4321]).ok().testimony
    assert denied["read /area/secret"] == {"errno": "EACCES"}
    bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    allowed = runtime.run(bundle, extra_groups=[4321]).ok().testimony
    assert allowed["read /area/secret"] == "for the group"


# -- run.oci.hooks.stdout, run.oci.hooks.stderr -------------------------------------------------------------

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def test_the_output_of_every_hook(runtime: Runtime, folder: Path) -> None:
    """Appended in the order of the life, in the runtime's namespaces and in the container's."""
    out, err = folder / "out", folder / "err"
    out.write_text("before\n")
    bundle = runtime.bundle().ask("fds", "sleep")
    for kind in KINDS:
        bundle.hook(kind, f"echo {kind}; echo {kind} failed >&2")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    container.says("ready")
    assert sorted(container.testimony["fds"]) == ["0", "1", "2"]
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    assert out.read_text().split() == ["before", *KINDS]
    assert err.read_text().splitlines() == [f"{kind} failed" for kind in KINDS]
    assert stat.S_IMODE(err.stat().st_mode) == 0o600


def test_one_of_both(runtime: Runtime) -> None:
    """Relative to the bundle; the other one is kept for the error, as ever."""
    for kind in ("createRuntime", "createContainer"):
        bundle = runtime.bundle().hook(kind, "echo to the file; echo to the error >&2; exit 3")
        bundle.config["annotations"] = {"run.oci.hooks.stdout": "hook.log"}
        runtime.run(bundle).fails(f"error running {kind} hook #0: exit status 3", "to the error")
        assert (bundle.path / "hook.log").read_text() == "to the file\n"


def test_failing_hook_names_the_file(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle().hook("prestart", "echo why >&2; exit 3")
    bundle.config["annotations"] = {"run.oci.hooks.stderr": str(folder / "err")}
    runtime.run(bundle).fails("exit status 3", f"stderr: in {folder}/err")
    assert (folder / "err").read_text() == "why\n"


@pytest.mark.parametrize("kind", ["prestart", "createContainer"])
def test_file_that_cannot_be_opened(runtime: Runtime, kind: str) -> None:
    bundle = runtime.bundle().hook(kind, "exit 0")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": "/nowhere/file"}
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("open /nowhere/file", "no such file or directory")
    before.assert_unchanged()


def test_a_fifo_that_nobody_reads(runtime: Runtime, folder: Path) -> None:
    """An error of `create`, a warning of `delete`; none of them waits for a reader. With one it gets the output."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    for kind in ("prestart", "createContainer"):
        bundle = runtime.bundle().hook(kind, "exit 0")
        bundle.config["annotations"] = {"run.oci.hooks.stdout": str(fifo)}
        runtime.run(bundle).fails(f"open {fifo}", "no such device or address")
    bundle = runtime.bundle().sleeper().hook("poststop", "echo at last")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(fifo)}
    container = runtime.container(bundle)
    container.create().ok()
    assert "no such device or address" in container.delete().ok().err
    container = runtime.container(bundle)
    container.create().ok()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert not container.delete().ok().err
        assert os.read(reader, 64) == b"at last\n"
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["hooks.stdout", "hooks.stderr", "pidfd_receiver"])
def test_no_path(runtime: Runtime, name: str) -> None:
    """Told at once: found out by the poststop hooks it would stand in the way of every `delete`."""
    bundle = runtime.bundle().sleeper().hook("poststop", "exit 0")
    bundle.config["annotations"] = {f"run.oci.{name}": "a\0b"}
    runtime.run(bundle).fails("invalid config.json", f'annotations["run.oci.{name}"]', "has a NUL in it")


# -- run.oci.pidfd_receiver ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [False, True])
def test_pidfd_receiver(runtime: Runtime, folder: Path, flag: bool) -> None:
    """It gets a pidfd, as --pidfd-socket does, and beside it."""
    paths = [folder / "of-the-annotation", folder / "of-the-flag"]
    bundle = runtime.bundle().sleeper()
    bundle.config["annotations"] = {"run.oci.pidfd_receiver": str(paths[0])}
    container = runtime.container(bundle)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for path, listener in zip(paths, (first, second), strict=True):
            listener.bind(str(path))
            listener.listen()
        container.create(*(("--pidfd-socket", str(paths[1])) if flag else ())).ok()
        for listener in (first, second)[: 1 + flag]:
            listener.settimeout(5)
            connection = listener.accept()[0]
            _, control, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
            (descriptor,) = array.array("i", control[0][2])
            told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            os.close(descriptor)
            connection.close()
            assert f"Pid:\t{container.pid}\n" in told
    container.delete("--force").ok()


def test_pidfd_receiver_where_nobody_listens(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config["annotations"] = {"run.oci.pidfd_receiver": "/nowhere/socket"}
    before = runtime.footprint(bundle)
    runtime.container(bundle).create().fails("send the pidfd to /nowhere/socket", "no such file or directory")
    before.assert_unchanged()
