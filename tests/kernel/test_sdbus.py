"""D-Bus through libsystemd, with a message bus of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.systemd import bus as module
from pyrunc.linux.cgroups.systemd.bus import Bus, Refused, address_of

DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

pytestmark = pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="dbus-daemon is not installed")


@contextmanager
def daemon_at(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A message bus of one's own, ready."""
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address={address}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """The address of a message bus, at a path that has to be escaped."""
    address = address_of(f"{folder}/a b,c")
    with daemon_at(address):
        yield address


@pytest.fixture
def bus(address: str) -> Iterator[Bus]:
    bus = Bus(address, daemon=True)
    yield bus
    bus.close()


def test_a_call_and_its_reply(bus: Bus) -> None:
    (names,) = bus.call(*DAEMON, "ListNames")
    assert DAEMON[0] in names
    (credentials,) = bus.call(*DAEMON, "GetConnectionCredentials", "s", names[-1])
    assert ["ProcessID", os.getpid()] in credentials


def test_what_the_other_side_refuses(bus: Bus) -> None:
    with pytest.raises(Refused) as caught:
        bus.call(*DAEMON, "GetNameOwner", "s", "no.such.name")
    assert caught.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
    assert "no.such.name" in str(caught.value)
    assert bus.call(*DAEMON, "NameHasOwner", "s", "no.such.name") == [False]  # the bus goes on


def test_every_type_arrives_as_it_was_sent(bus: Bus, address: str) -> None:
    """Through the daemon to a second client, this process, that hears it as a signal."""
    hearer = Bus(address, daemon=True)
    hearer.call(*DAEMON, "AddMatch", "s", "type='signal',member='JobRemoved'")
    pairs = [
        ("string:a ä", "a ä"), ("objpath:/a/b", "/a/b"), ("boolean:true", True), ("byte:200", 200),
        ("int16:-5", -5), ("uint16:5", 5), ("int32:-6", -6), ("uint32:6", 6), ("int64:-7", -7),
        ("uint64:18446744073709551615", 2**64 - 1), ("double:1.5", 1.5), ("array:string:x,y", ["x", "y"]),
        ("dict:string:uint32:a,1", [["a", 1]]), ("variant:int32:-8", -8),
    ]  # fmt: skip
    words = [word for word, _ in pairs]
    subprocess.run(
        ["dbus-send", f"--bus={address}", "--type=signal", "/", "a.b.JobRemoved", *words], check=True
    )
    until = time.monotonic() + 10
    while not hearer.signals:
        hearer.wait_signal(until, "the signal")
    assert hearer.signals[0].values == [value for _, value in pairs]
    hearer.close()


def test_values_are_sent_with_their_types(bus: Bus) -> None:
    """The daemon says what arrived where it was not what it takes."""
    values = (
        (
            "a(sv)",
            [
                ("A", ("t", 5)),
                ("B", ("as", ["x"])),
                ("C", ("ay", b"\1\2")),
                ("D", ("a{sv}", [("k", ("b", True))])),
            ],
        ),
        ("ssau", "x", "y", [1, 2]),
        ("(id)", (1, 1.5)),
    )
    for signature, *content in values:
        with pytest.raises(Refused) as caught:
            bus.call(*DAEMON, "NameHasOwner", str(signature), *content)
        assert caught.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
        assert f'"{signature}"' in str(caught.value) or str(signature) in str(caught.value)


def test_nobody_there(folder: Path) -> None:
    with pytest.raises(PyruncError, match="no such file or directory"):
        Bus(address_of(f"{folder}/none"), daemon=True)


def test_one_that_does_not_even_greet(folder: Path) -> None:
    """Closing does not wait for it: a systemd that hangs still accepts connections, in its queue."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/bus")
        listener.listen(5)
        bus = Bus(address_of(f"{folder}/bus"), daemon=False)
        begun = time.monotonic()
        bus.close()
        assert time.monotonic() - begun < 5


def test_a_queue_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runtimes at once: who finds no room tries again."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as before:
        listener.bind(f"{folder}/bus")
        listener.listen(0)
        before.connect(f"{folder}/bus")
        with pytest.raises(PyruncError, match="temporarily unavailable"):
            Bus(address_of(f"{folder}/bus"), daemon=False)
        monkeypatch.setattr(module, "PATIENCE", 20.0)

        def serve() -> None:
            listener.accept()[0].close()

        accept = threading.Timer(0.2, serve)
        accept.start()
        Bus(address_of(f"{folder}/bus"), daemon=False).close()
        accept.join()


def test_a_daemon_that_ends(folder: Path) -> None:
    address = address_of(f"{folder}/bus")
    with daemon_at(address):
        bus = Bus(address, daemon=True)
        bus.call(*DAEMON, "ListNames")
    with pytest.raises(PyruncError, match="talk with D-Bus"):
        bus.call(*DAEMON, "ListNames")
    bus.close()


def test_one_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a deadline for everything."""
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    address = address_of(f"{folder}/bus")
    with daemon_at(address) as daemon:
        bus = Bus(address, daemon=True)
        bus.call(*DAEMON, "ListNames")
        daemon.send_signal(19)
        with pytest.raises(PyruncError, match="for an answer to ListNames") as caught:
            bus.call(*DAEMON, "ListNames")
        assert "list-jobs" in caught.value.remedy
    bus.close()
