"""`mounts add` and `mounts remove` where the container's processes are hostile: links, moved mounts, other roots."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import footprint
from tests.support.mounts_verb import add, bind, entry, hostile, line, points, remove, table, tmpfs
from tests.support.runtime import Container, Runtime, wait_for


def mounted_of(path: Path) -> set[str]:
    """The host's mounts of what is at `path`, and at it."""
    return {mount for mount in footprint.mounts() if str(path) in mount}


def members(container: Container) -> list[str]:
    """The names of all processes that are in the container's PID namespace."""
    found, wanted = [], os.readlink(f"/proc/{container.pid}/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == wanted:
                found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue  # it has ended
    return found


# -- links -------------------------------------------------------------------------------------------------


LINKS = {
    "absolute": ("/area", "/area"),
    "up": ("../../../../../../area", "/area"),
    "in the way": ("/home", "/home/place"),
}


@pytest.mark.parametrize("what", LINKS)
def test_links_lead_to_places_inside(sleeper: Container, volume: Path, what: str) -> None:
    target, place = LINKS[what]
    (sleeper.bundle.rootfs / "link").symlink_to(target)
    destination = "/link/place" if what == "in the way" else "/link"
    host = sleeper.runtime.footprint(sleeper.bundle)
    add(sleeper, bind(volume, destination)).ok()
    assert place in points(sleeper)
    host.assert_unchanged()
    remove(sleeper, bind(volume, destination)).ok()
    assert place not in points(sleeper)


def test_a_link_to_nothing(sleeper: Container, volume: Path) -> None:
    (sleeper.bundle.rootfs / "link").symlink_to("/run/missing")
    add(sleeper, bind(volume, "/link")).fails("/link", "symbolic link")
    assert not (sleeper.bundle.rootfs / "run/missing").exists()


@pytest.mark.parametrize("target", ["/proc/sys", "/proc/self", "/proc/1/root", "/proc/self/fd/0", "/proc"])
def test_links_lead_not_into_proc(sleeper: Container, target: str) -> None:
    before = table(sleeper)
    (sleeper.bundle.rootfs / "link").symlink_to(target)
    for destination in ("/link", "/link/kernel"):
        assert add(sleeper, tmpfs(destination)).status == 1
        assert table(sleeper) == before


def test_remove_follows_links_only_to_its_own(sleeper: Container, volume: Path) -> None:
    (sleeper.bundle.rootfs / "link").symlink_to("/dev/shm")
    remove(sleeper, tmpfs("/link")).fails("symbolic links")
    add(sleeper, bind(volume, "/link")).ok()
    (sleeper.bundle.rootfs / "link").unlink()
    (sleeper.bundle.rootfs / "link").symlink_to("/dev")
    remove(sleeper, tmpfs("/link")).fails("not what `mounts add` has mounted")
    assert points(sleeper).count("/dev/shm") == 2 and "/dev" in points(sleeper)


EXCHANGE = """
echo ready
while :; do
  busybox mkdir /swap 2>/dev/null; busybox rmdir /swap 2>/dev/null; busybox rm -rf /swap 2>/dev/null
  busybox ln -s {target} /swap 2>/dev/null; busybox rm -f /swap 2>/dev/null
done"""


@pytest.mark.parametrize("inner", ["", "/in/side"])
def test_a_place_that_is_exchanged_all_the_time(runtime: Runtime, folder: Path, inner: str) -> None:
    """What a link says is a path of the host, too; there nothing may be mounted or made."""
    source, target = folder / "volume", folder / "target"
    source.mkdir()
    target.mkdir()
    bundle = runtime.bundle().shell(EXCHANGE.format(target=f"../../../../../..{target}"))
    with runtime.running(bundle) as container:
        container.says("ready")
        host = mounted_of(folder)
        outcomes = set()
        for _ in range(15):
            outcomes.add(add(container, bind(source, f"/swap{inner}")).status)
            assert not list(target.iterdir())
            assert mounted_of(folder) == host
        assert outcomes <= {0, 1}
        roots = {words[4]: words[3] for words in table(container)}
        found = [point for point, root in roots.items() if root.endswith("/volume")]
        assert all(point.startswith(("/swap", str(target))) for point in found), found


# -- processes ---------------------------------------------------------------------------------------------


@pytest.mark.needs_root
def test_what_was_moved_or_covered_is_not_mistaken(runtime: Runtime, volume: Path) -> None:
    bundle = hostile(runtime.bundle(), "SYS_ADMIN")
    bundle.shell(
        "echo ready; while ! test -e /area/file; do sleep 0.05; done; mount -t tmpfs x /area; echo covered; sleep 1000"
    )
    with runtime.running(bundle) as container:
        container.says("ready")
        add(container, bind(volume, "/area")).ok()
        container.says("covered")
        remove(container, bind(volume, "/area")).fails("not what `mounts add` has mounted")
        assert points(container).count("/area") == 2


@pytest.mark.needs_root
def test_a_process_that_has_changed_its_root(runtime: Runtime, volume: Path) -> None:
    """Destinations are those of the container, as at create, and not of where its process has gone."""
    bundle = hostile(runtime.bundle(), "SYS_CHROOT")
    (bundle.rootfs / "area/bin").mkdir()
    (bundle.rootfs / "area/bin/busybox").write_bytes((bundle.rootfs / "bin/busybox").read_bytes())
    (bundle.rootfs / "area/bin/busybox").chmod(0o755)
    bundle.process["args"] = ["busybox", "chroot", "/area", "/bin/busybox", "sleep", "1000"]
    with runtime.running(bundle) as container:
        wait_for(lambda: os.readlink(f"/proc/{container.pid}/root") == "/area", say="chroot")
        add(container, bind(volume, "/home"), bind(volume, "/area/below")).ok()
        assert (bundle.rootfs / "area/below").exists() and not (bundle.rootfs / "area/home").exists()
        # Of its own root such a process sees only what is in it.
        assert points(container).count("/below") == 1
        remove(container, bind(volume, "/home"), bind(volume, "/area/below")).ok()


@pytest.mark.needs_root
def test_nobody_in_the_container_sees_who_mounts(runtime: Runtime, volume: Path) -> None:
    script = "echo ready; while :; do cat /proc/[0-9]*/comm 2>/dev/null; done"
    with runtime.running(runtime.bundle().shell(script)) as container:
        container.says("ready")
        for number in range(10):
            add(container, bind(volume, f"/area/{number}"), tmpfs(f"/area/{number}/t")).ok()
            remove(container, bind(volume, f"/area/{number}")).ok()
        assert container.out.count("sh") > 20  # it looks all the time
        assert set(container.out.split()) <= {"ready", "sh", "cat", "busybox"}


LOOK = """
echo ready
while :; do
  kill -STOP -1 2>/dev/null || continue
  for process in /proc/[0-9]*; do
    test $process = /proc/1 || cat $process/root{secret} 2>/dev/null
  done
  echo stopped
done"""


@pytest.mark.needs_root
def test_who_makes_a_procfs_can_be_stopped_and_looked_into(runtime: Runtime, volume: Path) -> None:
    """It is in the container's PID namespace. Even who may trace it sees nothing of the host, and holds nobody up."""
    bundle = hostile(runtime.bundle(), "SYS_PTRACE", "KILL").shell(LOOK.format(secret=volume / "file"))
    with runtime.running(bundle) as container:
        container.says("ready")
        for number in range(15):
            outcome = add(container, entry(f"/p/{number}", "proc", "proc"))
            if outcome.status:
                outcome.fails(f"mount proc on /p/{number}", "was ended")
        container.says("stopped")
        assert "of the host" not in container.out
        assert "pyrunc-init" not in members(container)


@pytest.mark.needs_root
def test_mounts_do_not_reach_the_host(runtime: Runtime, volume: Path) -> None:
    """The host's mount is shared; what the container mounts in it, or the runtime on it, stays in the container."""
    subprocess.run(["mount", "-t", "tmpfs", "shared", volume], check=True)
    subprocess.run(["mount", "--make-shared", volume], check=True)
    (volume / "in").mkdir()
    bundle = hostile(runtime.bundle(), "SYS_ADMIN")
    bundle.shell(
        "echo ready; while ! test -d /v/in; do sleep 0.05; done; mount -t tmpfs x /v/in; echo done; sleep 1000"
    )
    with runtime.running(bundle) as container:
        container.says("ready")
        host = mounted_of(volume)
        add(container, bind(volume, "/v")).ok()
        container.says("done")
        add(container, tmpfs("/v/in")).ok()
        assert points(container).count("/v/in") == 2
        assert mounted_of(volume) == host
        words = line(container, "/v")
        assert any(word.startswith("master:") for word in words), (
            "as at create: what the host mounts comes in"
        )
        assert not any(word.startswith("shared:") for word in words)
