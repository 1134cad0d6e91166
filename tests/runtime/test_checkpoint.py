"""checkpoint and restore with criu: what a container was goes on, and nothing of either is left where one fails."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import unified_flags
from tests.support import criu as tool
from tests.support import footprint
from tests.support.checkpointed import COUNTER, Named, beside, counting, goes_on, mounted, ticks
from tests.support.netns import NetworkNamespace
from tests.support.runtime import Container, Runtime, wait_for
from tests.support.terminal import ConsoleSocket

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]

CAP_SYS_RESOURCE = 24
#: The controller that has the pids limit; on cgroup v2 all are in one place.
PIDS = "" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "pids"


def process_of(pid: int) -> str:
    """What tells one process from all others."""
    entry = footprint.stat_of(pid)
    return f"{pid} {entry[3]}" if entry else ""


def test_a_program_goes_on_after_a_restore(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle()
    before, flags = runtime.footprint(bundle), unified_flags()
    container = counting(runtime, bundle)
    pid = container.pid
    container.checkpoint(images).ok()
    assert unified_flags() == flags, "criu's own mount of cgroup2 takes nsdelegate from the host's"
    runtime.verb("state", container.id).fails("does not exist")
    assert not footprint.alive(pid)
    before.assert_unchanged()  # all that there was of it is in the images

    said = len(ticks(container))
    pid_file = runtime.folder / "pid"
    container.restore(images, "--pid-file", str(pid_file)).ok()
    assert unified_flags() == flags
    goes_on(container)
    assert len(ticks(container)) > said
    state = container.state()
    assert (state["status"], state["bundle"]) == ("running", str(bundle.path))
    assert pid_file.read_text() == str(state["pid"])
    assert footprint.stat_of(state["pid"])[2] == os.getpid()  # type: ignore[index]  # the subreaper's, as after `run`
    assert (
        Path(f"/proc/{state['pid']}/root/etc/passwd").read_text()
        == (bundle.rootfs / "etc/passwd").read_text()
    )
    pid_file.unlink()
    container.kill("KILL").ok()
    container.stops()
    container.delete().ok()
    before.assert_unchanged()


def test_what_a_process_may_is_what_it_might_before(runtime: Runtime, images: Path) -> None:
    """Ids, capabilities, no_new_privs, filter, limits, name spaces: what proc tells of a process is the same."""
    names = (
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Umask",
    )

    def rights(pid: int) -> list[str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        return [line for line in lines if line.startswith(tuple(f"{name}:" for name in names))] + limits

    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"})
    bounding = Path("/proc/self/status").read_text().partition("CapBnd:")[2].split()[0]
    if int(bounding, 16) >> CAP_SYS_RESOURCE & 1:  # without it criu may not even read the limits of others
        bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o27}
    container = counting(runtime, bundle)
    before = rights(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert rights(container.pid) == before
    assert any(line.split() == ["Seccomp:", "2"] for line in before)


def test_mounts_are_what_they_were(runtime: Runtime, images: Path) -> None:
    """Bind mounts of directories and files, writable and not; a tmpfs with its content; what is hidden or read-only."""
    area, file = runtime.folder / "area", runtime.folder / "file"
    (area / "inner").mkdir(parents=True)
    (area / "kept").write_text("host's")
    file.write_text("a file")
    bundle = runtime.bundle().bind(area, "/area", "bind", "ro").bind(file, "/etc/bound", "bind")
    bundle.mount("/area/inner", "tmpfs", "tmpfs", "mode=700")
    bundle.linux["readonlyPaths"].append("/home")
    bundle.linux["maskedPaths"] += ["/etc/group", "/var"]
    container = Named(runtime, bundle.shell("echo deep >/area/inner/x; echo memory >/dev/shm/y; " + COUNTER))
    container.create().ok()
    container.start().ok()
    container.says("tick 3\n")
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert mounted(container.pid) == before
    root = Path(f"/proc/{container.pid}/root")
    assert (root / "area/kept").read_text() == "host's"
    assert (root / "etc/bound").read_text() == "a file"
    assert (root / "area/inner/x").read_text() == "deep\n"
    assert (root / "dev/shm/y").read_text() == "memory\n"
    assert (root / "etc/group").stat().st_rdev == os.makedev(1, 3)
    (root / "etc/bound").write_text("changed")
    assert file.read_text() == "changed"  # the host's file itself
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "area/new").write_text("")
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "home/new").write_text("")


def test_mount_points_are_made_in_a_fresh_root_file_system(runtime: Runtime, images: Path) -> None:
    area, file = runtime.folder / "area", runtime.folder / "file"
    area.mkdir()
    file.write_text("a file")
    bundle = runtime.bundle().bind(area, "/made/deep/area").bind(file, "/made/file")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    shutil.rmtree(bundle.rootfs / "made")
    container.restore(images).ok()
    goes_on(container)
    assert Path(f"/proc/{container.pid}/root/made/file").read_text() == "a file"


def test_a_mount_point_that_leads_out_of_the_image(runtime: Runtime, images: Path) -> None:
    """A symbolic link of the image is resolved inside it, and nothing is made on the host."""
    area, outside = runtime.folder / "area", runtime.folder / "outside"
    area.mkdir()
    bundle = runtime.bundle().bind(area, "/made/deep/area")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    shutil.rmtree(bundle.rootfs / "made")
    (bundle.rootfs / "made").symlink_to(outside)
    before = runtime.footprint(bundle)
    assert container.restore(images).status != 0
    assert not outside.exists()
    before.assert_unchanged()


def test_leave_running(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    first = process_of(container.pid)
    container.checkpoint(images, "--leave-running").ok()
    assert process_of(container.pid) == first
    goes_on(container)
    assert container.status == "running"
    assert (images / "inventory.img").exists()


def test_another_container_of_the_same_images(runtime: Runtime, images: Path) -> None:
    """Another id, another cgroup, with the limits of its own bundle."""
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    cgroup = container.cgroup(PIDS)
    container.checkpoint(images).ok()
    bundle.linux["resources"] = {"pids": {"limit": 77}}
    other = Named(runtime, bundle)
    other._out, other._err = container._out, container._err
    other.restore(images).ok()
    pid = other.pid
    assert other.cgroup(PIDS) != cgroup and other.id in str(other.cgroup(PIDS))
    assert (other.cgroup(PIDS) / "pids.max").read_text() == "77\n"
    assert str(pid) in (other.cgroup(PIDS) / "cgroup.procs").read_text().split()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        assert container.cgroup_name not in line
    assert not cgroup.exists()


def test_a_paused_container(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    runtime.verb("pause", container.id).ok()
    container.checkpoint(images).ok()
    container.restore(images).ok()
    assert container.status == "running"
    goes_on(container)


def test_pre_dump_with_a_parent(runtime: Runtime, images: Path, criu: Path) -> None:
    if not tool.works(criu / "criu", "mem_dirty_track"):
        container = counting(runtime)
        container.checkpoint(images / "first", "--pre-dump").fails("pre-dump", "mem_track")
        goes_on(container)
        pytest.skip("the kernel does not tell which memory was written to (CONFIG_MEM_SOFT_DIRTY)")
    container = counting(runtime)
    container.checkpoint(images / "first", "--pre-dump").ok()
    goes_on(container)
    container.checkpoint(images / "second", "--parent-path", "../first").ok()
    assert os.readlink(images / "second" / "parent") == "../first"
    container.restore(images / "second").ok()
    goes_on(container)


def free_port() -> int:
    """A TCP port of this host that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(criu: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of criu's, ended at the end."""
    daemon = subprocess.Popen([criu / "criu", *words])
    footprint.own_children.add(daemon.pid)
    try:
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait()
        footprint.own_children.discard(daemon.pid)


def listens(port: int) -> bool:
    """Whether somebody waits for connections to this port; without making one."""
    return any(
        f":{port:04X} 00000000:0000 0A" in line for line in Path("/proc/net/tcp").read_text().splitlines()
    )


def test_a_page_server(runtime: Runtime, images: Path, criu: Path) -> None:
    """The memory goes to it, all else to the images."""
    elsewhere, port = images / "elsewhere", free_port()
    elsewhere.mkdir(parents=True)
    container = counting(runtime)
    where = ["--images-dir", str(elsewhere), "--address", "127.0.0.1", "--port", str(port)]
    with serving(criu, "page-server", *where) as daemon:
        wait_for(lambda: listens(port), say="the page server")
        container.checkpoint(images, "--page-server", f"127.0.0.1:{port}").ok()
        wait_for(lambda: daemon.poll() is not None, say="the end of the page server")
    assert not list(images.glob("pages-*.img"))
    for image in elsewhere.glob("page*.img"):
        shutil.move(image, images)
    container.restore(images).ok()
    goes_on(container)


def test_lazy_pages_that_are_not_fetched(runtime: Runtime, images: Path, criu: Path) -> None:
    """The NUL byte tells that the memory can be fetched; where that fails, the container runs on."""
    if not tool.works(criu / "criu", "uffd-noncoop"):
        pytest.skip("the kernel has no userfaultfd(2) for other processes")
    port = free_port()
    container = counting(runtime)
    first = process_of(container.pid)
    read, write = os.pipe()
    words = ["--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(write)]
    leaving = runtime.spawn("checkpoint", "--image-path", str(images), *words, container.id, pass_fds=[write])
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"\0", leaving.err
    wait_for(lambda: listens(port), say="criu's server")
    said = ticks(container)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.send(b"\xff" * 64)  # no request for pages
    leaving.wait().fails("criu failed: type DUMP")
    assert process_of(container.pid) == first
    assert ticks(container)[: len(said)] == said
    goes_on(container)


def test_a_terminal(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().shell("while read word; do echo got $word; done")
    bundle.process["terminal"] = True
    container = Named(runtime, bundle)
    with ConsoleSocket(runtime.folder / "console") as console:
        container.create("--console-socket", str(console.path)).ok()
        master = console.receive()
        container.start().ok()
        master.write("one\n")
        master.read("got one")
        container.checkpoint(images).ok()
        assert len(json.loads((images / "descriptors.json").read_text())) == 3
        container.restore(images).fails("console socket")
        container.restore(images, "--console-socket", str(console.path)).ok()
        again = console.receive()
        again.write("two\n")
        again.read("got two")
        assert "got one" not in again.text
        assert container.status == "running"


def test_a_joined_network_namespace(runtime: Runtime, images: Path) -> None:
    """It is outside of the images: the restored container joins the one that its bundle names, with what is in it."""
    first, second = NetworkNamespace(), NetworkNamespace()
    try:
        bundle = runtime.bundle().namespace("network", first.path)
        container = counting(runtime, bundle)
        container.checkpoint(images).ok()
        second.ip("link", "add", "veth-test", "type", "veth")
        bundle.namespace("network", second.path)
        container.restore(images).ok()
        goes_on(container)
        assert os.stat(f"/proc/{container.pid}/ns/net").st_ino == os.stat(second.path).st_ino
        assert "veth-test" in second.names()
    finally:
        first.end()
        second.end()


def test_a_pod(runtime: Runtime, images: Path) -> None:
    """Namespaces of another container: process ids, host name, IPC and network."""
    # Its first process collects the orphans: as long as one is there, the number of its session is in use.
    with runtime.running(runtime.bundle().shell("while :; do sleep 0.1; done")) as first:
        bundle = runtime.bundle()
        for kind, name in (("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("network", "net")):
            bundle.namespace(kind, f"/proc/{first.pid}/ns/{name}")
        bundle.config.pop("hostname")
        container = counting(runtime, bundle)
        container.checkpoint(images).ok()
        assert first.status == "running"
        footprint.reap()
        wait_for(lambda: not [pid for pid in footprint.descendants() if "Z" in footprint.stat_of(pid)[1]])  # type: ignore[index]
        container.restore(images).ok()
        goes_on(container)
        for name in ("pid", "ipc", "uts", "net"):
            assert os.readlink(f"/proc/{container.pid}/ns/{name}") == os.readlink(
                f"/proc/{first.pid}/ns/{name}"
            )
        container.kill("KILL").ok()
        container.stops()
        container.delete().ok()


def test_a_joined_namespace_that_criu_cannot_join(runtime: Runtime, images: Path) -> None:
    with runtime.running(runtime.bundle().sleeper()) as first:
        container = counting(runtime, runtime.bundle().namespace("cgroup", f"/proc/{first.pid}/ns/cgroup"))
        container.checkpoint(images).fails("cgroup namespace", "cannot be checkpointed")
        goes_on(container)


@pytest.mark.parametrize("flag", ["--leave-running", "--pre-dump"])
def test_an_init_of_its_own(runtime: Runtime, images: Path, flag: str) -> None:
    """criu would write images that it cannot read, and end the container."""
    bundle = runtime.bundle()
    bundle.config["annotations"] = {"run.pyrunc.init": "true"}
    container = counting(runtime, bundle)
    container.checkpoint(images).fails("init of its own cannot be checkpointed", "without --init")
    container.checkpoint(images, flag).fails("init of its own cannot be checkpointed")
    goes_on(container)


def test_hooks(runtime: Runtime, images: Path) -> None:
    """prestart and createRuntime run at a restore, when the new first process is there; poststop at every end."""
    said = runtime.folder / "said"
    bundle = runtime.bundle()
    for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        bundle.hook(kind, f"echo {kind} $(cat) >>{said}" if kind != "createContainer" else ":")
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    assert [line.split()[0] for line in said.read_text().splitlines()] == [
        "prestart", "createRuntime", "poststart", "poststop",
    ]  # fmt: skip
    said.unlink()
    container.restore(images).ok()
    goes_on(container)
    lines = said.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prestart", "createRuntime"]
    for line in lines:
        state = json.loads(line.partition(" ")[2])
        assert (state["id"], state["pid"], state["status"]) == (container.id, container.pid, "creating")
    said.unlink()


def test_a_hook_that_fails_ends_the_restore(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    bundle.hook("createRuntime", "exit 3")
    container.restore(images)
    assert "error running createRuntime hook #0: exit status 3" in container.err
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()
    del bundle.config["hooks"]
    container.truncate()
    container.restore(images).ok()  # the images are as good as before
    goes_on(container)


def restore_under_way(runtime: Runtime, images: Path, hook: str) -> tuple[Named, footprint.Footprint]:
    """A restore in which a hook does this, when the first process of the container is there."""
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    bundle.hook("createRuntime", hook)
    before = runtime.footprint(bundle)
    assert container.restore(images).status != 0
    return container, before


def test_an_interrupted_restore_leaves_nothing(runtime: Runtime, images: Path) -> None:
    container, before = restore_under_way(runtime, images, "kill -TERM $PPID; sleep 1")
    assert "interrupted by SIGTERM" in container.err
    before.assert_unchanged()


def test_a_killed_restore_can_be_deleted(runtime: Runtime, images: Path) -> None:
    """criu hears no more, and ends what it has made; the state directory and the cgroup are there for `delete`."""
    container, before = restore_under_way(runtime, images, "kill -KILL $PPID")
    container.delete("--force").ok()
    before.assert_unchanged(patience=10)


def test_images_that_cannot_be_restored(runtime: Runtime, images: Path) -> None:
    """The error has criu's own words, and names its log."""
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    (images / "pstree.img").write_bytes(b"no image at all")
    container.restore(images)
    assert "criu failed: type RESTORE" in container.err and f"{images}/restore.log" in container.err
    assert "pstree" in container.err
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()


@pytest.mark.parametrize("flag", ["--image-path", "--work-path"])
def test_no_images(runtime: Runtime, images: Path, flag: str) -> None:
    bundle = runtime.bundle().sleeper()
    before = runtime.footprint(bundle)
    container = Named(runtime, bundle)
    images.mkdir()
    words = ["--image-path", str(images)] if flag == "--work-path" else []
    into = ["restore", "--bundle", runtime.put(bundle, container.id), *words]
    runtime.verb(*into, flag, str(images / "none" if words else "none"), container.id).fails(
        "descriptors.json" if words else "no such file or directory"
    )
    before.assert_unchanged()


def test_a_checkpoint_that_fails_leaves_the_container_running(runtime: Runtime, images: Path) -> None:
    """A file of the host that the container was given, and nobody has told criu about."""
    (runtime.folder / "file").write_text("")
    container = Named(runtime, runtime.bundle().shell(COUNTER))
    giving = runtime.like()
    giving.prefix = ["sh", "-c", f'exec 3<{runtime.folder}/file; exec "$@"', "sh"]
    where = ["--bundle", runtime.put(container.bundle, container.id), "--preserve-fds", "1"]
    giving.into(container._out, container._err).verb("run", "--detach", *where, container.id).ok()
    container.says("tick 3\n")
    first = process_of(container.pid)
    container.checkpoint(images).fails("criu failed: type DUMP", "for fd=3", f"{images}/dump.log")
    assert container.status == "running" and process_of(container.pid) == first
    goes_on(container)


@pytest.mark.parametrize("status", ["created", "stopped"])
def test_only_a_running_container(runtime: Runtime, images: Path, status: str) -> None:
    container = Named(runtime, runtime.bundle().sleeper())
    container.create().ok()
    if status == "stopped":
        container.kill("KILL").ok()
        container.stops()
    container.checkpoint(images).fails(f"container cannot be checkpointed in {status} state")
    assert container.status == status
    runtime.verb("checkpoint", runtime.new_id()).fails("does not exist")


def test_an_id_that_is_in_use(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    container.checkpoint(images, "--leave-running").ok()
    container.restore(images)
    assert "container with given ID already exists" in container.err
    assert container.status == "running"


def test_without_criu(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    empty = {"PATH": str(images)}
    container.checkpoint(images, env=empty).fails("criu: executable file not found in $PATH")
    goes_on(container)
    images.mkdir(exist_ok=True)
    (images / "criu").write_text("#!/bin/sh\nexit 3\n")
    (images / "criu").chmod(0o755)
    container.checkpoint(images, env=empty).fails("criu ended unexpectedly: exit status 3")
    goes_on(container)


def test_the_annotation_for_settings(runtime: Runtime, images: Path) -> None:
    """org.criu.config names a file that overrides what pyrunc says; empty, no file is read at all."""
    bundle = runtime.bundle()
    bundle.config["annotations"] = {"org.criu.config": "criu.conf"}
    (bundle.path / "criu.conf").write_text("log-file other.log\n")
    container = counting(runtime, bundle)
    container.checkpoint(images, "--leave-running").ok()
    assert (images / "other.log").exists() and not (images / "dump.log").exists()
    (bundle.path / "criu.conf").write_text("no-such-option\n")
    container.checkpoint(images, "--leave-running").fails("criu failed", "no-such-option")
    goes_on(container)


def test_in_the_foreground(runtime: Runtime, images: Path) -> None:
    """As `run`: signals are passed on, the status is the program's, and the container is deleted at its end."""
    bundle = runtime.bundle().shell(f"trap 'exit 7' TERM; {COUNTER}")
    container = Named(runtime, bundle)
    container.create().ok()
    container.start().ok()
    container.says("tick 3\n")
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    where = ["--bundle", runtime.put(bundle, container.id), "--image-path", str(images)]
    running = runtime.into(container._out, container._err).spawn("restore", *where, container.id)
    wait_for(lambda: container.id in runtime.verb("list", "-q").out, patience=30)
    goes_on(container)
    running.process.terminate()
    assert running.wait().status == 7
    runtime.verb("state", container.id).fails("does not exist")
    before.assert_unchanged()


def test_pipes(runtime: Runtime, images: Path) -> None:
    """What was a pipe is whatever the restore has there."""
    bundle = runtime.bundle().shell(COUNTER)
    container = Named(runtime, bundle)
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        words = runtime.words("run", "--detach", "--bundle", runtime.put(bundle, container.id), container.id)
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=runtime.env, check=True
        )
        assert reader.readline() == "tick 1\n"
        container.checkpoint(images).ok()
    names = json.loads((images / "descriptors.json").read_text())
    assert names[1] == names[2] and names[1].startswith("pipe:[")
    container.restore(images).ok()
    wait_for(lambda: len(ticks(container)) > 2)
    assert ticks(container)[0] > 1


@pytest.mark.parametrize("kind", ["terminal", "socket", "device"])
def test_stdio_of_other_kinds(runtime: Runtime, images: Path, kind: str) -> None:
    """A terminal of the host's, though the container has none of its own; a unix socket; a device."""
    ends = [_ends(kind), _ends(kind)]
    bundle = runtime.bundle().shell("while read word; do echo got $word; done")
    if kind == "device":
        bundle.shell(COUNTER)
    elif kind == "socket":
        bundle.without_namespace(
            "network"
        )  # criu looks for sockets in the container's network namespace only
    id = runtime.new_id()
    where = ["--bundle", runtime.put(bundle, id)]
    try:
        for verb, (ours, theirs) in zip(
            (["run"], ["restore", "--image-path", str(images)]), ends, strict=True
        ):
            words = runtime.words(*verb, "--detach", *where, id)
            with open(beside(runtime) / "err", "ab") as err:
                done = subprocess.run(words, stdin=theirs, stdout=theirs, stderr=err, env=runtime.env)
            assert done.returncode == 0, (beside(runtime) / "err").read_text()
            if kind != "device":
                os.write(ours, b"word\n")
                said = b""
                while b"got word" not in said:
                    said += os.read(ours, 100)
            if verb == ["run"]:
                runtime.verb("checkpoint", "--image-path", str(images), id).ok()
        assert runtime.state_of(id)["status"] == "running"
    finally:
        for end in [end for both in ends for end in both]:
            os.close(end)


def _ends(kind: str) -> tuple[int, int]:
    if kind == "terminal":
        return os.openpty()
    if kind == "socket":
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()
    return os.open("/dev/null", os.O_RDONLY), os.open("/dev/full", os.O_RDWR)


@pytest.mark.parametrize("mode", ["ignore", "full", "soft"])
def test_what_criu_does_with_cgroups(runtime: Runtime, images: Path, mode: str) -> None:
    """In each of them the restored container is in its own cgroup, also where criu knows nothing of that."""
    container = counting(runtime)
    before = container.cgroup(PIDS)
    container.checkpoint(images, "--manage-cgroups-mode", mode).ok()
    container.restore(images, "--manage-cgroups-mode", mode).ok()
    goes_on(container)
    assert container.cgroup(PIDS) == before


def test_an_empty_network_namespace(runtime: Runtime, images: Path) -> None:
    flags = ["--empty-ns", "network", "--tcp-established", "--tcp-skip-in-flight", "--network-lock", "skip"]
    container = counting(runtime)
    container.checkpoint(images, *flags, "--link-remap", "--ext-unix-sk", "--file-locks").ok()
    assert not list(images.glob("netdev-*.img"))
    container.restore(images, "--empty-ns", "network", "--tcp-close", "--ext-unix-sk", "--file-locks").ok()
    goes_on(container)
    lines = Path(f"/proc/{container.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines if "lo:" not in line] in ([], ["tunl0"], ["sit0"])


def test_a_user_namespace(runtime: Runtime, images: Path) -> None:
    bundle = runtime.bundle().map_ids().give_rootfs(200000, 200000)
    container = counting(runtime, bundle)
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert Path(f"/proc/{container.pid}/uid_map").read_text().split() == ["0", "200000", "65536"]
    assert os.stat(f"/proc/{container.pid}").st_uid == 200000
    assert mounted(container.pid) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["checkpoint", "--parent-path", "/absolute"], "expected a relative path"),
        (["checkpoint", "--parent-path", "missing"], "invalid --parent-path missing"),
        (["checkpoint", "--manage-cgroups-mode", "hard"], "invalid manage-cgroups-mode: hard"),
        (["checkpoint", "--network-lock", "rope"], "invalid network-lock: rope"),
        (["checkpoint", "--empty-ns", "user"], "not supported by --empty-ns"),
        (["checkpoint", "--page-server", "host"], "is not ADDRESS:PORT"),
        (["checkpoint", "--lazy-pages"], "--lazy-pages needs --page-server"),
        (["checkpoint", "--status-fd", "77"], "no such descriptor"),
        (["restore", "--lsm-profile", "other:x"], "apparmor: or selinux:"),
        (["restore", "--lsm-mount-context"], "flag needs an argument"),
    ],
)
def test_words_that_are_none(runtime: Runtime, images: Path, words: list[str], said: str) -> None:
    container = counting(runtime)
    last = [] if words[-1] == "--lsm-mount-context" else ["--image-path", str(images), container.id]
    runtime.verb(*words, *last).fails(said)
    goes_on(container)


def test_what_engines_ask(runtime: Runtime) -> None:
    """podman looks whether there are checkpoints, and whether pods can be restored, in this way."""
    assert "--image-path" in runtime.verb("checkpoint", "--help").ok().out
    assert "flag needs an argument" in runtime.verb("restore", "--lsm-mount-context").err
    annotations = json.loads(runtime.verb("features").ok().out)["annotations"]
    assert annotations["org.opencontainers.runc.checkpoint.enabled"] == "true"


def test_an_ordinary_user(runtime: Runtime, images: Path) -> None:
    user = runtime.as_user(200000, 200000)
    for verb in ("checkpoint", "restore"):
        user.verb(verb, "--image-path", str(images), user.new_id()).fails("rootless")


def test_a_root_below_shared_mounts(runtime: Runtime, images: Path) -> None:
    """As everywhere on a host with systemd: the container's root is a slave of the host's, before and after."""
    bundle = runtime.bundle()
    for words in (["--bind", str(bundle.rootfs), str(bundle.rootfs)], ["--make-shared", str(bundle.rootfs)]):
        subprocess.run(["mount", *words], check=True)

    def masters(container: Container) -> list[str]:
        lines = Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()
        (root,) = [line.split() for line in lines if line.split()[4] == "/"]
        return [word for word in root if word.startswith(("master:", "shared:"))]

    container = counting(runtime, bundle)
    before = masters(container)
    assert before and before[0].startswith("master:")
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert masters(container) == before


@pytest.mark.parametrize("propagation", [[], ["rprivate"]])
def test_bind_mounts_below_shared_mounts(runtime: Runtime, images: Path, propagation: list[str]) -> None:
    """A bind mount in the peer group of the root file system, and a part of the root, which is read-only, too."""
    bundle = runtime.bundle()
    area = bundle.path / "area"
    area.mkdir()
    (area / "kept").write_text("host's")
    for words in (["--bind", str(bundle.path), str(bundle.path)], ["--make-shared", str(bundle.path)]):
        subprocess.run(["mount", *words], check=True)
    bundle.bind(area, "/area", "bind", "ro", *propagation)
    bundle.linux["readonlyPaths"].append("/home")
    container = counting(runtime, bundle)
    before = mounted(container.pid)
    container.checkpoint(images).ok()
    container.restore(images).ok()
    goes_on(container)
    assert mounted(container.pid) == before
    assert Path(f"/proc/{container.pid}/root/area/kept").read_text() == "host's"
