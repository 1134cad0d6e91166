"""checkpoint and restore that are refused, fail or are interrupted: nothing of either is left, and what ran runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.checkpointed import COUNTER, Named, counting, goes_on, process_of
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]

# -- checkpoint --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--leave-running", "--pre-dump"])
def test_an_init_of_its_own(runtime: Runtime, images: Path, flag: str) -> None:
    """criu would write images that it cannot read, and end the container."""
    bundle = runtime.bundle()
    bundle.config["annotations"] = {"run.pyrunc.init": "true"}
    container = counting(runtime, bundle)
    container.checkpoint(images).fails("init of its own cannot be checkpointed", "without --init")
    container.checkpoint(images, flag).fails("init of its own cannot be checkpointed")
    goes_on(container)


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


# -- restore -----------------------------------------------------------------------------------------------


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


def test_an_id_that_is_in_use(runtime: Runtime, images: Path) -> None:
    container = counting(runtime)
    container.checkpoint(images, "--leave-running").ok()
    container.restore(images)
    assert "container with given ID already exists" in container.err
    assert container.status == "running"


# -- both --------------------------------------------------------------------------------------------------


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


def test_an_ordinary_user(runtime: Runtime, images: Path) -> None:
    user = runtime.as_user(200000, 200000)
    for verb in ("checkpoint", "restore"):
        user.verb(verb, "--image-path", str(images), user.new_id()).fails("rootless")
