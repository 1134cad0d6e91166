"""Bad moments: a status that does not allow the verb, and what has changed between create and start."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.bad_input import Case

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize(
    "status,verb",
    [
        ("created", "create"),
        ("running", "start"),
        ("running", "delete"),
        ("stopped", "start"),
        ("stopped", "kill"),
    ],
)
def test_verb_not_allowed_in_this_status(case: Case, status: str, verb: str) -> None:
    container = case.runtime.container(case.bundle.sleeper())
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    if status != "created":
        container.start().ok()
        container.says("ready")
    if status == "stopped":
        container.kill("KILL").ok()
        container.stops()
    between = case.runtime.footprint(case.bundle)
    words = [verb, container.id]
    if verb == "create":
        words = ["create", "--bundle", case.runtime.put(case.bundle, container.id), container.id]
    assert case.runtime.verb(*words).fails().status == 1
    between.assert_unchanged()
    assert container.status == status
    container.delete("--force").ok()


def test_init_killed_between_create_and_start(case: Case) -> None:
    container = case.runtime.container(case.bundle.sleeper())
    case.before()  # type: ignore[attr-defined]
    container.create().ok()
    os.kill(container.pid, signal.SIGKILL)
    container.stops()
    container.start().fails("cannot start", "stopped")
    container.delete().ok()


def test_failed_exec_at_start(case: Case) -> None:
    """The file is no program at all: the kernel refuses it only when it is executed."""
    case.put("bin/garbage", "\x01\x02garbage")
    case.program("/bin/garbage")
    case.before()  # type: ignore[attr-defined]
    container = case.runtime.container(case.bundle)
    if container.create().status == 0:
        container.start().fails("/bin/garbage", "exec format error")
    else:
        assert "/bin/garbage" in container.err and "exec format error" in container.err
    container.delete("--force").ok()


def test_program_that_disappears_between_create_and_start(case: Case) -> None:
    case.put("bin/script", "#!/bin/sh\necho hello\n")
    case.program("/bin/script")
    case.before()  # type: ignore[attr-defined]
    container = case.runtime.container(case.bundle)
    container.create().ok()
    (case.rootfs / "bin" / "script").unlink()
    container.start().fails("/bin/script", "no such file or directory")
    container.delete("--force").ok()
