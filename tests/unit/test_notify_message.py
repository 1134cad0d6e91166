"""Which fields of sd_notify(3) a container may send on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.errors import PyruncError
from pyrunc.lifecycle.notify import address_of
from pyrunc.lifecycle.notify_message import MESSAGE_MAX, is_barrier, understand
from pyrunc.linux.notify_socket import is_wanted, with_socket

KNOWN = {
    "READY", "RELOADING", "STOPPING", "WATCHDOG", "ERRNO", "EXIT_STATUS", "EXTEND_TIMEOUT_USEC", "WATCHDOG_USEC",
    "MONOTONIC_USEC", "BUSERROR", "VARLINKERROR", "STATUS", "MAINPID",
}  # fmt: skip


def passed(raw: bytes, offset: int = 0) -> bytes:
    """What goes on; the main process is 4711, or what the container says plus 1000."""
    return understand(raw, lambda given: 4711 if given is None else given + 1000, offset).text


@pytest.mark.parametrize(
    "raw",
    [
        "READY=1\nMAINPID=4711",
        "STOPPING=1",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
        "WATCHDOG_USEC=18446744073709551615",
        "EXTEND_TIMEOUT_USEC=5000000",
        "ERRNO=2",
        "EXIT_STATUS=255",
        "BUSERROR=org.freedesktop.DBus.Error.TimedOut",
        "STATUS=ünï  code=1",
        "STATUS=",
    ],
)
def test_what_goes_on_as_it_is(raw: str) -> None:
    given = raw.removesuffix("\nMAINPID=4711")
    assert passed(given.encode()) == raw.encode()
    assert passed(given.encode() + b"\n") == raw.encode()
    assert passed(given.encode() + b"\0") == raw.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\n\n", b"READY=0", b"READY=", b"READY", b"ready=1", b" READY=1", b"WATCHDOG=2", b"WATCHDOG_USEC=1s",
        b"WATCHDOG_USEC=18446744073709551616", b"EXTEND_TIMEOUT_USEC=-1", b"ERRNO=2147483648", b"EXIT_STATUS=256",
        b"BUSERROR=a b", b"BUSERROR=", b"MONOTONIC_USEC=x", b"MAINPID=x", b"MAINPID=0", b"MAINPID=-1",
        b"MAINPID=99999999999", b"FDSTORE=1", b"FDSTOREREMOVE=1", b"FDNAME=a", b"FDPOLL=0", b"NOTIFYACCESS=all",
        b"MAINPIDFD=1", b"MAINPIDFDID=1", b"X_SYSTEMD=1", b"RESTART_RESET=1", b"BARRIER=1", b"READY=1\0STATUS=x",
        b"STATUS=" + b"x" * MESSAGE_MAX,
    ],
)  # fmt: skip
def test_what_does_not(raw: bytes) -> None:
    message = understand(raw, lambda _: 1, 0)
    assert message.text == b"" and not message.ready


def test_the_good_lines_of_a_message_stay_together_and_in_order() -> None:
    raw = b"STATUS=a\nNOTIFYACCESS=all\nRELOADING=1\nMONOTONIC_USEC=70\nMAINPID=7\nX=1\nMAINPID=8"
    assert passed(raw, offset=-30) == b"STATUS=a\nRELOADING=1\nMONOTONIC_USEC=100\nMAINPID=1007"


def test_a_moment_before_the_host_was_there_is_none() -> None:
    assert passed(b"RELOADING=1\nMONOTONIC_USEC=30", offset=30) == b"RELOADING=1"


def test_ready_names_the_main_process() -> None:
    message = understand(b"READY=1\nMAINPID=5", lambda given: 9 if given == 5 else 0, 0)
    assert message.ready and message.text == b"READY=1\nMAINPID=9"


def test_ready_gets_through_however_long_its_status() -> None:
    message = understand(b"READY=1\nSTATUS=" + b"x" * (MESSAGE_MAX - 15), lambda _: 4711, 0)
    assert message.ready and message.text == b"READY=1\nMAINPID=4711"


def test_status_obeys_no_terminal() -> None:
    assert passed("STATUS=\x1b]0;x\x07 \x9b31m é".encode() + b" \xff") == "STATUS=?]0;x? ?31m é ?".encode()


@given(st.binary(max_size=200) | st.lists(st.sampled_from([*sorted(KNOWN), "X", "FDSTORE"])).map(
    lambda names: "\n".join(f"{name}=1" for name in names).encode()))  # fmt: skip
def test_whatever_comes_only_known_fields_leave(raw: bytes) -> None:
    text = passed(raw)
    assert {line.partition(b"=")[0].decode() for line in text.split(b"\n") if line} <= KNOWN
    assert b"\0" not in text and b"\x1b" not in text
    text.decode()


def test_barrier_is_a_message_of_its_own() -> None:
    assert is_barrier(b"BARRIER=1") and is_barrier(b"BARRIER=1\n")
    assert not is_barrier(b"BARRIER=1\nREADY=1") and not is_barrier(b"BARRIER=0") and not is_barrier(b"")


def test_address(tmp_path: Path) -> None:
    assert address_of("/run/systemd/notify") == b"/run/systemd/notify"
    assert address_of("@abstract/name") == b"\0abstract/name"
    for bad in ("relative", "vsock:2:3", "@", "/", "/" + "x" * 107):
        with pytest.raises(PyruncError, match="names no unix socket"):
            address_of(bad)
    # The longest that is taken is one that the kernel takes, too.
    longest = "@" + "x" * 106
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(address_of(longest))
    assert len(os.fsencode(longest)) == 107


def test_config_with_socket() -> None:
    config = {
        "process": {"env": ["A=1"], "args": ["x"]},
        "mounts": [{"destination": "/run"}],
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    assert is_wanted(config)  # type: ignore[arg-type]
    made = with_socket(config, "/state/notify", "20")  # type: ignore[arg-type]
    assert made["process"]["env"] == ["A=1", "NOTIFY_SOCKET=/run/notify/notify.sock", "WATCHDOG_USEC=20"]
    assert [mount["destination"] for mount in made["mounts"]] == ["/run", "/run/notify"]
    assert config["mounts"] == [{"destination": "/run"}]  # what was read stays as it is
    assert not is_wanted({**config, "linux": {"namespaces": []}})  # type: ignore[typeddict-item]
    assert not is_wanted(made)
