"""`linux.rootfsPropagation`: of the root, and what it lets in and out (config-linux.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mountinfo import mounts
from tests.support.runtime import Runtime


def in_shared_mounts(runtime: Runtime) -> Runtime:
    """The runtime called where all mounts are shared, as on a host with systemd; nothing reaches this host."""
    twin = runtime.like()
    twin.prefix = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        'mount --make-rshared /; exec "$@"',
        "sh",
    ]
    return twin


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "propagation,tags",
    [
        (None, {"master"}),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("private", set()),
        ("rprivate", set()),
        ("shared", {"shared"}),
        ("unbindable", {"unbindable"}),
    ],
)
def test_rootfs_propagation(runtime: Runtime, propagation: str | None, tags: set[str]) -> None:
    bundle = runtime.bundle()
    if propagation:
        bundle.linux["rootfsPropagation"] = propagation
    seen = mounts(in_shared_mounts(runtime), bundle)["/"]
    if propagation is None:
        assert "shared" not in seen.tags  # what is not asked for must not reach back to the host
    elif tags == {"master"}:
        assert "shared" not in seen.tags and "unbindable" not in seen.tags
    else:
        assert tags <= seen.tags and ("shared" in seen.tags) == ("shared" in tags)


def test_unknown_rootfs_propagation(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["rootfsPropagation"] = "loud"
    runtime.run(bundle).fails("rootfsPropagation")


@pytest.mark.needs_root
def test_container_mounts_do_not_reach_a_shared_host(runtime: Runtime) -> None:
    twin = runtime.like()
    list_after = 'mount --make-rshared /; "$@" >/dev/null; exec cat /proc/self/mountinfo'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", list_after, "sh"]
    bundle = runtime.bundle().mount("/area", "tmpfs", "marker-of-the-test")
    assert "marker-of-the-test" not in twin.run(bundle).ok().out


@pytest.mark.needs_root
def test_slave_receives_mounts_of_the_host(runtime: Runtime, folder: Path) -> None:
    """rslave bind: what the host mounts later appears inside."""
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    bundle = runtime.bundle().bind(source, "/area", "rbind", "rslave")
    bundle.shell("echo ready; while ! [ -e /area/sub/token ]; do sleep 0.02; done; echo seen")
    bundle.linux["rootfsPropagation"] = "slave"
    twin = runtime.like()
    script = (
        f'mount -t tmpfs t {source} && mkdir {source}/sub && mount --make-rshared {source}; "$@" & '
        f"sleep 0.5; mount -t tmpfs late {source}/sub; touch {source}/sub/token; wait $!"
    )
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    id = runtime.new_id()
    going = twin.spawn("run", "--bundle", twin.put(bundle, id), id)
    going.says("seen")
    assert going.wait().status == 0
