"""What checkpoint and restore do not take on trust.

The container's own doings, images that are not the bundle's, and a criu that does not keep to the rules.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support import footprint
from tests.support.checkpointed import COUNTER, Named, beside, counting, goes_on, mounted
from tests.support.netns import NetworkNamespace
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime, wait_for
from tests.support.terminal import ConsoleSocket

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


def test_a_container_that_gives_a_mount_the_name_of_another(runtime: Runtime, images: Path) -> None:
    """criu goes by names: restored, the host's directory of the read-only mount would be writable."""
    for name in ("writable", "kept"):
        (runtime.folder / name).mkdir()
    bundle = runtime.bundle().bind(runtime.folder / "writable", "/a/m", "bind")
    bundle.bind(runtime.folder / "kept", "/b/m", "bind", "ro").shell(
        f"mv /a /c && mv /b /a && mv /c /b; {COUNTER}"
    )
    container = Named(runtime, bundle)
    container.create().ok()
    container.start().ok()
    container.says("tick 3\n")
    container.checkpoint(images).fails("what is mounted on /b/m is not ro")
    goes_on(container)


def test_a_bundle_that_asks_for_more_than_the_images_have(runtime: Runtime, images: Path) -> None:
    """A mount that is to be read-only now, or a root; and one that there was none of."""
    area = runtime.folder / "area"
    area.mkdir()
    bundle = runtime.bundle().bind(area, "/area", "bind")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    options = bundle.mount_of("/area")["options"]
    options.append("ro")
    container.restore(images)
    assert "what is mounted on /area is not ro" in container.err
    options.remove("ro")
    container.truncate()
    bundle.config["root"]["readonly"] = True
    container.restore(images)
    assert "what is mounted on / is not ro" in container.err
    del bundle.config["root"]["readonly"]
    container.truncate()
    bundle.bind(area, "/other", "bind")
    container.restore(images)
    assert "nothing is mounted on /other" in container.err
    bundle.config["mounts"].pop()
    runtime.verb("state", container.id).fails("does not exist")
    (bundle.rootfs / "other").rmdir()
    before.assert_unchanged()
    container.truncate()
    container.restore(images).ok()
    goes_on(container)


@pytest.mark.parametrize("kind", ["network", "user", "pid"])
def test_images_without_a_namespace_of_the_bundle(runtime: Runtime, images: Path, kind: str) -> None:
    """What was not kept from the host before would not be kept from it now, whatever the bundle says."""
    bundle = runtime.bundle()
    if kind != "user":
        bundle.without_namespace(kind)
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    if kind == "user":
        bundle.map_ids().give_rootfs(200000, 200000)
    else:
        bundle.namespace(kind)
    before = runtime.footprint(bundle)
    container.restore(images)
    assert f"the images have no {kind} namespace, the bundle asks for a new one" in container.err
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged(patience=10)


