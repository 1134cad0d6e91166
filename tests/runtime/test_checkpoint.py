"""checkpoint and restore with criu: what a container was goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import unified_flags
from tests.support import footprint
from tests.support.checkpointed import COUNTER, Named, counting, goes_on, process_of, ticks
from tests.support.runtime import Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]

CAP_SYS_RESOURCE = 24
#: The controller that has the pids limit; on cgroup v2 all are in one place.
PIDS = "" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "pids"


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


@pytest.mark.parametrize("mode", ["ignore", "full", "soft"])
def test_what_criu_does_with_cgroups(runtime: Runtime, images: Path, mode: str) -> None:
    """In each of them the restored container is in its own cgroup, also where criu knows nothing of that."""
    container = counting(runtime)
    before = container.cgroup(PIDS)
    container.checkpoint(images, "--manage-cgroups-mode", mode).ok()
    container.restore(images, "--manage-cgroups-mode", mode).ok()
    goes_on(container)
    assert container.cgroup(PIDS) == before


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


def test_what_engines_ask(runtime: Runtime) -> None:
    """podman looks whether there are checkpoints, and whether pods can be restored, in this way."""
    assert "--image-path" in runtime.verb("checkpoint", "--help").ok().out
    assert "flag needs an argument" in runtime.verb("restore", "--lsm-mount-context").err
    annotations = json.loads(runtime.verb("features").ok().out)["annotations"]
    assert annotations["org.opencontainers.runc.checkpoint.enabled"] == "true"
