"""The session keyring (session-keyring(7)): the container's own, or the caller's where that is asked for."""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
from pathlib import Path

import pytest

from tests.support.runtime import Container, Runtime

KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM, KEYCTL_DESCRIBE = 1, 5, 6
SESSION = -3
ADD_KEY, KEYCTL = 248, 250
SECRET = "the-callers-secret"


def _call(number: int, *words: object) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *words)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result


def with_a_secret() -> None:
    """What a child does to have a session keyring of its own with a key in it that everybody may read."""
    _call(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, b"of-the-caller")
    key = _call(ADD_KEY, b"user", b"secret", SECRET.encode(), ctypes.c_size_t(len(SECRET)), SESSION)
    _call(KEYCTL, KEYCTL_SETPERM, key, 0x3F3F3F3F)


def keyring_of(container: Container) -> str:
    """The name in its record."""
    record = json.loads((container.runtime.root / container.id / "state.json").read_text())
    return str(record["keyring"])


def test_the_container_has_its_own(runtime: Runtime) -> None:
    """Named after it and a number that nobody can guess, without the caller's keys, to be found by its owner."""
    bundle = runtime.bundle().ask("keyring", "key secret")
    id = runtime.new_id()
    words = ("run", "--bundle", runtime.put(bundle, id), id)
    said = runtime.verb(*words, preexec_fn=with_a_secret).ok().testimony
    assert re.fullmatch(rf"keyring;0;0;3f1b0000;_ses\.{id}\.[0-9a-f]{{16}}", said["keyring"])
    assert said["key secret"] == {"errno": "ENOKEY"}


def test_no_new_keyring_keeps_the_callers(runtime: Runtime) -> None:
    bundle = runtime.bundle().ask("keyring", "key secret")
    said = runtime.run(bundle, "--no-new-keyring", preexec_fn=with_a_secret).ok().testimony
    assert said["keyring"] == "keyring;0;0;3f130000;of-the-caller"
    assert said["key secret"] == SECRET


@pytest.mark.skipif(
    os.geteuid() != 0, reason="this host runs the tests as an ordinary user, who cannot be another"
)
def test_nobody_can_have_made_it_before(runtime: Runtime) -> None:
    """A user of the host makes keyrings of the names that a container could have, and lets root find them."""
    bundle = runtime.bundle().ask("keyring")
    id = runtime.new_id()
    ready, end = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(1234, 1234, 1234)
            for name in (f"_ses.{id}", "_ses"):  # the first is runc's name
                _call(
                    KEYCTL,
                    KEYCTL_SETPERM,
                    _call(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, name.encode()),
                    0x3F3F3F3F,
                )
                os.write(ready[1], b"1")
                os.read(end[0], 1)
        finally:
            os._exit(0)
    try:
        for _ in range(2):
            os.read(ready[0], 1)
            said = runtime.verb("run", "--bundle", runtime.put(bundle, id), id).ok().testimony
            assert said["keyring"].startswith("keyring;0;0;3f1b0000;")
            os.write(end[1], b"1")
    finally:
        os.write(end[1], b"11")
        os.waitpid(pid, 0)
        for descriptor in (*ready, *end):
            os.close(descriptor)


def test_created_and_started(runtime: Runtime) -> None:
    """It is made at `create`; who calls `start` does not matter."""
    container = runtime.container(runtime.bundle().ask("keyring", "key secret", "sleep"))
    container.create().ok()
    runtime.verb("start", container.id, preexec_fn=with_a_secret).ok()
    container.says("ready")
    assert container.testimony["keyring"].endswith(f";{keyring_of(container)}")
    assert container.testimony["key secret"] == {"errno": "ENOKEY"}
    container.kill("KILL").ok()


def test_another_user_in_the_container_has_it_too(runtime: Runtime) -> None:
    """It is possessed, not owned; keys can be put into it."""
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    said = runtime.ask(bundle, "keyring", "syscall keyctl 0 -3 0")
    assert said["keyring"].split(";")[:4] == ["keyring", "0", "0", "3f1b0000"]
    assert said["syscall keyctl 0 -3 0"] > 0


