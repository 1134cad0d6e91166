"""spec: a config.json to start from. The defaults are those that users of `runc spec` know."""

from __future__ import annotations

import os

from pyrunc.config.example import example
from pyrunc.config.writer import dumps
from pyrunc.errors import KernelError, PyruncError

NAME = "config.json"


def write(bundle: str, rootless: bool) -> None:
    """Write config.json into the directory `bundle`. Raises PyruncError if there is one."""
    path = os.path.join(bundle, NAME)
    cgroup_v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    config = example(rootless, os.geteuid(), os.getegid(), cgroup_v2)
    try:
        # O_EXCL also refuses a dangling symbolic link.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise PyruncError(f"File {NAME} exists. Remove it first", code="exists") from None
    except OSError as error:
        raise KernelError.of(f"write {path}", error) from None
    try:
        rest = (dumps(config, 4) + "\n").encode("ascii")
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        os.unlink(path)
        raise KernelError.of(f"write {path}", error) from None
    finally:
        os.close(file)
