"""From a seccomp profile to a BPF program, through libseccomp.

This is the only module that imports pyseccomp, which costs about 30 ms. It runs when the cache has no entry.
"""

from __future__ import annotations

import os
from sys import byteorder

from pyrunc.errors import PyruncError, kernel_word
from pyrunc.linux.seccomp.prefix import FIRST, NEWER, PRIVATE, prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from pyrunc.config.spec import Seccomp, SyscallArg, SyscallRule

#: For each machine of uname(2): its architectures by the spec's names, the native one first. Others in
#: a profile cannot occur here, so that to leave them out changes nothing. Values: AUDIT_ARCH_* of linux/audit.h,
#: which are libseccomp's, except X32, which shares that of x86_64.
ARCHITECTURES: Final = {
    "x86_64": {"X86_64": 0xC000_003E, "X86": 0x4000_0003, "X32": 0x4000_003E},
    "i686": {"X86": 0x4000_0003},
    "aarch64": {"AARCH64": 0xC000_00B7, "ARM": 0x4000_0028},
    "armv7l": {"ARM": 0x4000_0028},
    "loongarch64": {"LOONGARCH64": 0xC000_0102},
    "m68k": {"M68K": 0x0000_0004},
    "mips": {"MIPS": 0x0000_0008},
    "mipsel": {"MIPSEL": 0x4000_0008},
    "mips64": {"MIPS64": 0x8000_0008, "MIPS": 0x0000_0008, "MIPS64N32": 0xA000_0008},
    "mipsel64": {"MIPSEL64": 0xC000_0008, "MIPSEL": 0x4000_0008, "MIPSEL64N32": 0xE000_0008},
    "parisc": {"PARISC": 0x0000_000F},
    "parisc64": {"PARISC64": 0x8000_000F, "PARISC": 0x0000_000F},
    "ppc": {"PPC": 0x0000_0014},
    "ppc64": {"PPC64": 0x8000_0015, "PPC": 0x0000_0014},
    "ppc64le": {"PPC64LE": 0xC000_0015},
    "riscv64": {"RISCV64": 0xC000_00F3},
    "s390x": {"S390X": 0x8000_0016, "S390": 0x0000_0016},
    "sh4": {"SH": 0x4000_002A},
    "sh4eb": {"SHEB": 0x0000_002A},
}  # fmt: skip

