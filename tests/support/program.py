"""Runs a compiled program with the real pyrunc-init, and tells what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pyrunc.plan.program import TALK, Program
from pyrunc.spawn.conversation import Conversation, Message, StepFailed
from pyrunc.spawn.init import spawn


class Outcome:
    """How init ended: its wait status, the first failure it reported, and everything else that it said."""

    def __init__(self, status: int, failures: list[StepFailed], messages: list[Message]) -> None:
        self.status = status
        self.failures = failures
        self.messages = messages

    @property
    def failure(self) -> str:
        """The text of the first failure, "" if there was none."""
        return str(self.failures[0]) if self.failures else ""

    @property
    def code(self) -> int:
        """The exit status; negative: the signal."""
        return os.waitstatus_to_exitcode(self.status)


def begin() -> Program:
    """An empty program that can report failures."""
    program = Program(3)
    program.set(TALK, program.inherit("talk"))
    return program


def run(program: Program, flags: int = 0, supplies: Mapping[str, int] | None = None) -> Outcome:
    """Run `program` in the new namespaces `flags`; `supplies` are the descriptors that it inherits."""
    init = spawn(program, flags, supplies or {})
    talk = Conversation(init.talk, program.text)
    failures: list[StepFailed] = []
    messages: list[Message] = []
    try:
        while True:
            try:
                message = talk.hear()
            except StepFailed as failure:
                failures.append(failure)
                continue
            if message is None:
                break
            messages.append(message)
    finally:
        talk.close()
        os.close(init.pidfd)
    return Outcome(os.waitpid(init.pid, 0)[1], failures, messages)


class Output:
    """A memfd to be inherited as `out`, which the program makes its stdout and stderr."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("output")

    def attach(self, program: Program) -> None:
        """Emit the descriptors."""
        slot = program.inherit("out")
        for fd in (1, 2):
            program.call("dup3", slot, fd, 0, step="attach the output")

    @property
    def text(self) -> str:
        """What was written."""
        return os.pread(self.fd, 1 << 20, 0).decode()