def test_images_with_a_namespace_that_the_bundle_has_not(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    space = NetworkNamespace()
    try:
        bundle.namespace("network", space.path)
        container.restore(images)
    finally:
        space.end()
    assert "the images have a network namespace, the bundle asks for another" in container.err
    container.truncate()
    bundle.without_namespace("network")
    container.restore(images)
    assert "the images have a network namespace, the bundle asks for none" in container.err
    runtime.verb("state", container.id).fails("does not exist")


def test_other_mappings_than_those_of_the_images(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000)
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    bundle.map_ids(size=1000)
    container.restore(images)
    assert "linux.uidMappings: differs from what the images have" in container.err
    runtime.verb("state", container.id).fails("does not exist")


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_flag_that_criu_does_not_restore(runtime: Runtime, images: Path, kind: str) -> None:
    bundle = runtime.bundle()
    bundle.mount("/area", kind, str(runtime.folder), *(["bind"] if kind == "bind" else []), "nosymfollow")
    container = counting(runtime, bundle)
    container.checkpoint(images).fails("nosymfollow mount (/area) cannot be checkpointed")
    goes_on(container)


def test_an_idmapped_mount(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000)
    (runtime.folder / "area").mkdir()
    bundle.bind(runtime.folder / "area", "/area", "bind", "idmap")
    container = counting(runtime, bundle)
    container.checkpoint(images).fails("id-mapped mount (/area) cannot be checkpointed")
    goes_on(container)


def test_a_mount_that_was_added(runtime: Runtime, images: Path) -> None:
    """No restore would find it in the bundle: the container is not given up for images that are good for nothing."""
    area, wanted = runtime.folder / "area", runtime.folder / "mounts.json"
    area.mkdir()
    wanted.write_text(json.dumps([{"destination": "/added", "source": str(area), "type": "bind"}]))
    container = counting(runtime)
    runtime.verb("mounts", "add", container.id, str(wanted)).ok()
    container.checkpoint(images).fails("mounts added", "mounts remove")
    goes_on(container)
    runtime.verb("mounts", "remove", container.id, str(wanted)).ok()
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    runtime.verb("mounts", "add", container.id, str(wanted)).ok()
    assert ("/added", False) in [(point, read_only) for point, _, read_only in mounted(container.pid)]


@pytest.mark.parametrize("had", [True, False])
def test_a_terminal_that_only_one_of_both_has(runtime: Runtime, images: Path, had: bool) -> None:
    bundle = runtime.bundle().shell(f"exec >/tmp/said 2>&1 </tmp/said; {COUNTER}")
    if had:
        bundle.shell(COUNTER)
    bundle.process["terminal"] = had
    container = Named(runtime, bundle)
    with ConsoleSocket(runtime.folder / "console") as console:
        words = ["--console-socket", str(console.path)]
        container.create(*(words if had else [])).ok()
        if had:
            console.receive()
        container.start().ok()
        said = bundle.rootfs / "tmp/said"
        wait_for(lambda: had or (said.exists() and said.read_text().startswith("tick")))
        container.checkpoint(images).ok()
        bundle.process["terminal"] = not had
        container.restore(images, *([] if had else words))
    assert f"the images have {'a' if had else 'no'} terminal of their own" in container.err
    runtime.verb("state", container.id).fails("does not exist")


def test_processes_of_exec_are_not_in_the_images(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    runtime.verb("exec", "--detach", container.id, "sleep", "1000").ok()
    leaving = runtime.spawn("checkpoint", "--image-path", str(images), container.id)

    def ended() -> bool:
        footprint.reap()  # what `exec` has started is ours, and its process namespace ends after it
        return leaving.process.poll() is not None

    wait_for(ended, say="the end of the checkpoint")
    leaving.wait().ok()
    container.restore(images).ok()
    goes_on(container)
    assert "1000" not in runtime.verb("ps", container.id).ok().out


def test_the_verbs_after_a_restore(runtime: Runtime, images: Path) -> None:
    """A restored container is one like any other."""
    container = counting(runtime)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    assert runtime.verb("exec", container.id, "sh", "-c", "echo $$ in; cat /proc/1/comm").ok().out.split()[
        1:
    ] == [
        "in",
        "sh",
    ]
    runtime.verb("pause", container.id).ok()
    assert container.status == "paused"
    runtime.verb("resume", container.id).ok()
    runtime.verb("update", "--pids-limit", "55", container.id).ok()
    assert json.loads(runtime.verb("ps", "--format", "json", container.id).ok().out)[0] == container.pid
    goes_on(container)
    container.checkpoint(images / "again", "--leave-running").ok()
    container.start().fails("cannot start an already running container")
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()


def test_a_paused_container_stays_so(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    runtime.verb("pause", container.id).ok()
    container.checkpoint(images, "--leave-running").ok()
    assert container.status == "paused"
    runtime.verb("resume", container.id).ok()
    goes_on(container)


def test_a_log_of_an_earlier_call(runtime: Runtime, images: Path) -> None:
    """What criu once said is no reason for a failure before it says anything."""
    images.mkdir()
    (images / "dump.log").write_text("(00.1) 1: Error (criu/old.c:1): something else\n")
    container = counting(runtime)
    done = container.checkpoint(images, env={"PATH": str(images)})
    done.fails("criu: executable file not found in $PATH")
    assert "something else" not in done.err and "dump.log" not in done.err


def is_criu(pid: int) -> bool:
    """Whether this is a criu that serves a runtime."""
    try:
        return b"\0swrk\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("stage", "status"), [("network-lock", "running"), ("post-dump", "stopped")])
def test_a_killed_checkpoint(runtime: Runtime, images: Path, stage: str, status: str) -> None:
    """criu hears no more: the container runs on, or has ended and its images are complete."""
    bundle = runtime.bundle()
    script, once = bundle.path / "script", beside(runtime) / "once"
    parent = "$(awk '{print $4}' /proc/$PPID/stat)"  # criu's: the runtime, until that has ended
    script.write_text(
        f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != {stage} ] || ! mkdir {once} || kill -9 {parent}\nexit 0\n'
    )
    script.chmod(0o755)
    (bundle.path / "criu.conf").write_text(f"action-script {script}\n")
    bundle.config["annotations"] = {"org.criu.config": "criu.conf"}
    container = counting(runtime, bundle)
    assert container.checkpoint(images).status == -SIGKILL
    wait_for(lambda: not [pid for pid in footprint.descendants() if is_criu(pid)], say="the end of criu")
    assert container.status == status
    if status == "running":
        goes_on(container)
    else:
        container.delete().ok()
        container.restore(images).ok()
        goes_on(container)


#: Answers a request of `criu swrk` with what the parts tell, one of each kind.
PRETENDER = """\
#!{python}
import os, signal, socket, sys, time
sys.path.insert(0, {tree!r})
from pyrunc.linux.criu.wire import INTEGER, TEXT, decode, encode
REQUEST = {{"type": (1, INTEGER), "opts": (2, {{"pid": (2, INTEGER)}})}}
RESPONSE = {{
    "type": (1, INTEGER), "success": (2, INTEGER), "restore": (4, {{"pid": (1, INTEGER)}}),
    "notify": (5, {{"script": (1, TEXT), "pid": (2, INTEGER)}}),
    "version": (10, {{"major_number": (1, INTEGER), "minor_number": (2, INTEGER)}}),
}}
talk = socket.socket(fileno=int(sys.argv[2]))
def hear():
    return decode(REQUEST, talk.recv(1 << 20) or sys.exit(0))
def say(kind, **fields):
    talk.send(encode(RESPONSE, {{"type": kind, **fields}}))
hear()
version = {{"major_number": 4, "minor_number": 0}}
{doing}
"""


def pretend(runtime: Runtime, doing: str) -> dict[str, str]:
    """The environment with a criu that is none, and does this after it has been asked for its version."""
    folder = beside(runtime) / "pretender"
    folder.mkdir()
    text = PRETENDER.format(python=sys.executable, tree=str(REPOSITORY), doing=doing)
    (folder / "criu").write_text(text)
    (folder / "criu").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("doing", "said"),
    [
        ("say(10, success=True)", "criu 0.0 is too old"),
        ("say(10, success=True, version={'major_number': 3, 'minor_number': 15})", "criu 3.15 is too old"),
        ("say(10)", "criu did not answer VERSION"),
        ("talk.send(b'\\x0b')", "criu sent what is no message"),
        ("say(10, success=True, version=version); hear(); say(2, success=True)", "criu tells of process 0"),
        ("say(10, success=True, version=version); hear(); os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_a_criu_that_answers_otherwise(runtime: Runtime, images: Path, doing: str, said: str) -> None:
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    container.restore(images, env=pretend(runtime, doing))
    assert said in container.err and "please report" not in container.err, container.err
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()


def test_a_criu_that_hangs(runtime: Runtime, images: Path) -> None:
    """A restore that is told to stop ends it."""
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    there = beside(runtime) / "there"
    env = pretend(runtime, f"open({str(there)!r}, 'w'); time.sleep(1000)")
    where = ["--bundle", runtime.put(bundle, container.id), "--image-path", str(images)]
    running = runtime.spawn("restore", *where, container.id, env=env)
    wait_for(there.exists, say="criu")
    running.process.terminate()
    running.wait().fails("interrupted by SIGTERM")
    before.assert_unchanged()


def test_a_process_that_ends_during_its_checkpoint(runtime: Runtime, images: Path) -> None:
    """Its number may be another's then: criu is not told that all is well, on which it would end that."""
    container = counting(runtime)
    told = beside(runtime) / "told"
    env = pretend(
        runtime,
        "say(10, success=True, version=version); pid = hear()['opts']['pid']; os.kill(pid, signal.SIGKILL)\n"
        "while open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] != 'Z': time.sleep(0.01)\n"
        "say(6, success=True, notify={'script': 'post-dump', 'pid': pid}); hear()\n"
        f"open({str(told)!r}, 'w'); say(1, success=True)",
    )
    container.checkpoint(images, env=env).fails("container not running")
    assert not told.exists()
    assert container.status == "stopped"
