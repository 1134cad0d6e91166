"""Seccomp profiles: what is refused, what is compiled, and the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path
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
from pyrunc.linux.seccomp.prefix import NEWER
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

HOST = Host(0, 0, False, {})


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


# -- load --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags,value",
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 6),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 0),
    ],
)
def test_flags(flags: list[str] | None, value: int) -> None:
    asked = profile("ALLOW") if flags is None else profile("ALLOW", flags=flags)
    program = Program()
    seccomp.plan({"linux": {"seccomp": asked}}, program, bytes(24))  # type: ignore[typeddict-item]
    ((name, args),) = program.calls
    assert (name, args[:2]) == ("seccomp", (1, value))
    assert program.texts == [("load the seccomp filter of 3 instructions", "linux.seccomp")]


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
