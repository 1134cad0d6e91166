"""Seccomp profiles: what is refused, what is compiled, and the cache."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from struct import pack
from typing import Any

import pyseccomp
import pytest

from pyrunc.errors import PyruncError
from pyrunc.kernel.numbers import SYSCALLS
from pyrunc.linux import seccomp
from pyrunc.linux.seccomp import cache
from pyrunc.linux.seccomp import compile as compiler
from pyrunc.linux.seccomp.compile import compile_profile
from pyrunc.linux.seccomp.names import NAMES
from pyrunc.linux.seccomp.narrow import narrow
from pyrunc.linux.seccomp.prefix import FIRST, NEWER, X32_BIT, prefix
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report
from tests.support import bpf
from tests.support.payload import REPOSITORY

HOST = Host(0, 0, False, {})
OFFICIAL = REPOSITORY.parent / "shared" / "reference" / "runtime-spec-schema"


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def profile(default: str, *rules: dict[str, Any], **more: Any) -> Any:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


def problems(profile: Any) -> list[str]:
    report = Report()
    seccomp.check({"linux": {"seccomp": profile}}, HOST, report)  # type: ignore[typeddict-item]
    return [str(problem) for problem in report.problems]


# -- check -------------------------------------------------------------------------------------------------


def test_errno_where_there_is_none() -> None:
    first, second = problems(profile("ALLOW", rule("KILL", "read", errnoRet=1), defaultErrnoRet=1))
    assert first.startswith("linux.seccomp.defaultErrnoRet: the action SCMP_ACT_ALLOW has no errno")
    assert second.startswith("linux.seccomp.syscalls[0].errnoRet: the action SCMP_ACT_KILL has no errno")


@pytest.mark.parametrize(
    "action,number,good",
    [("ERRNO", 4095, True), ("ERRNO", 4096, False), ("TRACE", 65535, True), ("TRACE", 65536, False)],
)
def test_highest_errno(action: str, number: int, good: bool) -> None:
    assert (problems(profile("ALLOW", rule(action, "read", errnoRet=number))) == []) is good


def test_unknown_system_call() -> None:
    (text,) = problems(profile("ALLOW", rule("ERRNO", "read"), rule("ERRNO", "write", "openatt")))
    assert text == 'linux.seccomp.syscalls[1].names[1]: unknown system call "openatt" (did you mean openat?)'


@pytest.mark.parametrize("default", ["ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP"])
@pytest.mark.parametrize("action", ["ALLOW", "ERRNO"])
def test_unknown_system_call_that_is_refused_all_the_same(default: str, action: str) -> None:
    """A profile written for a newer kernel runs, as with the peers; its reader is told."""
    report = Report()
    asked: Any = {"linux": {"seccomp": profile(default, rule(action, "read", "brand_new"))}}
    seccomp.check(asked, HOST, report)
    assert not report.problems
    (warning,) = report.warnings
    assert str(warning).startswith('linux.seccomp.syscalls[0].names[1]: unknown system call "brand_new"')


@pytest.mark.parametrize("default", ["ALLOW", "LOG", "TRACE"])
def test_unknown_system_call_that_would_get_through(default: str) -> None:
    (text,) = problems(profile(default, rule("KILL", "brand_new")))
    assert "unknown system call" in text
    assert problems(profile(default, rule(default, "brand_new"))) == []


# -- notifications -----------------------------------------------------------------------------------------


def notifying(*rules: dict[str, Any], default: str = "ALLOW", **more: Any) -> list[str]:
    return problems(profile(default, *rules, **({"listenerPath": "/s"} | more)))


def test_notifications_need_a_listener_and_a_way_to_it() -> None:
    assert notifying(rule("NOTIFY", "mkdir")) == []
    (text,) = notifying(rule("NOTIFY", "mkdir"), listenerPath="")
    assert text.startswith("linux.seccomp.listenerPath: is missing, and the profile has SCMP_ACT_NOTIFY")
    (text,) = notifying(rule("NOTIFY", "sendmsg", "write", "sendto"))
    assert "SCMP_ACT_NOTIFY needs sendmsg or write or sendto to be allowed" in text
    assert notifying(rule("NOTIFY", "sendmsg", "write")) == notifying(rule("NOTIFY", "sendto")) == []
    assert len(notifying(default="NOTIFY")) == len(notifying(rule("NOTIFY", "mkdir"), default="ERRNO")) == 1
    assert notifying(rule("LOG", "write"), default="NOTIFY") == []
    condition = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    assert len(notifying(rule("ALLOW", "write", args=[condition]), default="NOTIFY")) == 1
    assert notifying(rule("ALLOW", "write", args=[condition]), rule("ALLOW", "write"), default="NOTIFY") == []


def test_metadata_without_a_listener() -> None:
    (text,) = problems(profile("ALLOW", listenerMetadata="x", listenerPath=""))
    assert text == "linux.seccomp.listenerMetadata: must not be set without listenerPath (remove it)"
    assert problems(profile("ALLOW", listenerMetadata="x", listenerPath="/s")) == []


@pytest.mark.parametrize(
    "rules,calls",
    [
        ([rule("NOTIFY", "mkdir")], ["sendmsg", "read", "close"]),
        ([rule("NOTIFY", "sendmsg")], ["write", "read", "close"]),
        ([rule("ERRNO", "sendmsg"), rule("NOTIFY", "read")], ["write", "recvfrom", "close"]),
        ([rule("NOTIFY", "read", "write", "sendmsg", "close")], ["sendto", "recvfrom", "close_range"]),
        ([rule("NOTIFY", "read", "recvfrom", "close", "close_range")], ["sendmsg", "read", "close"]),
    ],
    ids=["plain", "sendmsg", "refused", "others", "none-left"],
)
def test_init_makes_no_call_that_notifies_until_the_agent_is_there(
    rules: list[Any], calls: list[str]
) -> None:
    program = Program()
    asked: Any = {"linux": {"seccomp": profile("ALLOW", *rules, listenerPath="/s")}}
    seccomp.plan(asked, program, bytes(24))
    made = [(name, args) for name, args in program.calls if name in SYSCALLS]
    assert made[0][0] == "seccomp" and made[0][1][1] == 4 | 8
    assert [name for name, _ in made if name not in ("seccomp", "exit_group")] == calls


def test_calls_of_other_machines_and_kernels_are_known() -> None:
    assert (
        problems(
            profile("ERRNO", rule("ALLOW", "arm_fadvise64_64", "s390_pci_mmio_read", "mseal", "socketcall"))
        )
        == []
    )


def test_list_of_names_is_complete_here() -> None:
    """It holds what this kernel's headers and libseccomp know; append what a newer one brings."""
    assert set(SYSCALLS) - NAMES == set()
    machines = [value for name, value in vars(pyseccomp.Arch).items() if name.isupper() and name != "NATIVE"]
    known = set()
    for machine in machines:
        for base in (0, 4000, 5000, 6000, 0x40000000, 0xF0000):
            for number in range(base, base + 600):
                try:
                    known.add(pyseccomp.resolve_syscall(machine, number).decode())
                except ValueError:
                    pass
    assert len(known) > 400 and known - NAMES == set()
    assert set(NEWER) <= NAMES
    assert {name: number for name, number in SYSCALLS.items() if name in NEWER}.items() <= NEWER.items()


