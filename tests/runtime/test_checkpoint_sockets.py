"""checkpoint and restore: connections within the container and out of it, and the network that is held meanwhile."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import criu as tool
from tests.support import footprint
from tests.support.checkpointed import Named, beside, counting, goes_on, started
from tests.support.netns import NetworkNamespace
from tests.support.payload import busybox
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]

#: SO_PASSCRED: criu before 4.2 asks it of every socket, newer kernels have it for unix sockets only.
NO_TCP = "sockets: Can't get 1:16 opt"
PORT = 7000


def talking(runtime: Runtime) -> Named:
    """A container that counts through a TCP connection of its own."""
    return started(runtime, runtime.bundle().ask("tcp-pair", "count-into 4 5", "sleep"))


def dump_tcp(container: Container, images: Path, *flags: str) -> None:
    """Checkpoint what has TCP sockets; where no criu here can, it must at least not ask for the flag any more."""
    done = container.checkpoint(images, *flags)
    if NO_TCP in done.err:
        for word in ("consider using", "In-flight"):
            assert word not in done.err, repr(done)
        assert container.status == "running"
        pytest.skip(f"the kernel is too new for this criu, which dumps no TCP sockets: {NO_TCP}")
    done.ok()


def test_a_connection(runtime: Runtime, images: Path) -> None:
    container = talking(runtime)
    container.checkpoint(images).fails("Connected TCP socket, consider using --tcp-established")
    goes_on(container)
    dump_tcp(container, images, "--tcp-established")
    container.restore(images)
    assert "inet: Connected TCP socket in image" in container.err
    container.truncate()
    container.restore(images, "--tcp-established").ok()
    goes_on(container)


@pytest.mark.parametrize("flag", ["--tcp-established", "--tcp-close"])
def test_a_connection_that_a_restore_closes(runtime: Runtime, images: Path, flag: str) -> None:
    """With --tcp-close what is under way is not even dumped, and no restore can do without."""
    container = talking(runtime)
    dump_tcp(container, images, flag)
    if flag == "--tcp-close":
        container.restore(images)
        assert "Need to set the --tcp-close options" in container.err
        container.truncate()
    container.restore(images, "--tcp-close").ok()
    container.says('"count-into 4 5","answer":{"errno":"EPIPE"}}')
    container.says('"sleep","answer":"ready"')
    assert container.status == "running"


@contextlib.contextmanager
def knocking(container: Container) -> Iterator[None]:
    """Somebody in the container's network namespace, but not of it, waits there to be let in."""
    inside = ["nsenter", f"--net=/proc/{container.pid}/ns/net", "--", str(busybox())]
    caller = subprocess.Popen([*inside, "nc", "127.0.0.1", str(PORT)], stdin=subprocess.PIPE)
    footprint.own_children.add(caller.pid)
    try:
        wait_for(lambda: waiting(container) == 1, say="a connection")
        yield
    finally:
        caller.kill()
        caller.communicate()
        footprint.own_children.discard(caller.pid)


def waiting(container: Container) -> int:
    """How many connections the listening socket has that have not been accepted; -1 if nobody listens."""
    for line in Path(f"/proc/{container.pid}/net/tcp").read_text().splitlines():
        if f":{PORT:04X} 00000000:0000 0A " in line:
            return int(line.split()[4].partition(":")[2], 16)
    return -1


def test_a_connection_that_waits_to_be_accepted(runtime: Runtime, images: Path) -> None:
    container = started(runtime, runtime.bundle().ask(f"listener {PORT}", "sleep"), "ready")
    with knocking(container):
        container.checkpoint(images).fails("In-flight connection")
        assert waiting(container) == 1
        dump_tcp(container, images, "--tcp-skip-in-flight")
    container.restore(images).ok()
    assert waiting(container) == 0


def test_a_unix_socket_outside(runtime: Runtime, images: Path) -> None:
    """As that of a log: a restored container goes on to send there."""
    folder = beside(runtime)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(folder / "log"))
        log.settimeout(5)
        # criu looks for the other end in the container's network namespace only, and knows it by the host's path.
        bundle = runtime.bundle().without_namespace("network").bind(folder, str(folder))
        container = started(runtime, bundle.ask(f"connected {folder}/log", "count-into 3"), "3")
        heard = [log.recv(100)]
        container.checkpoint(images).fails("External socket is used. Consider using --ext-unix-sk")
        container.checkpoint(images, "--ext-unix-sk").ok()
        while select.select([log], [], [], 0)[0]:
            heard.append(log.recv(100))
        container.restore(images, "--ext-unix-sk").ok()
        heard += [log.recv(100) for _ in range(3)]
    assert heard == [b"tick %d\n" % number for number in range(1, len(heard) + 1)]


# -- the network while there is nobody ---------------------------------------------------------------------

_CONNECT = """\
import socket
with socket.create_server(("127.0.0.1", 0)) as door:
    try:
        socket.create_connection(door.getsockname(), 2).close()
    except TimeoutError:
        raise SystemExit(3)
"""


def is_held(space: NetworkNamespace) -> bool:
    """Whether no packet gets through there, by the loopback."""
    status = subprocess.run([*space.inside, sys.executable, "-c", _CONNECT]).returncode
    assert status in (0, 3)
    return status == 3


@pytest.fixture
def space() -> Iterator[NetworkNamespace]:
    space = NetworkNamespace()
    space.ip("link", "set", "lo", "up")
    yield space
    space.end()


@pytest.fixture
def asked(runtime: Runtime) -> Path:
    """What criu asks of iptables-restore from now on, which does nothing."""
    programs, said = beside(runtime) / "programs", beside(runtime) / "asked"
    programs.mkdir()
    said.touch()
    for name in ("iptables-restore", "ip6tables-restore"):
        (programs / name).write_text(f"#!/bin/sh\nexec cat >>{said}\n")
        (programs / name).chmod(0o755)
    runtime.env["PATH"] = f"{programs}:{runtime.env['PATH']}"
    return said


@pytest.mark.parametrize("method", ["iptables", "nftables", "skip"])
def test_how_the_network_is_held(
    runtime: Runtime, images: Path, criu: Path, space: NetworkNamespace, asked: Path, method: str
) -> None:
    """One method asks a program, one the kernel, one nobody. What a restore has to undo is in the images."""
    if method == "nftables" and not tool.works(criu / "criu", "network_lock_nftables"):
        pytest.skip("the kernel or this criu has no nftables")
    container = counting(runtime, runtime.bundle().namespace("network", space.path))
    container.checkpoint(images, "--network-lock", method).ok()
    assert ("-A CRIU -j DROP" in asked.read_text()) == (method == "iptables")
    assert is_held(space) == (method == "nftables")
    container.restore(images).ok()
    goes_on(container)
    assert ("-D INPUT -j CRIU" in asked.read_text()) == (method == "iptables")
    assert not is_held(space)
    assert os.stat(f"/proc/{container.pid}/ns/net").st_ino == os.stat(space.path).st_ino
