"""The runtime's side of the conversation with init, over a real socket pair."""

from __future__ import annotations

import os
import subprocess
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from errno import ENOSYS
from struct import pack

import pytest

from pyrunc.errors import PyruncError
from pyrunc.lifecycle.liveness import wait_end
from pyrunc.lifecycle.start import await_exec
from pyrunc.plan.talk import READY, SAY_FAILED, SAY_LISTENER, SAY_OUTPUT, SAY_REACHED
from pyrunc.spawn.conversation import Conversation, StepFailed
from pyrunc.store.record import Record
from tests.support import footprint


def test_what_init_said_before_it_ended_without_hearing_the_last_word() -> None:
    """unix(7) then tells ECONNRESET once, before the message that is still there."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    talk = Conversation(ours, lambda step: (f"step {step}", "path"))
    theirs.send(pack("<IIq", SAY_FAILED, 3, ENOSYS))
    talk.go()
    theirs.close()
    with pytest.raises(StepFailed, match="step 3: function not implemented"):
        talk.hear()
    assert talk.hear() is None
    talk.close()


def test_a_message_with_a_number() -> None:
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    talk = Conversation(ours, lambda _: ("", ""))
    theirs.send(pack("<IIq", SAY_LISTENER, 0, 7))
    message = talk.expect(SAY_LISTENER)
    assert (message.value, message.descriptor) == (7, -1)
    theirs.close()
    talk.close()


# -- init that is not itself any more ----------------------------------------------------------------------
# A startContainer hook is a program of the image. As root it may trace init, and speak for it.

STEPS = [("start a hook", "hooks"), ("execute the program", "process.args")]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"x", "1 bytes that are no message"),
        (pack("<IIq", SAY_FAILED, 5, ENOSYS), "start a hook: function not implemented"),
        (pack("<IIq", SAY_FAILED, 4, ENOSYS), "its step 4 failed, and it has none"),
        (pack("<IIq", SAY_FAILED, 7, ENOSYS), "its step 7 failed, and it has none"),
        (pack("<IIq", SAY_FAILED, 6, 1 << 40), "execute the program: .* the errno 1099511627776"),
        (pack("<IIq", SAY_FAILED, 6, -1), "the errno -1"),
        (pack("<IIq", SAY_LISTENER, 0, 3), "linux.seccomp does not ask for"),
        (pack("<IIq", SAY_REACHED, 0, READY), "where nothing was due"),
        (pack("<IIq", 4711, 0, 0), "where nothing was due"),
    ],
)
def test_whatever_it_says_is_an_error_and_its_end(
    monkeypatch: pytest.MonkeyPatch, said: bytes, text: str
) -> None:
    monkeypatch.setattr("pyrunc.lifecycle.start._ENDING", 0.1)
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    record = Record("c", "/bundle", "/bundle/rootfs", texts=STEPS, texts_from=5)
    with subprocess.Popen(["sleep", "1000"]) as init:
        footprint.own_children.add(init.pid)
        pidfd = os.pidfd_open(init.pid)
        theirs.send(said)
        with pytest.raises(PyruncError, match=text):
            await_exec(Conversation(ours, record.text), record, pidfd, dict)  # type: ignore[arg-type]
        assert wait_end(pidfd, 0)
        os.close(pidfd)
    footprint.own_children.discard(init.pid)
    ours.close()
    theirs.close()


def test_however_much_output() -> None:
    """More messages than the interpreter's stack has room for."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(3000):
                theirs.send(pack("<IIq", SAY_OUTPUT, 0, number) + b"x")
            theirs.send(pack("<IIq", SAY_FAILED, 6, 0))
        finally:
            os._exit(0)
    theirs.close()
    try:
        with pytest.raises(StepFailed) as caught:
            Conversation(ours, Record("c", "/b", "/r", texts=STEPS, texts_from=5).text).hear()
    finally:
        ours.close()  # lets the child end, whatever happened
        os.waitpid(pid, 0)
    assert caught.value.output == (2999, b"x")