def test_engines_default_profile_passes() -> None:
    path = Path("/usr/share/containers/seccomp.json")
    assert problems(json.loads(path.read_text())) == []


# -- compile -----------------------------------------------------------------------------------------------


def test_rule_equal_to_the_default_is_left_out() -> None:
    same = compile_profile(profile("ALLOW", rule("ALLOW", "read")))
    assert same == compile_profile(profile("ALLOW"))
    assert compile_profile(profile("ERRNO", rule("ERRNO", "read", errnoRet=5))) != compile_profile(
        profile("ERRNO")
    )


def test_architectures_of_other_machines_change_nothing() -> None:
    plain = profile("ALLOW", rule("ERRNO", "read"))
    foreign = plain | {"architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_PARISC64"]}
    assert compile_profile(foreign) == compile_profile(plain)
    assert compile_profile(plain | {"architectures": ["SCMP_ARCH_X86"]}) != compile_profile(plain)


def test_condition_on_a_call_that_libseccomp_does_not_know() -> None:
    condition = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    with pytest.raises(PyruncError, match="does not know file_setattr, whose rule has conditions"):
        compile_profile(profile("ALLOW", rule("ERRNO", "file_setattr", args=[condition])))


def test_too_large() -> None:
    conditions = [
        [{"index": 1, "value": number << 32 | number, "op": "SCMP_CMP_EQ"}] for number in range(3000)
    ]
    with pytest.raises(PyruncError, match="at most 4096"):
        compile_profile(profile("ALLOW", *(rule("ERRNO", "keyctl", args=args) for args in conditions)))


