"""The runtime's side of the conversation with init, over a real socket pair."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from errno import ENOSYS
from struct import pack

import pytest

from pyrunc.plan.talk import SAY_FAILED, SAY_LISTENER
from pyrunc.spawn.conversation import Conversation, StepFailed


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
