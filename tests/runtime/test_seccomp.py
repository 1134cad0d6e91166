"""Seccomp: every action with its real effect (config-linux.md "Seccomp")."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.runtime import Runtime

ENOSYS, EPERM = 38, 1


def rule(action: str, *names: str, args: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """One entry of `syscalls`."""
    entry: dict[str, Any] = {"names": list(names), "action": f"SCMP_ACT_{action}", **more}
    if args is not None:
        entry["args"] = args
    return entry


def argument(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    """One condition."""
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


def test_mode(runtime: Runtime) -> None:
    assert runtime.ask(runtime.bundle(), "seccomp")["seccomp"] == 0
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
    assert runtime.ask(bundle, "seccomp")["seccomp"] == 2


@pytest.mark.parametrize("nnp", [True, False])
def test_errno(runtime: Runtime, nnp: bool) -> None:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW",
        rule("ERRNO", "keyctl"),
        rule("ERRNO", "getcpu", errnoRet=95),
        rule("ERRNO", "acct", errnoRet=ENOSYS),
    )
    bundle.process["noNewPrivileges"] = nnp
    said = runtime.ask(bundle, "syscall keyctl 99", "syscall getcpu", "syscall acct", "syscall sysinfo 0")
    assert said["syscall keyctl 99"] == {"errno": "EPERM"}
    assert said["syscall getcpu"] == {"errno": "EOPNOTSUPP"}
    assert said["syscall acct"] == {"errno": "ENOSYS"}
    assert said["syscall sysinfo 0"] == {"errno": "EFAULT"}


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS"])
def test_kill(runtime: Runtime, action: str) -> None:
    outcome = runtime.run(
        runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule(action, "keyctl")).ask("pid", "syscall keyctl")
    )
    assert outcome.status == 128 + 31
    assert outcome.testimony["pid"] == 1


def test_trap(runtime: Runtime) -> None:
    outcome = runtime.run(
        runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("TRAP", "keyctl")).ask("trap keyctl")
    )
    assert outcome.ok().testimony["trap keyctl"] == {"trapped": 250}


def test_trace_without_a_tracer(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("TRACE", "keyctl", errnoRet=7))
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "ENOSYS"}


@pytest.mark.parametrize("action", ["LOG", "ALLOW"])
def test_log_and_allow_let_pass(runtime: Runtime, action: str) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything(), rule(action, "keyctl"))
    said = runtime.ask(bundle, "syscall keyctl 99")
    assert said["syscall keyctl 99"] == {"errno": "EOPNOTSUPP"}


def everything() -> list[dict[str, Any]]:
    """What the payload and the way to it need, as an allow list."""
    names = """arch_prctl brk capget capset chdir clone close close_range connect dup dup2 dup3 execve execveat exit
    exit_group fchdir fchown fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpgid
    getpid getppid getrandom getresgid getresuid getrlimit getsid getuid ioctl lseek lstat mmap mprotect mremap munmap
    newfstatat open openat openat2 personality pipe pipe2 poll ppoll prctl pread64 prlimit64 read readlink readlinkat
    readv recvfrom recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sendmsg sendto
    set_robust_list set_tid_address setgid setgroups setresgid setresuid setsid
    setuid sigaltstack stat statfs statx sysinfo umask uname
    unlink unlinkat wait4 write writev epoll_create1 epoll_ctl epoll_pwait eventfd2 nanosleep tgkill gettid
    sched_yield kill getsockopt socket accept accept4 shutdown""".split()
    return [rule("ALLOW", *names)]


def test_default_action(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything())
    assert runtime.ask(bundle, "syscall keyctl", "pid") == {"syscall keyctl": {"errno": "EPERM"}, "pid": 1}


def test_default_errno(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything(), defaultErrnoRet=ENOSYS)
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "ENOSYS"}


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_deadly_default(runtime: Runtime, action: str) -> None:
    outcome = runtime.run(runtime.bundle().seccomp(action, *everything()).ask("pid", "syscall keyctl"))
    assert (outcome.status, outcome.testimony["pid"]) == (159, 1)


@pytest.mark.parametrize(
    "op,value,second,hit",
    [
        ("EQ", 5, 0, [5]),
        ("NE", 5, 0, [4, 6]),
        ("LT", 5, 0, [4]),
        ("LE", 5, 0, [4, 5]),
        ("GT", 5, 0, [6]),
        ("GE", 5, 0, [5, 6]),
        ("MASKED_EQ", 4, 4, [4, 5, 6]),
        ("MASKED_EQ", 6, 4, [4, 5]),
    ],
)
def test_operators(runtime: Runtime, op: str, value: int, second: int, hit: list[int]) -> None:
    """On the first argument of keyctl(2), an unknown operation of which is EOPNOTSUPP."""
    offset = 1000  # unknown operations
    if op == "MASKED_EQ":
        condition = argument(0, op, value, second)
        probes = {n: n for n in (4, 5, 6)}
    else:
        condition = argument(0, op, value + offset)
        probes = {n: n + offset for n in (4, 5, 6)}
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW", rule("ERRNO", "keyctl", args=[condition], errnoRet=95 + 4)
    )
    said = runtime.ask(bundle, *(f"syscall keyctl {n}" for n in probes.values()))
    stopped = [
        n for n, word in probes.items() if said[f"syscall keyctl {word}"] == {"errno": "EADDRNOTAVAIL"}
    ]
    assert stopped == hit


def test_conditions_on_two_arguments_are_anded(runtime: Runtime) -> None:
    conditions = [argument(0, "EQ", 1001), argument(1, "EQ", 7)]
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl", args=conditions))
    said = runtime.ask(bundle, "syscall keyctl 1001 7", "syscall keyctl 1001 8", "syscall keyctl 1002 7")
    assert list(said.values()) == [{"errno": "EPERM"}, {"errno": "EOPNOTSUPP"}, {"errno": "EOPNOTSUPP"}]


def test_two_conditions_on_one_argument(runtime: Runtime) -> None:
    """libseccomp cannot AND them: each becomes its own rule, as in the peers."""
    conditions = [argument(0, "EQ", 1001), argument(0, "EQ", 1002)]
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl", args=conditions))
    said = runtime.ask(bundle, "syscall keyctl 1001", "syscall keyctl 1002", "syscall keyctl 1003")
    assert list(said.values()) == [{"errno": "EPERM"}, {"errno": "EPERM"}, {"errno": "EOPNOTSUPP"}]


def test_large_values(runtime: Runtime) -> None:
    """All 64 bits are compared."""
    big = 0xFFFF_FFFF_0000_0001
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW", rule("ERRNO", "keyctl", args=[argument(1, "EQ", big)])
    )
    said = runtime.ask(bundle, f"syscall keyctl 1001 {big}", "syscall keyctl 1001 1")
    assert list(said.values()) == [{"errno": "EPERM"}, {"errno": "EOPNOTSUPP"}]


def test_rule_equal_to_the_default(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ALLOW", "keyctl"))
    assert runtime.ask(bundle, "syscall keyctl 1001")["syscall keyctl 1001"] == {"errno": "EOPNOTSUPP"}


def test_architecture_that_is_not_listed(runtime: Runtime) -> None:
    """A system call through the 32-bit gate does not slip past a 64-bit profile."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl")).ask("gate32-in-child")
    assert runtime.run(bundle).ok().testimony["gate32-in-child"]["signal"] == 31