def test_machine_that_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "ARCHITECTURES", {})
    with pytest.raises(PyruncError, match="is not supported"):
        compile_profile(profile("ALLOW"))


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="this host has no official schemas (../shared)")
def test_words_are_those_of_the_specification() -> None:
    """All 23 architectures, every action, operator and flag."""
    definitions = json.loads((OFFICIAL / "defs-linux.json").read_text())["definitions"]
    archs = {f"SCMP_ARCH_{name}" for family in compiler.ARCHITECTURES.values() for name in family}
    assert archs == set(definitions["SeccompArch"]["enum"]) and len(archs) == 23
    assert set(compiler.ACTIONS) == set(definitions["SeccompAction"]["enum"])
    assert set(compiler.OPERATORS) == set(definitions["SeccompOperators"]["enum"])
    assert set(seccomp.FLAGS) == set(definitions["SeccompFlag"]["enum"])


def test_architectures_have_the_values_of_libseccomp() -> None:
    known = {
        name: value for name, value in vars(pyseccomp.Arch).items() if name.isupper() and name != "NATIVE"
    }
    ours = {name: value for family in compiler.ARCHITECTURES.values() for name, value in family.items()}
    assert {name: ours[name] for name in known} == {name: int(value) for name, value in known.items()}


# -- calls that are newer than the profile -----------------------------------------------------------------

ENOSYS, EPERM = bpf.ERRNO | 38, bpf.ERRNO | 1
TOKENS = {name: token for family in compiler.ARCHITECTURES.values() for name, token in family.items()}
KERNELS = TOKENS | {"X32": TOKENS["X86_64"]}  # AUDIT_ARCH_*, as the kernel tells a filter


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_newer_than_the_profile_on_every_architecture(name: str) -> None:
    """What it does not know gets ENOSYS; all else goes on to libseccomp's program."""
    first = FIRST.get(name, 0)
    tokens = {"X86_64": TOKENS["X86_64"], name: TOKENS[name]}
    front = prefix(tokens, {460: bpf.ERRNO | 99}, dict.fromkeys(tokens, 440)) + pack("<HBBI", 6, 0, 0, 7)

    def answer(number: int) -> int:
        return bpf.verdict(front, KERNELS[name], first + number)

    assert [answer(number) for number in (1, 423, 424, 440)] == [7] * 4
    assert [answer(number) for number in (441, 1000)] == [ENOSYS] * 2
    assert answer(460) == bpf.ERRNO | 99
    assert answer(0) == (ENOSYS if name in ("S390", "S390X") else 7)
    assert bpf.verdict(front, 0x1234, first + 1000) == 7  # another architecture: libseccomp refuses it


def compiled_on(machine: str, profile: Any, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "6", "#1", machine)))
    return compile_profile(profile)


