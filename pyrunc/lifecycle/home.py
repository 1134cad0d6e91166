"""HOME, where process.env does not set it: looked up in the container's own /etc/passwd."""

from __future__ import annotations

import os
import stat

from pyrunc.kernel.paths import open_in_root
from pyrunc.linux.environment import find_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.config.spec import Config

#: Bytes read of /etc/passwd; a hostile image could make it any size.
PASSWD_LIMIT: Final = 1 << 20


def home_of(pid: int, config: Config) -> str:
    """The home directory of process.user.uid as the container of `pid` sees it, "/" where it is not listed."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: the image may have put a FIFO there.
        passwd = open_in_root(root, "etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return "/"
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(passwd).st_mode):
            return "/"
        text = os.read(passwd, PASSWD_LIMIT)
    finally:
        os.close(passwd)
    return find_home(text, config["process"].get("user", {}).get("uid", 0))
