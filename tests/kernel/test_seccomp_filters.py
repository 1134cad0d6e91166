"""Compiled filters, loaded by pyrunc-init into a process that then makes one system call."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel._border import lib
from pyrunc.kernel.native import syscall
from pyrunc.linux import seccomp
from pyrunc.linux.seccomp.compile import compile_profile
from pyrunc.linux.seccomp.prefix import NEWER
from pyrunc.plan.program import ANY
from tests.support import program as init

X32 = 0x4000_0000
SIGSYS = 31
#: keyctl(2) with an operation that it does not have.
NOTHING = 1000


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def condition(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def allow(*rules: dict[str, Any], **more: Any) -> Any:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


def deny(*rules: dict[str, Any], default: str = "ERRNO", **more: Any) -> Any:
    return {
        "defaultAction": f"SCMP_ACT_{default}",
        "syscalls": [rule("ALLOW", "exit_group", "sendmsg"), *rules],
        **more,
    }


def effect(profile: Any, name: str, *args: int, privileged: bool = False) -> int:
    """What the call does under the filter: 0 or its errno; negative: the signal that ended the process."""
    program = init.begin()
    result = program.register()
    if not privileged:
        program.call("prctl", 38, 1, 0, 0, 0, step="no new privileges")
    config: Any = {"linux": {"seccomp": profile}}
    seccomp.plan(config, program, compile_profile(profile))
    program.call(name, *args, step="the call", into=result, tolerate=ANY)
    program.call("exit_group", result, step="exit")
    outcome = init.run(program)
    assert outcome.failure == ""
    return outcome.code if outcome.code <= 0 else 256 - outcome.code


def keyctl(profile: Any, *args: int) -> int:
    return effect(profile, "keyctl", *(args or (NOTHING,)))


def test_without_a_rule() -> None:
    assert keyctl(allow()) == errno.EOPNOTSUPP


@pytest.mark.parametrize("privileged", [False, True])
@pytest.mark.parametrize(
    "more,number", [({}, errno.EPERM), ({"errnoRet": 95 + 4}, 99), ({"errnoRet": 38}, 38)]
)
def test_errno(more: dict[str, int], number: int, privileged: bool) -> None:
    assert effect(allow(rule("ERRNO", "keyctl", **more)), "keyctl", NOTHING, privileged=privileged) == number


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_deadly(action: str) -> None:
    assert keyctl(allow(rule(action, "keyctl"))) == -SIGSYS
    assert keyctl(deny(default=action)) == -SIGSYS


def test_trace_without_a_tracer() -> None:
    assert keyctl(allow(rule("TRACE", "keyctl", errnoRet=7))) == errno.ENOSYS


@pytest.mark.parametrize("action", ["LOG", "ALLOW"])
def test_passes(action: str) -> None:
    assert keyctl(deny(rule(action, "keyctl"))) == errno.EOPNOTSUPP
    assert keyctl(deny(default=action)) == errno.EOPNOTSUPP


@pytest.mark.parametrize("more,number", [({}, errno.EPERM), ({"defaultErrnoRet": 99}, 99)])
def test_default_errno(more: Any, number: int) -> None:
    assert keyctl(deny(**more)) == number


@pytest.mark.parametrize(
    "op,value,second,hit",
    [
        ("EQ", 1005, 0, [1005]),
        ("NE", 1005, 0, [1004, 1006]),
        ("LT", 1005, 0, [1004]),
        ("LE", 1005, 0, [1004, 1005]),
        ("GT", 1005, 0, [1006]),
        ("GE", 1005, 0, [1005, 1006]),
        ("MASKED_EQ", 0x7, 1005 & 7, [1005]),
        ("MASKED_EQ", 0x2, 1006 & 2, [1006]),
    ],
)
def test_operators(op: str, value: int, second: int, hit: list[int]) -> None:
    profile = allow(rule("ERRNO", "keyctl", args=[condition(0, op, value, second)]))
    assert [number for number in (1004, 1005, 1006) if keyctl(profile, number) == errno.EPERM] == hit


def test_all_64_bits() -> None:
    profile = allow(rule("ERRNO", "keyctl", args=[condition(5, "EQ", 0xFFFF_FFFF_0000_0001)]))
    assert keyctl(profile, NOTHING, 0, 0, 0, 0, 0xFFFF_FFFF_0000_0001) == errno.EPERM
    assert keyctl(profile, NOTHING, 0, 0, 0, 0, 1) == errno.EOPNOTSUPP


def test_conditions_on_two_arguments_are_anded() -> None:
    profile = allow(rule("ERRNO", "keyctl", args=[condition(0, "EQ", 1001), condition(1, "EQ", 7)]))
    assert [keyctl(profile, *args) for args in ((1001, 7), (1001, 8), (1002, 7))] == [1, 95, 95]


def test_conditions_on_one_argument_are_alternatives() -> None:
    profile = allow(rule("ERRNO", "keyctl", args=[condition(0, "EQ", 1001), condition(0, "EQ", 1002)]))
    assert [keyctl(profile, number) for number in (1001, 1002, 1003)] == [1, 1, 95]


def test_same_rule_twice() -> None:
    assert keyctl(allow(rule("ERRNO", "keyctl", errnoRet=99), rule("ERRNO", "keyctl", errnoRet=99))) == 99


def test_tree_gives_the_same() -> None:
    """From 32 rules on the filter is a tree: every call named still has its action."""
    names = "acct add_key adjtimex alarm bind capget chroot clock_getres connect creat".split()
    names += "delete_module dup dup2 dup3 epoll_create".split()
    names += "eventfd2 fchdir fchmod fchown fdatasync flock fsync getcpu getegid geteuid getgid getpgid getpid".split()
    names += "getppid getpriority getsid gettid getuid inotify_init1 ioprio_get keyctl kcmp listen".split()
    profile = allow(*(rule("ERRNO", name, errnoRet=100 + number) for number, name in enumerate(names)))
    assert len(names) > 32
    for number in (0, 7, 20, len(names) - 1):
        assert effect(profile, names[number]) == 100 + number
    assert effect(profile, "sched_yield") == 0


def test_rule_for_a_call_newer_than_libseccomp() -> None:
    """By its number, which is the same on every architecture."""
    for name, number in NEWER.items():
        assert raw_effect(allow(rule("ERRNO", name, errnoRet=99)), number) == 99, name
    assert (
        raw_effect(deny(everything_old(), rule("ERRNO", "file_setattr", errnoRet=99)), NEWER["file_setattr"])
        == 99
    )


def raw_effect(profile: Any, number: int, *, first: int = 0) -> int:
    """As `effect`, by number: in a forked child of this process, through the border."""
    bpf = compile_profile(profile)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            keep = ctypes.create_string_buffer(bpf)
            syscall("prctl", 38, 1, 0, 0, 0)
            syscall("seccomp", 1, 0, struct.pack("<HxxxxxxQ", len(bpf) // 8, ctypes.addressof(keep)))
            result = lib.border_syscall(number, first, 0, 0, 0, 0, 0)
            os.write(writer, b"%d" % -min(result, 0))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return int(text) if text else status


def everything_old() -> dict[str, Any]:
    """What the child needs after the filter is loaded."""
    return rule("ALLOW", "write", "munmap", "futex", "exit_group", "rt_sigprocmask", "brk", "mmap")


def test_newer_than_the_profile_is_enosys() -> None:
    """So that C libraries fall back; what is older has the default action."""
    profile = deny(everything_old(), rule("ALLOW", "close_range"))
    assert raw_effect(profile, 437) == errno.ENOSYS  # openat2
    assert raw_effect(profile, 600) == errno.ENOSYS
    assert raw_effect(profile, 435) == errno.EPERM  # clone3, older than close_range (436)
    assert raw_effect(profile, 83) == errno.EPERM  # mkdir
    profile = deny(everything_old())
    assert raw_effect(profile, 334) == errno.EPERM  # rseq, the last before 424
    assert raw_effect(profile, 424) == errno.ENOSYS
    # As engines write it: an explicit EPERM is the default action too.
    profile = deny(everything_old(), rule("ALLOW", "openat2"), defaultErrnoRet=errno.EPERM)
    assert (raw_effect(profile, 1000), raw_effect(profile, 435)) == (errno.ENOSYS, errno.EPERM)


def test_enosys_only_where_calls_are_refused() -> None:
    assert raw_effect(allow(), 437) != errno.ENOSYS
    assert raw_effect(deny(everything_old(), defaultErrnoRet=99), 600) == errno.ENOSYS
    assert raw_effect(deny(everything_old(), default="KILL"), 83) == -SIGSYS
    assert raw_effect(deny(everything_old(), default="KILL"), 600) == errno.ENOSYS


def test_x32_is_refused_unless_listed() -> None:
    getpid = 39
    assert raw_effect(allow(rule("ERRNO", "getpid", errnoRet=99)), X32 + getpid) == -SIGSYS
    assert raw_effect(deny(everything_old()), X32 + 600) == -SIGSYS
    profile = allow(rule("ERRNO", "getpid", errnoRet=99), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"])
    assert raw_effect(profile, X32 + getpid) == 99
    profile = deny(everything_old(), architectures=["SCMP_ARCH_X32"])
    assert raw_effect(profile, X32 + 600) == errno.ENOSYS
    assert raw_effect(profile, X32 + 83) == errno.EPERM


def test_numbers_of_newer_calls_are_those_of_this_kernel() -> None:
    """Nothing but ENOSYS says that there is no such call; those of a kernel newer than this are nowhere yet."""
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 17):
        pytest.skip("the kernel is older than the newest of these calls")
    # Some are wired to nothing on x86-64, or by configuration.
    absent = {
        "map_shadow_stack",
        "memfd_secret",
        "quotactl_fd",
        "process_mrelease",
        "set_mempolicy_home_node",
    }
    for name, number in NEWER.items():
        if name.startswith("landlock"):
            continue  # restricts the caller for good
        # An impossible first argument everywhere.
        result = lib.border_syscall(
            number, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, 99, 99
        )
        assert result != -errno.ENOSYS or name in absent or number > 469, name


def test_default_profile_of_an_engine_loads() -> None:
    profile = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    profile["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert effect(profile, "reboot", 0, 0, 0, 0) in (errno.EPERM, errno.EINVAL)
    assert effect(profile, "sched_yield") == 0


def test_load_without_privilege_says_so() -> None:
    """Neither no_new_privs nor CAP_SYS_ADMIN."""
    program = init.begin()
    program.call("setresuid", 1000, 1000, 1000, step="become a user")
    config: Any = {"linux": {"seccomp": allow()}}
    seccomp.plan(config, program, compile_profile(allow()))
    outcome = init.run(program)
    assert outcome.failure.endswith("instructions: permission denied")
    assert outcome.failures[0].path == "linux.seccomp"


def test_border() -> None:
    """The raw call that these tests rest on gives what the kernel says."""
    with pytest.raises(OSError) as caught:
        syscall("keyctl", NOTHING)
    assert caught.value.errno == errno.EOPNOTSUPP
