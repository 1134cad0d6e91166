"""The filter that a container's own init loads for itself, and what is left of the memory of a program."""

from __future__ import annotations

import signal
from struct import pack

import pytest

from pyrunc.kernel.constants import PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER
from pyrunc.linux.seccomp.narrow import narrow
from pyrunc.plan.program import ARENA, DETAIL
from tests.support import program as init


@pytest.mark.parametrize(
    ("name", "code"), [("wait4", 7), ("getpid", -signal.SIGSYS), ("close", -signal.SIGSYS)]
)
def test_any_other_call_ends_it(name: str, code: int) -> None:
    bpf = narrow(("wait4", "exit_group"))
    assert bpf, "this machine is known"
    program = init.begin()
    fprog = program.data(pack("<HxxxxxxQ", len(bpf) // 8, program.data(bpf)))
    program.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, step="no_new_privs")
    program.call("seccomp", SECCOMP_SET_MODE_FILTER, 0, fprog, step="load the filter")
    program.call(name, -1, 0, 0, 0, step="call", tolerate=(255,))
    program.call("exit_group", 7, step="end")
    assert init.run(program).code == code


def test_what_is_before_a_fold_can_be_unmapped() -> None:
    """Equal strings on both sides of it are two; a failure is told without the buffer for its details."""
    program = init.begin()
    before = program.string("/no/such/file")
    early = program.fold()
    assert before < early <= program.string("/no/such/file")
    program.set(DETAIL, 0)
    program.call("munmap", ARENA, early - ARENA, step="unmap")
    program.call("chdir", "/", step="use what is there")
    program.call("chdir", "/no/such/file", step="go there")
    assert init.run(program).failure == "go there: no such file or directory"
    gone = init.begin()
    word = gone.buffer(8)
    early = gone.fold()
    gone.call("munmap", ARENA, early - ARENA, step="unmap")
    gone.load(gone.register(), word, 8)
    assert init.run(gone).code == -signal.SIGSEGV
