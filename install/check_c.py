"""Compiles every C file of the tree with all warnings as errors, without making anything. Part of `make check`."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WARNINGS = (
    "-std=gnu11 -O2 -fsyntax-only -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes "
    "-Wpointer-arith -Wwrite-strings -Wundef -Wformat=2 -Wno-unused-parameter"
).split()

COMPILER = ("cc", *WARNINGS, "-isystem", sysconfig.get_path("include"))


def main() -> None:
    """Compile each, tell which failed."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.c"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    failed = [name for name in names if subprocess.run([*COMPILER, name], cwd=REPOSITORY).returncode]
    if failed:
        sys.exit(f"warnings in {', '.join(failed)}")
    print(f"no warnings in {len(names)} C files")


if __name__ == "__main__":
    main()
