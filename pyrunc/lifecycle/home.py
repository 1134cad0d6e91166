"""HOME, where process.env does not set it: looked up in the container's own /etc/passwd."""

from __future__ import annotations

import os

from pyrunc.kernel.paths import open_regular
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
        return home_in(root, config)
    finally:
        os.close(root)


def home_in(root: int, config: Config) -> str:
    """The same, with a descriptor of the container's root."""
    try:
        passwd = open_regular(root, "etc/passwd")
    except OSError:
        return "/"
    if passwd < 0:
        return "/"  # a device or a FIFO that the image has put there
    try:
        text = os.read(passwd, PASSWD_LIMIT)
    finally:
        os.close(passwd)
    return find_home(text, config["process"].get("user", {}).get("uid", 0))
