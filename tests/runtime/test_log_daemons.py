"""`--log journald:NAME` and `syslog:NAME`: what arrives at the socket, and at the real journald if there is one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.log import datagram, journald
from pyrunc.log import syslog as syslog_of
from tests.support.patience import patient
from tests.support.runtime import Outcome, Runtime, wait_for

JOURNAL = "/run/systemd/journal/socket"


def fields(raw: bytes) -> dict[str, str]:
    """An entry in journald's own protocol, taken apart."""
    found = {}
    while raw:
        line, _, raw = raw.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(raw[:8], "little")
            value, raw = raw[8 : 8 + size], raw[8 + size :]
            assert raw[:1] == b"\n"
            raw = raw[1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]*", name)
        found[name.decode()] = value.decode()
    return found


class Daemon:
    """A datagram socket that stands in the place of a daemon's, for a runtime in a mount namespace of its own."""

    def __init__(self, runtime: Runtime, around: str) -> None:
        self.runtime = runtime.like()
        self.runtime.globals = []
        path = runtime.folder / "daemon"
        self.runtime.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        self.runtime.prefix += [f'set -e; {around.format(socket=path)}; exec "$@"', "sh"]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(patient(10))

    def entry(self) -> bytes:
        """The next entry; the content of the file where it came as one."""
        raw, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        if raw:
            return raw
        (file,) = descriptors
        try:
            seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
            assert seals & fcntl.F_SEAL_WRITE and seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_GROW
            return os.pread(file, 1 << 26, 0)
        finally:
            os.close(file)

    def nothing_more(self) -> bool:
        """Whether no further entry has come."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        return False

    def call(self, log: str, *words: str) -> Outcome:
        """A call of the runtime with this log."""
        return self.runtime.verb("--log", log, *words)


@pytest.fixture
def journal(runtime: Runtime) -> Iterator[Daemon]:
    daemon = Daemon(
        runtime,
        "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; "
        f"touch {JOURNAL}; mount --bind {{socket}} {JOURNAL}",
    )
    yield daemon
    daemon.socket.close()


@pytest.fixture
def syslog(runtime: Runtime) -> Iterator[Daemon]:
    daemon = Daemon(
        runtime, "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; ln -s {socket} /dev/log"
    )
    yield daemon
    daemon.socket.close()


@pytest.mark.needs_root
@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_in_the_journal(journal: Daemon, form: str) -> None:
    """The message, its priority, the name, and the code as a field; the message on stderr, too; nothing else."""
    id = journal.runtime.new_id()
    outcome = journal.call("journald:my-engine", "--log-format", form, "state", id)
    assert outcome.status == 1 and outcome.err == "container does not exist\n"
    assert fields(journal.entry()) == {
        "MESSAGE": "container does not exist",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "my-engine",
        "PYRUNC_LEVEL": "error",
        "PYRUNC_CODE": "not-found",
    }
    assert journal.nothing_more()


@pytest.mark.needs_root
def test_levels_and_priorities(journal: Daemon) -> None:
    journal.call("journald:x", "--debug", "state", journal.runtime.new_id())
    assert fields(journal.entry())["PRIORITY"] == "3"
    entry = fields(journal.entry())
    assert (entry["PRIORITY"], entry["PYRUNC_LEVEL"]) == ("7", "debug") and "PYRUNC_CODE" not in entry
    assert "Traceback" in entry["MESSAGE"] and "\n" in entry["MESSAGE"]  # whole, with its lines


@pytest.mark.needs_root
def test_a_message_too_big_for_a_datagram(journal: Daemon) -> None:
    """It arrives whole, in a file that nobody can change any more."""
    # The sender's buffer bounds a datagram, and by default that has 208 KiB. Each of these bytes is written as six.
    outcome = journal.call("journald:x", os.fsdecode(b"\xff" * 100_000))
    entry = fields(journal.entry())
    assert (
        entry["PYRUNC_CODE"] == "usage" and entry["MESSAGE"] == outcome.fails("unknown command").err.strip()
    )
    assert entry["MESSAGE"].count(r"\udcff") == 100_000


@pytest.mark.needs_root
def test_an_error_in_the_syslog(syslog: Daemon) -> None:
    syslog.call("syslog:my-engine", "state", syslog.runtime.new_id()).fails("does not exist")
    raw = syslog.entry().decode()
    # user.err is 8 + 3; the day has no leading zero.
    assert re.fullmatch(
        r"<11>(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 123]\d \d\d:\d\d:\d\d "
        r"my-engine\[\d+\]: container does not exist",
        raw,
    ), raw


@pytest.mark.needs_root
def test_json_in_the_syslog(syslog: Daemon) -> None:
    syslog.call("syslog:e", "--log-format", "json", "state", syslog.runtime.new_id())
    entry = json.loads(syslog.entry().decode().partition("]: ")[2])
    assert entry["msg"] == "container does not exist" and entry["code"] == "not-found"


def fill(address: str) -> None:
    """Leave no place in the queue of the socket at `address`.

    That may be longer (net.unix.max_dgram_qlen) than what one sender may have under way.
    """
    sent = 1
    while sent:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            filler.connect(address)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    filler.send(b"x")
                    sent += 1


@pytest.mark.needs_root
@pytest.mark.parametrize("log", ["journald:x", "syslog:x"])
def test_a_daemon_that_hangs_holds_nothing_up(request: pytest.FixtureRequest, log: str) -> None:
    """Its queue is full and nobody takes anything out: the entry is lost, the error on stderr is not."""
    daemon: Daemon = request.getfixturevalue("journal" if log.startswith("journald") else "syslog")
    fill(daemon.socket.getsockname())
    daemon.call(log, "state", daemon.runtime.new_id()).fails("does not exist")


@pytest.mark.parametrize(("module", "daemon"), [(journald, "Journal"), (syslog_of, "Syslog")])
def test_only_one_entry_waits_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, daemon: str
) -> None:
    """However many there are."""
    path = str(folder / "socket")
    monkeypatch.setattr(module, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        log = getattr(module, daemon)("x")
        with contextlib.closing(log._socket):
            fill(path)
            before = time.monotonic()
            for _ in range(5):
                with pytest.raises(OSError, match="timed out|temporarily unavailable"):
                    log.write("debug", "said", "", "said")
            assert datagram.PATIENCE <= time.monotonic() - before < 3 * datagram.PATIENCE


@pytest.mark.needs_root
def test_success_sends_nothing(journal: Daemon) -> None:
    journal.call("journald:x", "--log-format", "json", "list").ok()
    assert journal.nothing_more()


@pytest.mark.needs_root
@pytest.mark.parametrize(("log", "path"), [("journald:x", JOURNAL), ("syslog:x", "/dev/log")])
def test_no_daemon(runtime: Runtime, log: str, path: str) -> None:
    runtime.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    around = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3"
    runtime.prefix += [f'{around}; exec "$@"', "sh"]
    runtime.verb("--log", log, "list").fails(path, "no such file or directory")


@pytest.mark.parametrize("log", ["journald:", "syslog:"])
def test_no_name(runtime: Runtime, log: str) -> None:
    outcome = runtime.verb("--log", log, "list")
    assert outcome.status == 1 and "needs a name to log under" in outcome.err


def test_a_file_by_its_word(runtime: Runtime) -> None:
    """`file:` before a path is crun's; other words with a colon are paths."""
    for log, name in (("file:one", "one"), ("file:journald:x", "journald:x"), ("a:b", "a:b")):
        runtime.verb("--log", log, "state", runtime.new_id())
        assert "does not exist" in (runtime.folder / name).read_text()


@pytest.mark.needs_root
def test_the_real_journal(runtime: Runtime) -> None:
    """What journalctl finds again, by name and by code."""
    if not (Path(JOURNAL).exists() and Path("/run/systemd/system").is_dir()):
        pytest.skip("this host has no systemd-journald")
    name = f"{runtime.tag}-log"
    runtime.verb("--log", f"journald:{name}", "state", runtime.new_id()).fails("does not exist")
    query = ["journalctl", "--boot", "--output=json", f"SYSLOG_IDENTIFIER={name}", "PYRUNC_CODE=not-found"]

    def found() -> str:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout

    entry = json.loads(wait_for(found, say="the entry in the journal"))
    assert entry["MESSAGE"] == "container does not exist" and entry["PRIORITY"] == "3"
