"""The runtime's side of the conversation with init; the drawing is in `pyrunc.plan.talk`."""

from __future__ import annotations

import os
from _socket import CMSG_SPACE
from struct import calcsize, unpack_from

from pyrunc.errors import KernelError, PyruncError
from pyrunc.plan.talk import (
    GO,
    OUTPUT_SIZE,
    SAY_CONSOLE,
    SAY_COPY,
    SAY_FAILED,
    SAY_IDMAP,
    SAY_LISTENER,
    SAY_OUTPUT,
    SAY_PID,
    SAY_REACHED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket
    from collections.abc import Callable
    from typing import Final

_MESSAGE: Final = "<IIq"
_SIZE: Final = calcsize(_MESSAGE)
#: In SAY_FAILED: not a step of the program, init itself could not be executed (native/border.c).
NO_STEP: Final = 0xFFFF_FFFF

_NAMES = {
    SAY_FAILED: "failed",
    SAY_PID: "pid",
    SAY_REACHED: "reached",
    SAY_CONSOLE: "console",
    SAY_COPY: "copy",
    SAY_IDMAP: "idmap",
    SAY_LISTENER: "listener",
}


class InitEnded(PyruncError):
    """Init is gone without a word; the caller finds out why (a signal, the OOM killer)."""

    code = "init-ended"


class StepFailed(KernelError):
    """A step of the program failed in init. `path` is the JSON path the step comes from, `index` its number.

    `output`: the wait status of a hook that failed, and the end of what it wrote.
    """

    output: tuple[int, bytes] | None = None

    def __init__(self, step: str, number: int, detail: str, path: str, index: int) -> None:
        super().__init__(step, number, detail=detail)
        self.detail = detail
        self.path = path
        self.index = index


class Message:
    """One message of init: what kind, a value, and a descriptor (-1: none)."""

    __slots__ = ("descriptor", "said", "value")

    def __init__(self, said: int, value: int, descriptor: int) -> None:
        self.said = said
        self.value = value
        self.descriptor = descriptor


class Conversation:
    """Typed messages over the socket `talk`; `text` tells the label and the JSON path of the program's step i."""

    __slots__ = ("output", "talk", "text")

    def __init__(self, talk: Socket, text: Callable[[int], tuple[str, str]]) -> None:
        self.talk = talk
        self.text = text
        self.output: tuple[int, bytes] | None = None

    def hear(self) -> Message | None:
        """The next message, or None at the end of file. Raises StepFailed."""
        try:
            data, ancillary, _, _ = self.talk.recvmsg(_SIZE + OUTPUT_SIZE, CMSG_SPACE(4))
        except ConnectionResetError:
            # Told once, where init has ended without hearing the last word. What it said before is still there.
            data, ancillary, _, _ = self.talk.recvmsg(_SIZE + OUTPUT_SIZE, CMSG_SPACE(4))
        if not data:
            return None
        said, step, value = unpack_from(_MESSAGE, data)
        descriptor = -1
        for _, _, payload in ancillary:
            descriptor = unpack_from("<i", payload)[0]
            os.set_inheritable(descriptor, False)
        if said == SAY_OUTPUT:
            self.output = value, data[_SIZE:]
            return self.hear()
        if said == SAY_FAILED:
            from pyrunc.linux.mounts.explain import kernel_sentence

            detail = kernel_sentence(data[_SIZE:].decode("utf-8", "replace"))
            if step == NO_STEP:
                raise StepFailed("start pyrunc-init", value, detail, "", step)
            label, path = self.text(step)
            failure = StepFailed(label, value, detail, path, step)
            failure.output = self.output
            raise failure
        return Message(said, value, descriptor)

    def expect(self, said: int, value: int | None = None) -> Message:
        """The next message, which must be of this kind and value. Raises StepFailed, InitEnded."""
        message = self.hear()
        if message is None:
            raise InitEnded("container init exited unexpectedly")
        if message.said != said or (value is not None and message.value != value):
            raise PyruncError(
                f"pyrunc-init said {_NAMES.get(message.said, message.said)} {message.value} "
                f"where {_NAMES[said]} {value} was due"
            )
        return message

    def go(self, payload: bytes = GO) -> None:
        """Let init go on. Raises InitEnded."""
        try:
            self.talk.send(payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            self.hear()  # raises StepFailed if init said why
            raise InitEnded("container init exited unexpectedly") from error

    def close(self) -> None:
        """End the conversation; init ends if it waits for more."""
        self.talk.close()
