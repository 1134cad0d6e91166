"""Runs a seccomp filter as the kernel would (seccomp(2), linux/filter.h), for architectures that are not this one."""

from __future__ import annotations

from struct import iter_unpack, pack, unpack_from

ALLOW, KILL = 0x7FFF_0000, 0x0000_0000
ERRNO = 0x0005_0000


def verdict(program: bytes, audit_arch: int, number: int, *args: int) -> int:
    """What the filter returns for the system call `number` of the architecture `audit_arch`."""
    data = pack("<IIQ6Q", number, audit_arch, 0, *args, *[0] * (6 - len(args)))
    steps = list(iter_unpack("<HBBI", program))
    accumulator = at = 0
    while True:
        code, yes, no, k = steps[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = unpack_from("<I", data, k)[0]
        elif code == 0x06:  # BPF_RET | BPF_K
            return int(k)
        elif code == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif code == 0x05:  # BPF_JMP | BPF_JA
            at += k
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k,
            }
            at += yes if holds[code] else no
