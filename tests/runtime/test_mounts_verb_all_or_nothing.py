"""`mounts add` and `mounts remove` that fail, or are killed or interrupted: all or nothing, or it is in the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts_verb import add, bind, hostile, points, recorded, remove, table, tmpfs
from tests.support.runtime import Container, Running, Runtime


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