def test_architectures(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp(
        "SCMP_ACT_ALLOW",
        rule("ERRNO", "getpid"),
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    )
    assert runtime.ask(bundle, "gate32", "syscall getpid") == {
        "gate32": {"errno": "EPERM"},
        "syscall getpid": {"errno": "EPERM"},
    }


def test_architectures_may_be_absent(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
    del bundle.linux["seccomp"]["architectures"]
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "EPERM"}


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["SECCOMP_FILTER_FLAG_LOG"],
        ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        ["SECCOMP_FILTER_FLAG_TSYNC"],
        ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    ],
)
def test_flags(runtime: Runtime, flags: list[str]) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"), flags=flags)
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "EPERM"}


def test_system_calls_of_other_kernels_and_machines(runtime: Runtime) -> None:
    """A profile is written for many: what this libseccomp or this machine does not have is passed over."""
    names = """_llseek cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake landlock_add_rule
    lsm_get_self_attr map_shadow_stack memfd_secret mseal process_mrelease quotactl_fd removexattrat riscv_flush_icache
    set_mempolicy_home_node setxattrat socketcall statmount subpage_prot uretprobe arm_fadvise64_64 s390_pci_mmio_read
    sync_file_range2 breakpoint cacheflush set_tls get_tls switch_endian timerfd_gettime64
    open_tree_attr file_getattr"""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", *names.split(), "keyctl"))
    assert runtime.ask(bundle, "syscall keyctl")["syscall keyctl"] == {"errno": "EPERM"}