#: The spec's words as pyseccomp has them.
ACTIONS: Final = {
    f"SCMP_ACT_{word}": word
    for word in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
}
OPERATORS: Final = {f"SCMP_CMP_{word}": word for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")}
#: Longest program that the kernel takes: BPF_MAXINSNS of linux/bpf_common.h.
LONGEST: Final = 4096
#: From this many names on the filter is a binary tree by number instead of a list, as with runc.
TREE_FROM: Final = 32
EPERM: Final = 1
UNKNOWN: Final = -1  # __NR_SCMP_ERROR of seccomp.h


def compile_profile(profile: Seccomp) -> bytes:
    """The BPF program for this machine, an array of struct sock_filter. Raises PyruncError."""
    library = _library()
    default = _action(library, profile["defaultAction"], profile.get("defaultErrnoRet"))
    tokens = _architectures(profile)
    try:
        rules = library.SyscallFilter(default)
        for token in tokens.values():
            if token != library.system_arch():  # which every filter has
                rules.add_arch(token)
    except OSError as error:
        raise _failure("prepare the filter", error) from None
    known, newer = _sort(library, profile, default)
    for name, number, action, conditions in known:
        try:
            rules.add_rule(action, number, *conditions)
        except OSError as error:
            raise _failure(f"add the rule for {name}", error) from None
    try:
        if len(known) > TREE_FROM:
            rules.set_attr(library.Attr.CTL_OPTIMIZE, 2)
        bpf = _export(rules)
    except OSError as error:
        raise _failure("generate the filter", error) from None
    front = prefix(tokens, newer, _newest(library, profile, tokens) if _denies(profile) else None)
    if len(front + bpf) > LONGEST * 8:
        raise PyruncError(
            f"linux.seccomp: the filter has {len(front + bpf) // 8} instructions",
            remedy=f"the kernel takes at most {LONGEST}; use fewer rules or conditions",
            code="invalid-config",
        )
    return front + bpf


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise PyruncError(
            f"linux.seccomp: cannot load libseccomp: {error}", remedy="install libseccomp2", code="missing"
        ) from None
    return pyseccomp


def _failure(step: str, error: OSError) -> PyruncError:
    word = kernel_word(error.errno or 0)
    return PyruncError(f"linux.seccomp: libseccomp cannot {step}: {word}", code="invalid-config")


def _action(library: Any, name: str, number: int | None) -> int:
    """The action as the value that the filter returns."""
    if number is None:
        number = EPERM
    value: int
    if name == "SCMP_ACT_ERRNO":
        value = library.ERRNO(number)
    elif name == "SCMP_ACT_TRACE":
        value = library.TRACE(number)
    else:
        value = getattr(library, ACTIONS[name])
    return value


def _architectures(profile: Seccomp) -> dict[str, int]:
    """The architectures of the filter: the machine's own, and those of the profile that run on it."""
    machine = os.uname().machine
    if machine in ("mips", "mips64") and byteorder == "little":
        machine = machine.replace("mips", "mipsel")  # uname(2) has one name for both
    family = ARCHITECTURES.get(machine)
    if family is None:
        raise PyruncError(f"linux.seccomp: this machine ({machine}) is not supported", code="unsupported")
    wanted = {name.removeprefix("SCMP_ARCH_") for name in profile.get("architectures") or ()}
    native = next(iter(family))
    return {name: token for name, token in family.items() if name == native or name in wanted}


def _sort(
    library: Any, profile: Seccomp, default: int
) -> tuple[list[tuple[str, int, int, list[Any]]], dict[int, int]]:
    """The rules for libseccomp, and number → action of the calls that are newer than it.

    A rule with the default action says nothing, and libseccomp refuses it. A name that is not known on this
    machine is left out, as with the peers: default profiles name calls of every architecture.
    """
    known: list[tuple[str, int, int, list[Any]]] = []
    newer: dict[int, int] = {}
    for rule in profile.get("syscalls") or ():
        action = _action(library, rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        for name in rule["names"]:
            number = library.resolve_syscall(library.Arch.NATIVE, name)
            if number != UNKNOWN:
                known += [(name, number, action, conditions) for conditions in _conditions(library, rule)]
            elif name in NEWER:
                if rule.get("args"):
                    raise PyruncError(
                        f"linux.seccomp: libseccomp does not know {name}, whose rule has conditions",
                        remedy="use a newer libseccomp, or a rule without args",
                        code="missing",
                    )
                # The first rule counts, as in libseccomp.
                newer.setdefault(NEWER[name], action)
    return known, newer


def _conditions(library: Any, rule: SyscallRule) -> Iterator[list[Any]]:
    """The conditions of each libseccomp rule that `rule` makes.

    libseccomp compares an argument once in a rule. Where a rule of the profile has two conditions on one
    argument each condition becomes a rule, as with the peers: they are alternatives then.
    """
    arguments = rule.get("args") or []
    indexes = [argument["index"] for argument in arguments]
    if len(set(indexes)) < len(indexes):
        for argument in arguments:
            yield [_condition(library, argument)]
    else:
        yield [_condition(library, argument) for argument in arguments]


def _condition(library: Any, argument: SyscallArg) -> Any:
    op = getattr(library, OPERATORS[argument["op"]])
    # MASKED_EQ: `value` is the mask, `valueTwo` what has to be left.
    return library.Arg(argument["index"], op, argument["value"], argument.get("valueTwo", 0))


def _export(rules: Any) -> bytes:
    with open(os.memfd_create("pyrunc-bpf"), "rb") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _denies(profile: Seccomp) -> bool:
    """Whether a call without a rule is refused, with another errno than ENOSYS."""
    action = profile["defaultAction"]
    if action == "SCMP_ACT_ERRNO":
        return profile.get("defaultErrnoRet") != 38
    return action in ("SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP")


def _newest(library: Any, profile: Seccomp, tokens: dict[str, int]) -> dict[str, int]:
    """For each architecture the highest number of a call that the profile names, counted from its first."""
    highest = dict.fromkeys(tokens, 0)
    for rule in profile.get("syscalls") or ():
        for name in rule["names"]:
            for architecture, token in tokens.items():
                number = library.resolve_syscall(token, name) - FIRST.get(architecture, 0)
                if number < 0:
                    number = NEWER.get(name, UNKNOWN)
                if highest[architecture] < number < PRIVATE:
                    highest[architecture] = number
    return highest
