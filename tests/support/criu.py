"""A criu that works with this kernel: the host's own, or that of a newer Debian release, unpacked beside.

criu has to know the kernel it runs on: the one of Debian 12 does not start on newer ones. What is unpacked (build/criu)
runs with its own libraries and changes nothing on the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import unified_flags
from pyrunc.linux.criu.unified import put_back
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime
from tests.vm import image, recipe

FOLDER = REPOSITORY / "build" / "criu"
_WRAPPER = """\
#!/bin/sh
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {root}/usr/sbin/criu "$@"
"""


def folder() -> Path | None:
    """The folder of a criu that works here, to be first in PATH; None where there is none and none can be had.

    The test fails where one should have been had (no network).
    """
    found = _find()
    if isinstance(found, str):
        pytest.fail(found)
    return found


@cache
def _find() -> Path | str | None:
    """The same; what went wrong as a text, so that it is tried once only."""
    own = shutil.which("criu", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if own and works(Path(own)):
        return Path(own).parent
    if os.geteuid() != 0 or not (shutil.which("apt-get") and os.path.exists("/lib64/ld-linux-x86-64.so.2")):
        return None
    programs = FOLDER / "bin"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = FOLDER / "release"
        if not stamp.exists() or stamp.read_text() != recipe.SUITE:
            try:
                _unpack(programs)
            except subprocess.CalledProcessError as error:
                return f"criu could not be unpacked: {shlex.join(map(str, error.cmd))}: status {error.returncode}"
            stamp.write_text(recipe.SUITE)
    return programs if works(programs / "criu") else None


def _unpack(programs: Path) -> None:
    root = FOLDER / "root"
    for old in (root, programs):
        shutil.rmtree(old, ignore_errors=True)
    subprocess.run(
        [REPOSITORY / "install/prepare", "vm"], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr
    )
    image.unpack(root, recipe.packages("criu"))
    programs.mkdir()
    (programs / "criu").write_text(_WRAPPER.format(root=root))
    (programs / "criu").chmod(0o755)


def put_in_path(runtime: Runtime) -> Path:
    """Let the runtime find the criu that works here; the test is skipped where there is none."""
    programs = folder()
    if programs is None:
        pytest.skip("this host has no criu that works with its kernel, and none could be unpacked")
    runtime.env["PATH"] = f"{programs}:{runtime.env['PATH']}"
    return programs


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """One test at a time, of all workers: of those with criu, and of those that make cgroup hierarchies.

    criu dumps every hierarchy in /proc/PID/cgroup, so none may come or go meanwhile. And while it runs, the flags of
    the unified one are not what they were, which another pyrunc would take for those to put back.
    """
    lock = os.open(REPOSITORY / "tests/support/criu.py", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        flags = unified_flags()
        yield
        if flags:  # a pyrunc that the test has killed could not do it
            put_back(flags)
    finally:
        os.close(lock)


def works(criu: Path, *feature: str) -> bool:
    """Whether this program finds what it needs of the kernel: `feature` (criu(8), "check"), or what it always needs."""
    words = [str(criu), "check", *(["--feature", *feature] if feature else [])]
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