def test_arm_has_old_calls_with_high_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """set_tls and its like, which allow lists name, and which say nothing about the age of a profile."""
    asked = profile("ERRNO", rule("ALLOW", "read", "openat2", "set_tls"), architectures=["SCMP_ARCH_ARM"])
    program = compiled_on("aarch64", asked, monkeypatch)

    def answer(name: str, number: int) -> int:
        return bpf.verdict(program, TOKENS[name], number)

    assert (answer("ARM", 3), answer("ARM", 437), answer("ARM", 0xF0005)) == (bpf.ALLOW,) * 3
    assert (answer("ARM", 4), answer("ARM", 0xF0002)) == (EPERM, EPERM)
    assert (answer("ARM", 438), answer("ARM", 1000)) == (ENOSYS, ENOSYS)
    assert (answer("AARCH64", 63), answer("AARCH64", 64), answer("AARCH64", 438)) == (
        bpf.ALLOW,
        EPERM,
        ENOSYS,
    )


@pytest.mark.parametrize(
    "default,changed",
    [
        ({"defaultAction": "SCMP_ACT_ERRNO"}, True),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1}, True),
        ({"defaultAction": "SCMP_ACT_KILL"}, True),
        ({"defaultAction": "SCMP_ACT_KILL_PROCESS"}, True),
        ({"defaultAction": "SCMP_ACT_KILL_THREAD"}, True),
        ({"defaultAction": "SCMP_ACT_TRAP"}, True),
        ({"defaultAction": "SCMP_ACT_TRACE"}, False),
        ({"defaultAction": "SCMP_ACT_LOG"}, False),
        ({"defaultAction": "SCMP_ACT_ALLOW"}, False),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, False),
    ],
    ids=str,
)
def test_enosys_never_weakens_a_profile(default: dict[str, Any], changed: bool) -> None:
    """Only where a call without a rule is refused anyway."""
    asked = profile("ALLOW", rule("ERRNO", "read", errnoRet=5))
    asked.update(default)
    program = compile_profile(asked)
    answer = bpf.verdict(program, TOKENS["X86_64"], 1000)
    assert (answer == ENOSYS) is changed
    assert changed or answer == bpf.verdict(program, TOKENS["X86_64"], 83)


def test_engines_default_profile_knows_what_it_does_not_know() -> None:
    asked = json.loads(Path("/usr/share/containers/seccomp.json").read_text()) | {"defaultErrnoRet": 1}
    program = compile_profile(asked)
    assert bpf.verdict(program, TOKENS["X86_64"], 1000) == ENOSYS
    assert bpf.verdict(program, TOKENS["X86_64"], 0) == bpf.ALLOW


# -- load --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags,value",
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 6),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 0),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
    ],
)
def test_flags(flags: list[str] | None, value: int) -> None:
    asked = profile("ALLOW") if flags is None else profile("ALLOW", flags=flags)
    program = Program()
    seccomp.plan({"linux": {"seccomp": asked}}, program, bytes(24))  # type: ignore[typeddict-item]
    ((name, args),) = program.calls
    assert (name, args[:2]) == ("seccomp", (1, value))
    assert program.texts == [("load the seccomp filter of 3 instructions", "linux.seccomp")]


@pytest.mark.parametrize(
    "flags,value",
    [
        (None, 4 | 8),
        ([], 8),
        (["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"], 2 | 8),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0x20 | 8),
    ],
)
def test_flags_with_a_listener(flags: list[str] | None, value: int) -> None:
    asked: Any = profile("ALLOW", rule("NOTIFY", "mkdir"), **({} if flags is None else {"flags": flags}))
    assert seccomp.flags_of(asked) == value


# -- cache -------------------------------------------------------------------------------------------------


def filled(root: Path) -> tuple[Any, str, Path, bytes]:
    """A cache with one entry: the config, its key, its file, its program."""
    config: Any = {"linux": {"seccomp": profile("ALLOW", rule("ERRNO", "acct"))}}
    bpf = seccomp.filter_of(config, str(root))
    assert bpf
    key = cache.key_of(config["linux"]["seccomp"])
    file = root / ".cache" / "seccomp" / key
    assert file.exists()
    return config, key, file, bpf