@pytest.mark.parametrize("errno_of_default", [{}, {"defaultErrnoRet": EPERM}], ids=["absent", "EPERM"])
@pytest.mark.parametrize("nnp", [True, False])
def test_system_calls_newer_than_the_profile(
    runtime: Runtime, nnp: bool, errno_of_default: dict[str, int]
) -> None:
    """They get ENOSYS instead of the default EPERM, so that libraries fall back (as runc)."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything(), **errno_of_default)
    bundle.process["noNewPrivileges"] = nnp
    # The newest of the list is openat2, 437.
    said = runtime.ask(bundle, "syscall keyctl", "syscall 435", "syscall 438", "syscall 1000")
    assert [answer["errno"] for answer in said.values()] == ["EPERM", "EPERM", "ENOSYS", "ENOSYS"]


def test_names_that_no_kernel_has(runtime: Runtime) -> None:
    """A profile for a newer kernel runs where the call is refused all the same; elsewhere that is an error."""
    bundle = runtime.bundle().seccomp("SCMP_ACT_ERRNO", *everything(), rule("ALLOW", "keyctl", "brand_new"))
    outcome = runtime.run(bundle.ask("syscall keyctl 1001"))
    assert outcome.ok().testimony["syscall keyctl 1001"] == {"errno": "EOPNOTSUPP"}
    assert "level=warning" in outcome.err and "brand_new" in outcome.err
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "brand_new"))
    runtime.run(bundle).fails("syscalls[0].names[0]", 'unknown system call "brand_new"')


def test_filter_holds_for_children(runtime: Runtime) -> None:
    bundle = (
        runtime.bundle()
        .seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "mkdir", "mkdirat"))
        .shell("mkdir /x || echo refused; busybox mkdir /x || echo refused")
    )
    outcome = runtime.run(bundle)
    assert outcome.out.count("refused") == 2 and not (bundle.rootfs / "x").exists()


def test_large_profile(runtime: Runtime) -> None:
    """A profile the size of docker's, with arguments."""
    rules = [
        rule("ERRNO", "keyctl", args=[argument(1, "EQ", number)], errnoRet=95 + 4) for number in range(400)
    ]
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", *rules)
    said = runtime.ask(bundle, "syscall keyctl 1001 399", "syscall keyctl 1001 400")
    assert list(said.values()) == [{"errno": "EADDRNOTAVAIL"}, {"errno": "EOPNOTSUPP"}]


@pytest.mark.parametrize(
    "change,word",
    [
        ({"defaultAction": "SCMP_ACT_NOSUCH"}, "SCMP_ACT_NOSUCH"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "NOTIFY"),
        ({"architectures": ["SCMP_ARCH_NOSUCH"]}, "SCMP_ARCH_NOSUCH"),
        ({"flags": ["SECCOMP_FILTER_FLAG_NOSUCH"]}, "SECCOMP_FILTER_FLAG_NOSUCH"),
        ({"syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}, "names"),
        ({"syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_NOSUCH"}]}, "SCMP_ACT_NOSUCH"),
        ({"syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_KILL", "errnoRet": 3}]}, "errnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 3}, "defaultErrnoRet"),
        ({"syscalls": [rule("ERRNO", "keyctl", args=[argument(6, "EQ", 0)])]}, "index"),
        ({"syscalls": [rule("ERRNO", "keyctl", args=[argument(0, "NOSUCH", 0)])]}, "SCMP_CMP_NOSUCH"),
        ({"listenerMetadata": "x"}, "listener"),
    ],
    ids=[
        "action",
        "notify",
        "architecture",
        "flag",
        "no-names",
        "rule-action",
        "errno-of-kill",
        "errno-of-allow",
        "index",
        "operator",
        "metadata",
    ],
)
def test_bad_profiles(runtime: Runtime, change: dict[str, Any], word: str) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
    bundle.linux["seccomp"].update(change)
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("seccomp", word)
    before.assert_unchanged()
