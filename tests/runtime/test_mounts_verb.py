"""`mounts add` and `mounts remove`: mounts into and out of a container that runs, whose processes are hostile."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_old_mounts import FILTER
from tests.support import footprint
from tests.support.bundle import Bundle
from tests.support.runtime import Container, Outcome, Running, Runtime, wait_for

UID = GID = 1000


def entry(destination: str, kind: str, source: Path | str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": str(source), "options": list(options), **more}


def bind(source: Path | str, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    return entry(destination, "bind", source, "bind", *options, **more)


def tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return entry(destination, "tmpfs", "tmpfs", *options)


def mounts(container: Container, what: str, *entries: dict[str, Any]) -> Outcome:
    file = container.runtime.temporary()
    file.write(json.dumps(entries).encode())
    file.seek(0)
    return container.runtime.verb("mounts", what, container.id, "-", stdin=file)


def add(container: Container, *entries: dict[str, Any]) -> Outcome:
    return mounts(container, "add", *entries)


def remove(container: Container, *entries: dict[str, Any]) -> Outcome:
    return mounts(container, "remove", *entries)


def table(container: Container) -> list[list[str]]:
    """The lines of the container's mountinfo, as words."""
    return [line.split() for line in Path(f"/proc/{container.pid}/mountinfo").read_text().splitlines()]


def points(container: Container) -> list[str]:
    return [words[4] for words in table(container)]


def line(container: Container, point: str) -> list[str]:
    return [words for words in table(container) if words[4] == point][-1]


def flags(container: Container, point: str) -> set[str]:
    return set(line(container, point)[5].split(","))


def inside(container: Container, path: str) -> Path:
    """A path in the container's mounts, seen from outside."""
    return Path(f"/proc/{container.pid}/root{path}")


def recorded(container: Container) -> list[str]:
    state = json.loads((container.runtime.root / container.id / "state.json").read_text())
    return [mount["destination"] for mount, _ in state["mounts"]]


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


@pytest.fixture
def volume(folder: Path) -> Path:
    path = folder / "volume"
    path.mkdir()
    (path / "file").write_text("of the host")
    return path


@pytest.fixture
def sleeper(runtime: Runtime) -> Iterator[Container]:
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        yield container


def hostile(bundle: Bundle, *capabilities: str) -> Bundle:
    """Give the container's process capabilities of its user namespace."""
    names = [f"CAP_{name}" for name in capabilities]
    bundle.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    return bundle


# -- what is mounted ------------------------------------------------------------------------------------------


def test_add_and_remove(sleeper: Container, volume: Path) -> None:
    before = table(sleeper)
    entries = [bind(volume, "/new/data"), bind(volume / "file", "/etc/one")]
    add(sleeper, *entries).ok()
    assert inside(sleeper, "/new/data/file").read_text() == "of the host"
    assert inside(sleeper, "/etc/one").read_text() == "of the host"
    assert recorded(sleeper) == ["/new/data", "/etc/one"]
    remove(sleeper, *entries).ok()
    assert table(sleeper) == before
    assert recorded(sleeper) == []


def test_the_containers_process_sees_it(runtime: Runtime, volume: Path) -> None:
    script = "echo ready; while ! test -e /area/file; do sleep 0.05; done; cat /area/file"
    with runtime.running(runtime.bundle().shell(script)) as container:
        container.says("ready")
        add(container, bind(volume, "/area")).ok()
        container.says("of the host")


def test_from_a_file(sleeper: Container, volume: Path) -> None:
    file = volume / "mounts.json"
    file.write_text(json.dumps([bind(volume, "/data")]))
    sleeper.runtime.verb("mounts", "add", sleeper.id, str(file)).ok()
    assert "/data" in points(sleeper)


def test_an_empty_list_changes_nothing(sleeper: Container) -> None:
    before = table(sleeper)
    add(sleeper).ok()
    remove(sleeper).ok()
    assert table(sleeper) == before


def test_source_relative_to_the_bundle(sleeper: Container) -> None:
    (sleeper.bundle.path / "beside").mkdir()
    add(sleeper, bind("beside", "/data")).ok()
    assert line(sleeper, "/data")[3].endswith("/beside")


