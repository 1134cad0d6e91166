"""The runtime's side of the conversation with init; the drawing is in `pyrunc.plan.talk`."""

from __future__ import annotations

from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC
from struct import calcsize, unpack_from

from pyrunc.errors import KernelError, PyruncError
from pyrunc.plan.talk import (
    GO,
    OUTPUT_SIZE,
    SAY_CONSOLE,
    SAY_COPY,
    SAY_CRIU,
    SAY_FAILED,
    SAY_IDMAP,
    SAY_LISTENER,
    SAY_MOUNT,
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
#: MAX_ERRNO of linux/err.h.
ERRNO_MAX: Final = 4095
#: In SAY_FAILED: not a step of the program, init itself could not be executed (native/border.c).
NO_STEP: Final = 0xFFFF_FFFF

_NAMES = {
    SAY_FAILED: "failed",
    SAY_PID: "pid",
    SAY_REACHED: "reached",
    SAY_CONSOLE: "console",
    SAY_COPY: "copy",
    SAY_IDMAP: "idmap",
    SAY_CRIU: "criu",
    SAY_LISTENER: "listener",
    SAY_MOUNT: "mount",
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
        """The next message, or None at the end of file. Raises StepFailed, and PyruncError for what is none.

        Once a startContainer hook has run, which is a program of the image and may trace init, this is hostile input.
        """
        while True:
            data, descriptor = self._receive()
            if not data:
                return None
            if len(data) < _SIZE:
                raise PyruncError(
                    f"pyrunc-init said {len(data)} bytes that are no message", code="init-protocol"
                )
            said, step, value = unpack_from(_MESSAGE, data)
            if said == SAY_FAILED:
                raise self._failure(step, value, data[_SIZE:])
            if said != SAY_OUTPUT:
                return Message(said, value, descriptor)
            self.output = value, data[_SIZE:]

    def _receive(self) -> tuple[bytes, int]:
        """A datagram, b"" at the end of file, and the descriptor that came with it, -1 for none."""
        try:
            data, ancillary, _, _ = self.talk.recvmsg(_SIZE + OUTPUT_SIZE, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # Told once, where init has ended without hearing the last word. What it said before is still there.
            data, ancillary, _, _ = self.talk.recvmsg(_SIZE + OUTPUT_SIZE, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
        descriptor = -1
        for _, _, payload in ancillary:
            descriptor = unpack_from("<i", payload)[0]
        return data, descriptor

    def _failure(self, step: int, number: int, said: bytes) -> PyruncError:
        from pyrunc.linux.mounts.explain import kernel_sentence

        detail = kernel_sentence(said.decode("utf-8", "replace"))
        label, path = "start pyrunc-init", ""
        if step != NO_STEP:
            try:
                label, path = self.text(step)
            except IndexError:
                return PyruncError(
                    f"pyrunc-init said that its step {step} failed, and it has none", code="init-protocol"
                )
        if not 0 <= number <= ERRNO_MAX:
            return PyruncError(
                f"{label}: pyrunc-init said that it failed with the errno {number}", code="init-protocol"
            )
        failure = StepFailed(label, number, detail, path, step)
        failure.output = self.output
        return failure

    def expect(self, said: int, value: int | None = None) -> Message:
        """The next message, which must be of this kind and value. Raises StepFailed, InitEnded."""
        message = self.hear()
        if message is None:
            raise InitEnded("container init exited unexpectedly")
        if message.said != said or (value is not None and message.value != value):
            raise PyruncError(
                f"pyrunc-init said {_NAMES.get(message.said, message.said)} {message.value} "
                f"where {_NAMES[said]} {value} was due",
                code="init-protocol",
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
