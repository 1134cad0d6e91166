"""Descriptors that the caller gives to the container: LISTEN_FDS (sd_listen_fds(3)) and --preserve-fds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runtime import Runtime


def given(folder: Path, *names: str) -> Callable[[], None]:
    """What a child does to have files of these names and contents from descriptor 3 on."""
    for name in names:
        (folder / name).write_text(name)

    def arrange() -> None:
        high = [
            os.dup2(os.open(folder / name, os.O_RDONLY), 60 + number) for number, name in enumerate(names)
        ]
        for number, descriptor in enumerate(high):
            os.dup2(descriptor, 3 + number)
            os.close(descriptor)

    return arrange


def activated(runtime: Runtime, count: int, more: str = "") -> Runtime:
    """The runtime as systemd starts it: LISTEN_PID is its own pid, which the shell knows, as exec keeps it."""
    twin = runtime.like()
    twin.prefix = ["sh", "-c", f'LISTEN_FDS={count} LISTEN_PID=$$ {more} exec "$@"', "sh"]
    return twin


def listening(env: list[str]) -> dict[str, str]:
    """The variables of sd_listen_fds(3), each of which must be there once."""
    found = [entry.partition("=") for entry in env if entry.startswith("LISTEN_")]
    assert len({name for name, _, _ in found}) == len(found), found
    return {name: value for name, _, value in found}


def test_sockets_come_first_then_the_preserved(runtime: Runtime, folder: Path) -> None:
    """In the order in which the caller has them: those of LISTEN_FDS, then --preserve-fds, and no more."""
    twin = activated(runtime, 2, "LISTEN_FDNAMES=web:admin")
    bundle = twin.bundle().ask("env", "fds", *(f"readfd {number}" for number in range(3, 6)))
    arrange = given(folder, "three", "four", "five", "six")
    outcome = twin.run(bundle, "--preserve-fds", "1", preexec_fn=arrange, close_fds=False).ok()
    said = outcome.testimony
    assert [said[f"readfd {number}"] for number in range(3, 6)] == ["three", "four", "five"]
    assert sorted(said["fds"]) == ["0", "1", "2", "3", "4", "5"]
    assert listening(said["env"]) == {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "web:admin"}


def test_names_are_not_invented(runtime: Runtime, folder: Path) -> None:
    twin = activated(runtime, 1)
    said = (
        twin.run(twin.bundle().ask("env"), preexec_fn=given(folder, "three"), close_fds=False).ok().testimony
    )
    assert listening(said["env"]) == {"LISTEN_FDS": "1", "LISTEN_PID": "1"}


def test_what_is_true_wins_over_the_config(runtime: Runtime, folder: Path) -> None:
    """A config that was written down with the variables of another start."""
    twin = activated(runtime, 1, "LISTEN_FDNAMES=mine")
    for kinds in ((), ("pid",)):
        bundle = twin.bundle().without_namespace(*kinds).ask("env", "pid")
        bundle.process["env"] += ["LISTEN_FDS=7", "LISTEN_PID=99", "LISTEN_FDNAMES=old"]
        said = twin.run(bundle, preexec_fn=given(folder, "three"), close_fds=False).ok().testimony
        expected = {"LISTEN_FDS": "1", "LISTEN_PID": str(said["pid"]), "LISTEN_FDNAMES": "mine"}
        assert listening(said["env"]) == expected


@pytest.mark.parametrize("home", [None, "HOME=/area"])
def test_without_a_pid_namespace_of_its_own(runtime: Runtime, folder: Path, home: str | None) -> None:
    """sd_listen_fds(3) takes the descriptors only if LISTEN_PID is the process's own pid: here not 1."""
    twin = activated(runtime, 1, "LISTEN_FDNAMES=web")
    bundle = twin.bundle().without_namespace("pid").ask("pid", "env", "readfd 3")
    bundle.process["env"] += [home] if home else []
    said = twin.run(bundle, preexec_fn=given(folder, "three"), close_fds=False).ok().testimony
    assert said["pid"] != 1 and said["readfd 3"] == "three"
    assert listening(said["env"]) == {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(said["pid"]),
        "LISTEN_FDNAMES": "web",
    }
    assert (home or "HOME=/root") in said["env"]


def test_in_a_joined_pid_namespace(runtime: Runtime, folder: Path) -> None:
    with runtime.running(runtime.bundle().sleeper()) as other:
        twin = activated(runtime, 1)
        bundle = twin.bundle().namespace("pid", f"/proc/{other.pid}/ns/pid").ask("pid", "env")
        said = twin.run(bundle, preexec_fn=given(folder, "three"), close_fds=False).ok().testimony
        assert 1 < said["pid"] < 1000
        assert listening(said["env"]) == {"LISTEN_FDS": "1", "LISTEN_PID": str(said["pid"])}


@pytest.mark.parametrize("pid", ["1", "", "-", "$$ "])
def test_descriptors_for_another_process(runtime: Runtime, folder: Path, pid: str) -> None:
    """LISTEN_PID is not the runtime's: what is open is nobody's business, and the container gets nothing."""
    twin = runtime.like()
    twin.prefix = ["sh", "-c", f'LISTEN_FDS=1 LISTEN_PID="{pid}" LISTEN_FDNAMES=x exec "$@"', "sh"]
    said = twin.run(twin.bundle().ask("env", "fds"), preexec_fn=given(folder, "three"), close_fds=False)
    assert listening(said.ok().testimony["env"]) == {}
    assert sorted(said.testimony["fds"]) == ["0", "1", "2"]


def test_created_and_started(runtime: Runtime, folder: Path) -> None:
    """They wait with init; `start` is given none of them."""
    twin = activated(runtime, 1, "LISTEN_FDNAMES=web")
    container = twin.container(twin.bundle().ask("env", "readfd 3", "readfd 4", "fds", "sleep"))
    container.create("--preserve-fds", "1", preexec_fn=given(folder, "three", "four"), close_fds=False).ok()
    runtime.verb("start", container.id).ok()
    container.says("ready")
    said = container.testimony
    assert (said["readfd 3"], said["readfd 4"]) == ("three", "four")
    assert listening(said["env"]) == {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "web"}
    assert sorted(said["fds"]) == ["0", "1", "2", "3", "4"]
    container.kill("KILL").ok()


def test_fewer_than_promised(runtime: Runtime, folder: Path) -> None:
    """An error, not a container that takes some other file for its socket."""
    twin = activated(runtime, 2)
    bundle = twin.bundle()
    before = twin.footprint(bundle)
    outcome = twin.run(bundle, preexec_fn=given(folder, "three"), close_fds=False)
    outcome.fails("unable to stat preserved-fd 4 (of 2)", "bad file descriptor")
    (folder / "three").unlink()
    before.assert_unchanged()
