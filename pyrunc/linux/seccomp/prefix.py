"""What stands before libseccomp's program: rules for calls that are newer than libseccomp, or than the profile.

* A call that this libseccomp does not know can still have a rule: since Linux 5.1 (number 424) a new call has the
  same number on every architecture.
* Where calls without a rule are refused, one newer than every call that the profile names gets ENOSYS and not
  the default action: its author could not know of it, and C libraries fall back to an older call on ENOSYS
  only. Numbers below 424 always get the default action.

ENOSYS is a refusal too, so this weakens no profile. As with runc, the default actions that get it are ERRNO (of
another errno), TRAP and KILL*: a tracer and an agent know themselves what to do with a call that is new.

The program is that of seccomp(2): it reads struct seccomp_data and falls through to what follows.
"""

from __future__ import annotations

from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

#: Calls that a libseccomp still in use may not know.
NEWER: Final = {
    "process_madvise": 440,
    "epoll_pwait2": 441,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
    "rseq_slice_yield": 471,
}

#: The last number that differs between architectures.
OLD: Final = 423
#: __X32_SYSCALL_BIT of asm/unistd.h: calls of x32 have the AUDIT_ARCH of x86_64 and numbers from here on.
X32_BIT: Final = 0x4000_0000
#: The first number of an architecture whose calls do not count from 0 (asm/unistd.h).
FIRST: Final = {
    "X32": X32_BIT,
    "MIPS": 4000, "MIPSEL": 4000,
    "MIPS64": 5000, "MIPSEL64": 5000,
    "MIPS64N32": 6000, "MIPSEL64N32": 6000,
}  # fmt: skip
#: From here on ARM has calls of its own, such as set_tls (__ARM_NR_BASE of asm/unistd.h): they are old.
PRIVATE: Final = 0xF_0000
#: Where the kernel shows a call that it does not know as number 0 (the once setup(2)), if that was given in a register.
INDIRECT: Final = ("S390", "S390X")
RET_ENOSYS: Final = 0x0005_0000 | 38

#: linux/bpf_common.h: load a word, jump, jump if equal, greater, not less; return.
LD, JA, JEQ, JGT, JGE, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
NUMBER, ARCH = 0, 4  # offsets in struct seccomp_data


def op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    """A struct sock_filter (linux/filter.h): what to do, with which number, and how far to jump if it holds or not."""
    return pack("<HBBI", code, yes, no, k)


def prefix(tokens: dict[str, int], newer: dict[int, int], newest: dict[str, int] | None) -> bytes:
    """The instructions; b"" where nothing is needed.

    `tokens`: architecture → AUDIT_ARCH. `newer`: number → action. `newest`: architecture → the highest number
    that the profile names, or None for no ENOSYS. Numbers are counted from the first of each architecture.
    """
    if not newer and newest is None:
        return b""
    program = b""
    for name, token in tokens.items():
        if name == "X32":
            continue
        body = _rules(name, newer, newest)
        if name == "X86_64":
            # Without x32 in the filter its calls are left to libseccomp, which refuses them.
            x32 = _rules("X32", newer, newest) if "X32" in tokens else b""
            jump = op(JGE, X32_BIT, 0, _length(x32) + 1)
            body = jump + x32 + op(JA, _length(body)) + body
        body = op(LD, NUMBER) + body
        program += op(LD, ARCH) + op(JEQ, token, 0, _length(body)) + body
    return program


def _rules(name: str, newer: dict[int, int], newest: dict[str, int] | None) -> bytes:
    first = FIRST.get(name, 0)
    program = b""
    for number, action in newer.items():
        program += op(JEQ, first + number, 0, 1) + op(RET, action)
    if newest is not None:
        if name in INDIRECT:
            program += op(JEQ, 0, 0, 1) + op(RET, RET_ENOSYS)
        if name == "ARM":
            program += op(JGE, PRIVATE, 2, 0)
        program += op(JGT, first + max(newest[name], OLD), 0, 1) + op(RET, RET_ENOSYS)
    return program


def _length(program: bytes) -> int:
    return len(program) // 8