def test_no_profile() -> None:
    assert seccomp.filter_of({"linux": {}}, "/no/such") is None  # type: ignore[typeddict-item]


def test_second_time_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _, file, bpf = filled(tmp_path)
    monkeypatch.setattr(compiler, "compile_profile", lambda _: pytest.fail("compiled again"))
    assert seccomp.filter_of(config, str(tmp_path)) == bpf
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(file.parent) == [file.name]


def test_key_is_of_the_content() -> None:
    one, same, other = profile("ALLOW"), json.loads(json.dumps(profile("ALLOW"))), profile("LOG")
    assert cache.key_of(one) == cache.key_of(same) != cache.key_of(other)


def test_what_the_program_does_not_depend_on_is_not_in_the_key() -> None:
    plain = profile("ALLOW", rule("NOTIFY", "mkdir"))
    more = {"listenerPath": "/a", "listenerMetadata": "b", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    assert cache.key_of(plain | more) == cache.key_of(plain)


def become_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def become_link(file: Path) -> None:
    file.rename(file.with_suffix(".x"))
    file.symlink_to(file.with_suffix(".x"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-8]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\1"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes() + bytes(1 << 16)),
        lambda file: file.chmod(0o622),
        lambda file: os.chown(file, 1000, 0),
        become_fifo,
        become_link,
        lambda file: file.parent.chmod(0o777),
        lambda file: os.chown(file.parent, 1000, 0),
    ],
    ids=[
        "short",
        "changed",
        "empty",
        "long",
        "writable",
        "owner",
        "fifo",
        "link",
        "open-folder",
        "folders-owner",
    ],
)
def test_spoilt_entry_is_compiled_again(tmp_path: Path, spoil: Any) -> None:
    config, key, file, bpf = filled(tmp_path)
    spoil(file)
    assert cache.load(str(tmp_path), key) is None
    assert seccomp.filter_of(config, str(tmp_path)) == bpf


def test_entry_under_another_name_is_none(tmp_path: Path) -> None:
    _, key, file, _ = filled(tmp_path)
    other = key[::-1]
    file.rename(file.with_name(other))
    assert cache.load(str(tmp_path), other) is None


def test_without_a_state_root(tmp_path: Path) -> None:
    config: Any = {"linux": {"seccomp": profile("ALLOW")}}
    assert seccomp.filter_of(config, str(tmp_path / "missing"))


def test_number_of_entries_is_limited(tmp_path: Path) -> None:
    for number in range(cache.ENTRIES + 5):
        cache.save(str(tmp_path), f"{number:040}", bytes(8))
        os.utime(tmp_path / ".cache" / "seccomp" / f"{number:040}", (number, number))
    names = sorted(os.listdir(tmp_path / ".cache" / "seccomp"))
    assert len(names) == cache.ENTRIES and names[0] == f"{5:040}"


def test_a_narrow_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the calls named, of one kind of calls only; nothing where the machine is not known."""
    monkeypatch.setattr(sys.implementation, "_multiarch", "x86_64-linux-gnu")
    program = narrow(("wait4", "exit_group"))
    for name, number in SYSCALLS.items():
        allowed = bpf.verdict(program, TOKENS["X86_64"], number) == bpf.ALLOW
        assert allowed == (name in ("wait4", "exit_group")), name
    killed = 0x8000_0000
    assert bpf.verdict(program, TOKENS["X86_64"], SYSCALLS["wait4"] | X32_BIT) == killed
    assert bpf.verdict(program, TOKENS["X86"], SYSCALLS["wait4"]) == killed
    monkeypatch.setattr(sys.implementation, "_multiarch", "vax-linux-gnu")
    assert narrow(("wait4",)) == b""
