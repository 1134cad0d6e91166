"""The runtime under test: the repository's own, installed once per test run, or the one PYRUNC_RUNTIME names."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.payload import REPOSITORY


def runtime_command(session: Path) -> list[str]:
    """The words that start the runtime; `session` is shared by all workers of this test run."""
    named = os.environ.get("PYRUNC_RUNTIME")
    if named:
        return shlex.split(named)
    makefile = REPOSITORY / "Makefile"
    if not makefile.exists() or "\ninstall:" not in makefile.read_text():
        return ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "pyrunc"]
    prefix = session / "prefix"
    with open(session / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (prefix / "bin" / "pyrunc").exists():
            log = session / "install.log"
            with open(log, "w") as output:
                done = subprocess.run(
                    ["make", "-C", str(REPOSITORY), "install", f"PREFIX={prefix}"],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=600,
                )
            if done.returncode:
                raise RuntimeError(f"make install failed:\n{log.read_text()[-4000:]}")
    return [str(prefix / "bin" / "pyrunc")]
