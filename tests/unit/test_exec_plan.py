"""The order of a process that joins a container: what may not be moved, by the calls of its program."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.kernel.constants import CLONE_NEWNS, CLONE_NEWPID, PR_SET_DUMPABLE
from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.linux.cgroups.disabled import Manager
from pyrunc.plan.exec import Joining, compile_exec, filters_early
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program

BPF = b"\x06\0\0\0\0\0\xff\x7f"


def config(**process: Any) -> Any:
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], "env": ["PATH=/bin", "HOME=/"], **process},
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        },
    }


def program_of(flags: int, bpf: bytes | None = None, filtered: bool = False, **process: Any) -> Program:
    joining = Joining(flags, filtered=filtered)
    return compile_exec(config(**process), Host(0, 0, False, {}), joining, bpf, Manager({}))


def names(program: Program) -> list[str]:
    return [name for name, _ in program.calls]


def test_the_second_stage_begins_with_the_rights_of_the_process() -> None:
    """All privileged steps come before it is cloned, into the sight of the container."""
    calls = names(program_of(CLONE_NEWPID | CLONE_NEWNS, noNewPrivileges=True))
    clone = calls.index("clone")
    assert calls.count("clone") == 1
    for name in ("setns", "setgroups", "setresgid", "setresuid", "capset", "fchdir", "umask", "close_range"):
        assert name in calls[:clone] and name not in calls[clone:], name
    assert calls[clone:].count("setsid") == 1
    assert calls.index("execve") > clone


def test_a_filter_without_no_new_privs_is_loaded_before_the_last_capability_goes() -> None:
    calls = names(program_of(CLONE_NEWPID, BPF, noNewPrivileges=False))
    clone, load = calls.index("clone"), calls.index("seccomp")
    capsets = [at for at, name in enumerate(calls) if name == "capset"]
    assert len(capsets) == 2 and capsets[0] < clone < load < capsets[1]


def test_a_filter_with_no_new_privs_is_the_last_but_execve() -> None:
    calls = names(program_of(CLONE_NEWPID, BPF, noNewPrivileges=True))
    assert calls[-2:] == ["seccomp", "execve"]


@pytest.mark.parametrize("nnp", [False, True])
def test_a_filter_that_lets_the_rest_pass_is_loaded_before_the_container_sees_anything(nnp: bool) -> None:
    calls = names(program_of(CLONE_NEWPID, BPF, filtered=True, noNewPrivileges=nnp))
    load, clone = calls.index("seccomp"), calls.index("clone")
    assert calls.count("seccomp") == 1 and load < clone
    assert "capset" in calls[:load] if nnp else calls[load:clone].count("capset") == 1
    # What comes after it is what was looked for in the profile, or what create calls under a filter, too.
    known = {
        "prctl",
        "capset",
        "clone",
        "write",
        "exit_group",
        "read",
        "setsid",
        "statx",
        "faccessat2",
        "execve",
    }
    assert set(calls[load + 1 :]) & set(SYSCALLS) <= known


def filter_of(*rules: Any, default: str = "SCMP_ACT_ERRNO", **process: Any) -> Any:
    found = config(**process)
    found["linux"]["seccomp"] = {"defaultAction": default, "syscalls": list(rules)}
    return found


CLONE = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7E020000, "valueTwo": 0}
NEEDED = ["write", "exit_group", "read", "setsid"]


def test_which_filters_are_loaded_early() -> None:
    """Those of the engines; not those that refuse a step, or leave it to an agent, or may do so."""

    def early(
        *rules: Any, default: str = "SCMP_ACT_ERRNO", flags: int = CLONE_NEWPID, **process: Any
    ) -> bool:
        return filters_early(filter_of(*rules, default=default, **process), flags)

    allowed = {"names": NEEDED, "action": "SCMP_ACT_ALLOW"}
    clone = {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [CLONE]}
    clone3 = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    assert early(allowed, clone, clone3)
    assert early(clone3, default="SCMP_ACT_ALLOW")
    assert not early(allowed, clone, flags=CLONE_NEWNS)
    assert not early(allowed, clone3)
    assert not early(allowed, {**clone, "args": [{**CLONE, "valueTwo": 1}]})
    assert not early(allowed, {**clone, "args": [{**CLONE, "op": "SCMP_CMP_EQ"}]})
    assert not early(allowed, {**clone, "args": [{**CLONE, "index": 1}]})
    assert not early(default="SCMP_ACT_NOTIFY")
    for name in NEEDED:
        assert not early({**allowed, "names": [x for x in NEEDED if x != name]}, clone), name
        assert not early({"names": [name], "action": "SCMP_ACT_ERRNO"}, default="SCMP_ACT_ALLOW"), name
        assert not early({"names": [name], "action": "SCMP_ACT_NOTIFY"}, default="SCMP_ACT_ALLOW"), name
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    for process, more in (
        ({"terminal": True}, ["ioctl"]),
        ({"rlimits": limits}, ["prlimit64"]),
        ({"noNewPrivileges": True}, ["statx", "faccessat2"]),
    ):
        assert not early(allowed, clone, **process)
        assert early({**allowed, "names": NEEDED + more}, clone, **process)
    asked = {"names": ["keyctl"], "action": "SCMP_ACT_NOTIFY"}
    assert not early(allowed, clone, asked)
    assert early({**allowed, "names": [*NEEDED, "sendmsg", "close", "prctl", "capset"]}, clone, asked)
    looks = ["sendmsg", "close", "statx", "faccessat2"]
    assert early({**allowed, "names": NEEDED + looks}, clone, asked, noNewPrivileges=True)


@pytest.mark.parametrize("flags", [0, CLONE_NEWPID | CLONE_NEWNS])
def test_it_is_not_dumpable_wherever_the_container_could_look(flags: int) -> None:
    """Before it joins anything, and again after its ids have changed, which sets it to fs.suid_dumpable."""
    calls = program_of(flags, user={"uid": 5, "gid": 5}).calls
    hidden = [at for at, (name, args) in enumerate(calls) if name == "prctl" and args[0] == PR_SET_DUMPABLE]
    only = names(program_of(flags, user={"uid": 5, "gid": 5}))
    if flags:
        assert hidden[0] < only.index("setns") and hidden[-1] < only.index("clone")
    assert hidden[-1] > only.index("setresuid")
    assert "execve" not in only[: hidden[-1]]


def test_without_a_pid_namespace_to_join_there_is_one_stage_and_one_session() -> None:
    calls = names(program_of(0))
    assert "clone" not in calls and "setns" not in calls
    assert calls.count("setsid") == 1


def test_limits_come_after_the_last_clone_and_before_the_filter() -> None:
    limits = [{"type": "RLIMIT_NPROC", "soft": 1, "hard": 1}]
    program = compile_exec(
        config(rlimits=limits),
        Host(0, 0, False, {}),
        Joining(CLONE_NEWPID, present={"RLIMIT_NPROC": (9, 9)}),
        BPF,
        Manager({}),
    )
    calls = names(program)
    assert calls.count("prlimit64") == 1  # nothing to raise
    assert calls.index("clone") < calls.index("prlimit64") < calls.index("seccomp")


def test_a_hard_limit_is_raised_before_the_namespaces_are_joined() -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    joining = Joining(CLONE_NEWPID, present={"RLIMIT_NOFILE": (50, 60)})
    calls = names(compile_exec(config(rlimits=limits), Host(0, 0, False, {}), joining, None, Manager({})))
    first, second = [at for at, name in enumerate(calls) if name == "prlimit64"]
    assert first < calls.index("setns") < calls.index("clone") < second


def test_labels_are_written_on_the_host() -> None:
    """In no namespace of the container is there a /proc to trust."""
    program = program_of(CLONE_NEWPID | CLONE_NEWNS, selinuxLabel="a:b:c:d")
    texts = [label for label, _ in program.texts]
    labelled = max(at for at, label in enumerate(texts) if "SELinux" in label)
    assert labelled < names(program).index("setns")
