"""Runs a command under a seccomp filter that knows no mount calls of Linux 5.2 and later.

`python old_calls.py [ENOSYS|EPERM] COMMAND...`, as on an old kernel or in an outer sandbox.
"""

from __future__ import annotations

import errno
import os
import sys

import pyseccomp

CALLS = ("fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr")


def main() -> None:
    """Load the filter, then execute the command."""
    refusal, *command = sys.argv[1:]
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    for name in CALLS:
        rules.add_rule(pyseccomp.ERRNO(getattr(errno, refusal)), name)
    rules.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