def test_who_joins_the_container_later_finds_it(runtime: Runtime, folder: Path) -> None:
    """By its name, as the owner who runs the next process in the container.

    Without the permission to search it keyctl(2) would make another keyring of the same name.
    """
    serials = folder / "serials"

    def serial_from_inside() -> None:
        _call(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, keyring_of(container).encode())
        serials.write_bytes(struct.pack("i", _call(KEYCTL, 0, SESSION, 0)))

    container = runtime.container(runtime.bundle().ask("syscall keyctl 0 -3 0", "sleep"))
    container.create().ok()
    container.start().ok()
    container.says("ready")
    runtime.verb("state", container.id, preexec_fn=serial_from_inside).ok()
    assert struct.unpack("i", serials.read_bytes())[0] == container.testimony["syscall keyctl 0 -3 0"]
    container.kill("KILL").ok()


@pytest.mark.parametrize("uid", [0, 5])
def test_in_a_user_namespace_others_may_search_it(runtime: Runtime, uid: int) -> None:
    """Who joins later need not be its owner. Its name is known in this user namespace only."""
    bundle = runtime.bundle().map_ids(host=300000, size=1000)
    bundle.process["user"] = {"uid": uid, "gid": uid}
    id = runtime.new_id()
    words = ("run", "--bundle", runtime.put(bundle.ask("keyring"), id), id)
    said = runtime.verb(*words, preexec_fn=with_a_secret).ok().testimony
    assert said["keyring"].startswith(f"keyring;0;0;3f1b0008;_ses.{id}.")


def test_rootless(runtime: Runtime) -> None:
    twin = runtime.as_user(1000, 1000)
    bundle = twin.bundle().rootless(1000, 1000).give_rootfs(1000, 1000).ask("keyring", "key secret")
    said = twin.run(bundle, preexec_fn=with_a_secret).ok().testimony
    assert ";3f1b0008;_ses." in said["keyring"]
    assert said["key secret"] == {"errno": "ENOKEY"}


def test_quota(runtime: Runtime) -> None:
    """Without a key to spare the container is refused: it would keep the caller's. What to do is said."""
    twin = runtime.as_user(1977, 1977)
    bundle = twin.bundle().rootless(1977, 1977).give_rootfs(1977, 1977).ask("key secret")

    def as_its_last_key() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.syscall(117, 1977, 1977, 1977) == 0  # setresuid, to use up that user's quota
        libc.syscall(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, b"full")
        number = 0
        while libc.syscall(ADD_KEY, b"user", b"%d" % number, b"x", ctypes.c_size_t(1), SESSION) > 0:
            number += 1
        assert number < 10000  # none, where the kernel has not yet collected those of a moment ago

    before = twin.footprint(bundle)
    twin.prefix = []
    twin.run(bundle, preexec_fn=as_its_last_key, group=1977, extra_groups=[]).fails(
        "join a new session keyring: disk quota exceeded", "kernel.keys.maxkeys", "--no-new-keyring"
    )
    before.assert_unchanged()
    # And so it goes.
    assert twin.run(
        bundle, "--no-new-keyring", preexec_fn=as_its_last_key, group=1977, extra_groups=[]
    ).ok().testimony["key secret"] == {"errno": "ENOKEY"}


@pytest.mark.parametrize("number", [1, 38], ids=["EPERM", "ENOSYS"])
def test_where_an_outer_container_forbids_keys(runtime: Runtime, number: int) -> None:
    """Docker's profile refuses keyctl(2), and some say it does not exist: nothing is to be reached then."""
    import pyseccomp

    def forbid() -> None:
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        rules.add_rule(pyseccomp.ERRNO(number), "keyctl")
        rules.load()

    said = runtime.run(runtime.bundle().ask("keyring"), preexec_fn=forbid).ok().testimony
    assert said["keyring"] == {"errno": {1: "EPERM", 38: "ENOSYS"}[number]}