def test_options_of_a_bind_mount(sleeper: Container, volume: Path) -> None:
    # When files were last read is the host's to decide, where it owns the mount.
    options = ["ro", "nosuid", "nodev", "noexec"] + ["noatime"] * (os.geteuid() == 0)
    add(sleeper, bind(volume, "/a", *options)).ok()
    assert set(options) <= flags(sleeper, "/a")
    with pytest.raises(OSError, match="Read-only"):
        inside(sleeper, "/a/new").write_text("x")
    assert "rw" in line(sleeper, "/")[5]


@pytest.mark.needs_root
@pytest.mark.parametrize(("options", "shown"), [(("ro",), "rw"), (("rro",), "ro")])
def test_mounts_below_the_source(
    sleeper: Container, volume: Path, options: tuple[str, ...], shown: str
) -> None:
    (volume / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", volume / "sub"], check=True)
    add(sleeper, entry("/r", "none", volume, "rbind", *options), bind(volume, "/b")).ok()
    assert shown in flags(sleeper, "/r/sub")
    assert "/b/sub" not in points(sleeper)
    remove(sleeper, bind("", "/r")).ok()
    assert not [point for point in points(sleeper) if point.startswith("/r")]


def test_tmpfs(sleeper: Container) -> None:
    place = sleeper.bundle.rootfs / "place"
    place.mkdir()
    place.chmod(0o1711)
    add(sleeper, tmpfs("/place"), tmpfs("/new", "size=64k"), tmpfs("/own", "mode=0700")).ok()
    modes = [stat.S_IMODE(inside(sleeper, path).stat().st_mode) for path in ("/place", "/new", "/own")]
    assert modes == [0o1711, 0o1777, 0o700]
    assert "size=64k" in line(sleeper, "/new")[-1]


def test_tmpfs_with_what_is_there(sleeper: Container) -> None:
    add(sleeper, tmpfs("/etc", "tmpcopyup")).ok()
    passwd = "etc/passwd"
    assert inside(sleeper, f"/{passwd}").read_text() == (sleeper.bundle.rootfs / passwd).read_text()
    inside(sleeper, f"/{passwd}").write_text("changed")
    assert "root" in (sleeper.bundle.rootfs / passwd).read_text()


def test_a_place_in_an_earlier_mount(sleeper: Container, volume: Path) -> None:
    entries = [
        tmpfs("/t", "ro"),
        tmpfs("/t/in"),
        bind(volume / "file", "/t/in/file"),
        bind(volume, "/t/v", "ro"),
    ]
    add(sleeper, *entries).ok()
    assert "ro" in flags(sleeper, "/t") and "rw" in flags(sleeper, "/t/in")
    assert inside(sleeper, "/t/in/file").read_text() == "of the host"
    remove(sleeper, *entries).ok()
    assert not [point for point in points(sleeper) if point.startswith("/t")]


def test_file_systems_of_the_containers_namespaces(runtime: Runtime) -> None:
    with runtime.running(runtime.bundle().sleeper()) as container:
        container.says("ready")
        kinds = [entry("/p", "proc", "proc"), entry("/q", "mqueue", "mqueue")]
        if os.geteuid() == 0:  # else the test's network namespace is the host's
            kinds.append(entry("/s", "sysfs", "sysfs", "ro"))
        add(container, *kinds).ok()
        processes = [name for name in os.listdir(inside(container, "/p")) if name.isdigit()]
        assert processes == ["1"]  # the container's own, and nobody who has stayed there
        if os.geteuid() == 0:
            assert os.listdir(inside(container, "/s/class/net")) == ["lo"]
        remove(container, *kinds).ok()


@pytest.mark.needs_root
def test_message_queues_are_the_containers(runtime: Runtime) -> None:
    bundle = runtime.bundle().sleeper().mount("/dev/mqueue", "mqueue", "mqueue")
    with runtime.running(bundle) as container:
        container.says("ready")
        inside(container, "/dev/mqueue/one").touch()
        add(container, entry("/q", "mqueue", "mqueue")).ok()
        assert os.listdir(inside(container, "/q")) == ["one"]


def maps(inside: int, host: int, size: int = 10) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": host, "size": size}]


@pytest.mark.needs_root
def test_ids_are_mapped(sleeper: Container, volume: Path) -> None:
    add(sleeper, bind(volume, "/m", "idmap", uidMappings=maps(0, 1000), gidMappings=maps(0, 2000))).ok()
    status = inside(sleeper, "/m/file").stat()
    assert (status.st_uid, status.st_gid) == (1000, 2000)
    assert (volume / "file").stat().st_uid == 0


# -- user namespaces ------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(runtime: Runtime) -> Iterator[Container]:
    """A container in a user namespace, whose process has all rights there."""
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    hostile(bundle, "SYS_ADMIN", "DAC_OVERRIDE")
    script = 'echo ready; while read line; do sh -c "$line" 2>&1 || echo failed; done < /fifo; sleep 1000'
    bundle.shell(script)
    os.mkfifo(bundle.rootfs / "fifo")
    with runtime.running(bundle) as container:
        container.says("ready")
        yield container


@pytest.mark.needs_root
def test_in_a_user_namespace(mapped: Container, volume: Path) -> None:
    entries = [
        bind(volume, "/a", "ro"),
        bind(volume, "/own", "idmap"),
        bind(volume, "/m", uidMappings=maps(0, 300007), gidMappings=maps(0, 300008)),
        tmpfs("/t"),
        entry("/p", "proc", "proc"),
        entry("/s", "sysfs", "sysfs"),
        tmpfs("/etc", "tmpcopyup"),
    ]
    add(mapped, *entries).ok()
    owners = {path: inside(mapped, path).stat().st_uid for path in ("/a/file", "/own/file", "/m/file", "/t")}
    assert owners == {"/a/file": 0, "/own/file": 300000, "/m/file": 300007, "/t": 300000}
    assert inside(mapped, "/etc/passwd").stat().st_uid == 300000
    assert (mapped.bundle.rootfs / "t").stat().st_uid == 300000  # made by the container's root
    remove(mapped, *entries).ok()
    assert recorded(mapped) == []


@pytest.mark.needs_root
def test_a_source_that_only_the_host_may_reach(mapped: Container, folder: Path) -> None:
    source = folder / "closed" / "volume"
    source.mkdir(parents=True)
    source.parent.chmod(0o700)
    add(mapped, bind(source, "/v")).ok()
    assert "/v" in points(mapped)


@pytest.mark.needs_root
def test_what_the_hosts_mount_forbids_stays_forbidden(mapped: Container, volume: Path) -> None:
    """The container's root, with CAP_SYS_ADMIN in its namespace, cannot take it away; its own options it can."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,nosuid,nodev", "t", volume], check=True)
    add(mapped, bind(volume, "/locked"), bind(mapped.bundle.path, "/free", "ro")).ok()
    with open(mapped.bundle.rootfs / "fifo", "w") as commands:
        commands.writelines(
            f"mount -o remount,bind,rw {path} && echo {path} changed\n" for path in ("/locked", "/free")
        )
        commands.write("echo tried\n")
    mapped.says("tried")
    assert "/locked changed" not in mapped.out and "/free changed" in mapped.out
    assert {"ro", "nosuid", "nodev"} <= flags(mapped, "/locked") and "rw" in flags(mapped, "/free")


@pytest.mark.needs_root
def test_rootless(runtime: Runtime, volume: Path) -> None:
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID).sleeper()
    os.chown(bundle.path, UID, GID)
    with runtime.as_user(UID, GID).running(bundle) as container:
        container.says("ready")
        entries = [
            bind(volume, "/a", "ro"),
            tmpfs("/t"),
            entry("/p", "proc", "proc"),
            tmpfs("/etc", "tmpcopyup"),
        ]
        add(container, *entries).ok()
        assert inside(container, "/a/file").read_text() == "of the host"
        assert (bundle.rootfs / "a").stat().st_uid == UID
        mapping = {"uidMappings": maps(0, 5), "gidMappings": maps(0, 5)}
        add(container, bind(volume, "/m", **mapping)).fails("host's root only")
        remove(container, *entries).ok()
        assert "/a" not in points(container)
        add(container, tmpfs("/b"), tmpfs("/bin/busybox/x")).fails("not a directory")
        assert "/b" not in points(container)


# -- all or nothing -------------------------------------------------------------------------------------------


def test_all_or_nothing(sleeper: Container, volume: Path) -> None:
    before = table(sleeper)
    host = sleeper.runtime.footprint(sleeper.bundle)
    add(sleeper, bind(volume, "/a"), tmpfs("/a/file/no")).fails(
        "mount tmpfs on /a/file/no", "not a directory"
    )
    add(sleeper, tmpfs("/a"), tmpfs("/b"), bind(volume / "file", "/bin/sh/x")).fails("not a directory")
    add(sleeper, tmpfs("/a"), tmpfs("/b", "nonsense=1")).fails("mount tmpfs on /b", "nonsense")
    assert table(sleeper) == before
    assert recorded(sleeper) == []
    host.assert_unchanged()


def test_a_thousand_and_none(sleeper: Container, volume: Path) -> None:
    """More than a process is started with, and than the usual limit of open files."""
    before = table(sleeper)
    many = [bind(volume, f"/many/{number}") for number in range(600)]
    add(sleeper, *many, tmpfs("/bin/sh/x")).fails("not a directory")
    assert table(sleeper) == before
    add(sleeper, *many).ok()
    assert len(table(sleeper)) == len(before) + 600
    remove(sleeper, *many).ok()
    assert table(sleeper) == before


def begin(container: Container, until: int) -> tuple[list[dict[str, Any]], Running]:
    """Begin to mount many, and return when so many of them are there (or all)."""
    many = [tmpfs(f"/many/{number}") for number in range(400)]
    file = container.runtime.temporary()
    file.write(json.dumps(many).encode())
    file.seek(0)
    table_of = Path(f"/proc/{container.pid}/mountinfo")
    call = container.runtime.spawn("mounts", "add", container.id, "-", stdin=file)
    while table_of.read_text().count(" /many/") < until and call.process.poll() is None:
        pass
    return many, call


@pytest.mark.parametrize("until", [1, 100])
def test_killed_while_it_mounts(sleeper: Container, until: int) -> None:
    """Nobody goes on mounting, and what is mounted by then can be removed."""
    before = table(sleeper)
    host = sleeper.runtime.footprint(sleeper.bundle)
    many, call = begin(sleeper, until)
    call.process.kill()
    call.wait()
    host.assert_unchanged()
    assert len(recorded(sleeper)) == len(many) > len(table(sleeper)) - len(before)
    remove(sleeper, *many).ok()
    assert table(sleeper) == before and recorded(sleeper) == []


def test_killed_while_it_unmounts(sleeper: Container) -> None:
    before = table(sleeper)
    many = [tmpfs(f"/many/{number}") for number in range(400)]
    add(sleeper, *many).ok()
    file = sleeper.runtime.temporary()
    file.write(json.dumps(many).encode())
    file.seek(0)
    table_of = Path(f"/proc/{sleeper.pid}/mountinfo")
    call = sleeper.runtime.spawn("mounts", "remove", sleeper.id, "-", stdin=file)
    while table_of.read_text().count(" /many/") == 400 and call.process.poll() is None:
        pass
    call.process.kill()
    call.wait()
    if recorded(sleeper):  # else it was faster
        remove(sleeper, *many).ok()
    assert table(sleeper) == before and recorded(sleeper) == []


@pytest.mark.parametrize("until", [1, 100])
def test_interrupted_while_it_mounts(sleeper: Container, until: int) -> None:
    before = table(sleeper)
    many, call = begin(sleeper, until)
    call.process.terminate()

    if call.wait().status == 0:  # it was faster
        remove(sleeper, *many).ok()
    assert table(sleeper) == before and recorded(sleeper) == []


@pytest.mark.needs_root
def test_what_cannot_be_taken_back_stays_in_the_record(runtime: Runtime) -> None:
    """The container shares the host's PID namespace, and kills who mounts in it, and who takes that back."""
    bundle = runtime.bundle().map_ids(host=340000, size=1000).give_rootfs(340000, 340000)  # no other test's
    hostile(bundle.without_namespace("pid"), "KILL")
    bundle.shell("echo ready; while :; do kill -9 -1 && sleep 0.0$((i = (i + 1) % 7)); done 2>/dev/null")
    # A new /proc would show the processes of the host, which is not for a user namespace.
    bundle.without_mount("/proc").bind("/proc", "/proc", "rbind")
    with runtime.running(bundle) as container:
        container.says("ready")
        before = set(points(container))
        for number in range(8):
            failing = [tmpfs(f"/{number}/{index}") for index in range(200)] + [tmpfs("/bin/sh/x")]
            assert add(container, *failing).status == 1
            assert set(points(container)) - before <= set(recorded(container))


def test_none_is_removed_if_one_is_not_there(sleeper: Container) -> None:
    add(sleeper, tmpfs("/a"), tmpfs("/b")).ok()
    remove(sleeper, tmpfs("/a"), tmpfs("/home"), tmpfs("/b")).fails("/home", "nothing is mounted there")
    remove(sleeper, tmpfs("/missing"), tmpfs("/b")).fails("/missing", "no such file")
    assert recorded(sleeper) == ["/a", "/b"] and {"/a", "/b"} <= set(points(sleeper))


def test_one_upon_the_other(sleeper: Container, volume: Path) -> None:
    add(sleeper, tmpfs("/a"), bind(volume, "/a")).ok()
    add(sleeper, tmpfs("/a", "size=8k")).ok()
    assert points(sleeper).count("/a") == 3
    remove(sleeper, tmpfs("/a")).ok()
    assert inside(sleeper, "/a/file").exists()
    remove(sleeper, tmpfs("/a"), tmpfs("/a")).ok()
    assert "/a" not in points(sleeper)


def test_with_a_mount_goes_what_is_mounted_in_it(sleeper: Container) -> None:
    add(sleeper, tmpfs("/a"), tmpfs("/a/b"), tmpfs("/ab")).ok()
    remove(sleeper, tmpfs("/a")).ok()
    assert recorded(sleeper) == ["/ab"]


def test_one_in_the_other_in_any_order(sleeper: Container) -> None:
    before = table(sleeper)
    add(sleeper, tmpfs("/a"), tmpfs("/a/b"), tmpfs("/c")).ok()
    remove(sleeper, tmpfs("/c"), tmpfs("/a/b"), tmpfs("/a")).ok()
    assert table(sleeper) == before and recorded(sleeper) == []


def test_a_mount_of_the_configuration_can_be_removed(sleeper: Container) -> None:
    add(sleeper, tmpfs("/dev/shm/in"), tmpfs("/dev/shmem")).ok()
    remove(sleeper, tmpfs("/dev/shm")).ok()
    assert "/dev/shm" not in points(sleeper)
    assert recorded(sleeper) == ["/dev/shmem"]


# -- when, and with what --------------------------------------------------------------------------------------


def test_status(runtime: Runtime, volume: Path) -> None:
    container = runtime.container(runtime.bundle().sleeper())
    container.create().ok()
    add(container, bind(volume, "/created")).ok()
    container.start().ok()
    container.says("ready")
    assert "/created" in points(container)
    container.kill("KILL").ok()
    container.stops()
    for what in ("add", "remove"):
        mounts(container, what, tmpfs("/a")).fails("container not running")
    file = volume / "mounts.json"
    file.write_text("[]")
    runtime.verb("mounts", "add", runtime.new_id(), str(file)).fails("does not exist")


@pytest.mark.needs_root
def test_paused(sleeper: Container, volume: Path) -> None:
    sleeper.runtime.verb("pause", sleeper.id).ok()
    add(sleeper, bind(volume, "/a"), entry("/p", "proc", "proc")).ok()
    add(sleeper, tmpfs("/etc", "tmpcopyup")).fails("paused", "resume")
    remove(sleeper, bind(volume, "/a")).ok()
    sleeper.runtime.verb("resume", sleeper.id).ok()
    assert "/p" in points(sleeper) and "/a" not in points(sleeper)


BAD: dict[str, tuple[Any, tuple[str, ...]]] = {
    "an object": ({}, ("not a JSON array",)),
    "a number": ([1], ("mounts[0]", "must be an object")),
    "no destination": ([{"type": "tmpfs"}], ("mounts[0]", "destination")),
    "empty destination": ([tmpfs("")], ("destination", "at least one character")),
    "NUL": ([tmpfs("/a\0b")], ("NUL",)),
    "the root": ([tmpfs("/")], ("the root",)),
    "the root by another name": ([tmpfs("/bin/..")], ("the root",)),
    "/proc": ([entry("/proc", "proc", "proc")], ("/proc", "stays as it is")),
    "in /proc": ([tmpfs("/proc/sys")], ("inside /proc",)),
    "over a mask": ([entry("/sys", "sysfs", "sysfs")], ("/sys/firmware", "masked")),
    "a mask itself": ([tmpfs("/sys/firmware")], ("masked",)),
    "no source": ([bind("/missing", "/a")], ("/missing", "no such file or directory")),
    "no type": ([{"destination": "/a"}], ("type", "is missing")),
    "no such type": ([entry("/a", "nosuchfs", "")], ("nosuchfs", "no such device")),
    "unknown option": ([bind("/bin", "/a", "nonsense")], ("filesystem-specific", "nonsense")),
    "remount": ([entry("/dev", "tmpfs", "", "remount", "ro")], ("remount",)),
    "cgroup": ([entry("/a", "cgroup", "cgroup")], ("cgroup", "config.json")),
    "cgroup2": ([entry("/a", "cgroup2", "cgroup")], ("cgroup2", "config.json")),
    "mount(2)": ([tmpfs("/a", "silent")], ("mount(2)",)),
    "a later one": ([tmpfs("/a"), entry("/b", "nosuchfs", "")], ("mount nosuchfs on /b",)),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(sleeper: Container, what: str) -> None:
    entries, words = BAD[what]
    before = table(sleeper)
    file = sleeper.bundle.path / "bad.json"
    file.write_text(json.dumps(entries))
    host = sleeper.runtime.footprint(sleeper.bundle)
    sleeper.runtime.verb("mounts", "add", sleeper.id, str(file)).fails(*words)
    assert table(sleeper) == before and recorded(sleeper) == []
    host.assert_unchanged()


def test_bad_words(sleeper: Container) -> None:
    verb = sleeper.runtime.verb
    assert "not understood" in verb("mounts", "list", sleeper.id, "x").err
    assert "requires" in verb("mounts", "add", sleeper.id).err
    verb("mounts", "add", sleeper.id, "/missing/file").fails("/missing/file", "no such file")
    file = sleeper.bundle.path / "bad.json"
    file.write_text("[{]")
    verb("mounts", "add", sleeper.id, str(file)).fails("bad.json", "line 1")


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/sys", "/proc/kcore", "/sys/firmware", "/sys", "/home"])
def test_what_must_not_be_unmounted(sleeper: Container, path: str) -> None:
    before = table(sleeper)
    assert remove(sleeper, tmpfs(path)).status == 1
    assert table(sleeper) == before


def test_without_a_mount_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().without_namespace("mount").sleeper()
    bundle.config["mounts"] = []
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    with runtime.running(bundle) as container:
        container.says("ready")
        add(container, tmpfs("/a")).fails("mount namespace")
        remove(container, tmpfs("/tmp")).fails("mount namespace")


@pytest.mark.needs_root
def test_a_source_that_root_may_not_look_at(sleeper: Container, volume: Path) -> None:
    os.chown(volume, UID, GID)
    volume.chmod(0o700)
    sleeper.runtime.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]
    outcome = add(sleeper, bind(volume / "file", "/a"))
    sleeper.runtime.prefix = []
    outcome.fails(f"open {volume}/file", "permission denied")


@pytest.mark.needs_root
def test_without_the_newer_calls(sleeper: Container, volume: Path) -> None:
    old = sleeper.runtime.like()
    old.prefix = [*FILTER, "ENOSYS"]
    file = volume / "mounts.json"
    file.write_text(json.dumps([tmpfs("/dev/shm")]))
    old.verb("mounts", "add", sleeper.id, str(file)).fails("move_mount(2)", "5.12")
    old.verb("mounts", "remove", sleeper.id, str(file)).ok()
    assert "/dev/shm" not in points(sleeper)


# -- the container's processes --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("word", "tags"), [("rprivate", set()), ("rshared", {"shared"}), ("unbindable", {"unbindable"})]
)
def test_propagation(sleeper: Container, volume: Path, word: str, tags: set[str]) -> None:
    add(sleeper, bind(volume, "/v", word), tmpfs("/t", word)).ok()
    for point in ("/v", "/t"):
        words = line(sleeper, point)
        found = {tag.partition(":")[0] for tag in words[6 : words.index("-")]}
        assert found - {"master"} == tags
