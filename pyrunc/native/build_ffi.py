"""Declares the border (border.h) for cffi in API mode; `pyrunc.native.build` compiles it."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
MODULE = "pyrunc.kernel._border"
SOURCES = ("border.c",)

DECLARATIONS = """
int64_t border_syscall(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);

struct border_spawn {
    uint64_t flags;
    int cgroup;
    int executable;
    int talk;
    const int *sources;
    size_t count;
    char *const *argv;
    int pidfd;
};

int64_t border_spawn(struct border_spawn *spawn);
"""


def builder() -> FFI:
    """The cffi builder for the extension module `MODULE`."""
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(
        MODULE,
        '#include "border.h"',
        sources=[str(HERE / name) for name in SOURCES],
        include_dirs=[str(HERE)],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"],
    )
    return ffi
