"""An ordinary user for engines that root's tests start: an account that only they see, and a home in their folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.engines.cgroup import V2
from tests.support import footprint
from tests.support.private_files import with_account
from tests.support.runtime import SYSTEMD

#: His uid and gid; his first subordinate uid and gid, of 65536.
ID, SUBORDINATE = 54321, 600000

#: Whether this host takes him: on cgroup v2 he needs a session, and a whole run of the tests is his (`make test-vm`).
HERE = os.geteuid() == 0 and not V2 and not SYSTEMD


class OrdinaryUser:
    """Has `folder` as his home, and no session: neither systemd nor a bus."""

    def __init__(self, folder: Path) -> None:
        self.run_time = folder / "xdg"
        self.run_time.mkdir(mode=0o700)
        for path in (folder, self.run_time):
            os.chown(path, ID, ID)
        account = with_account(folder, ID, ID, SUBORDINATE)
        identity = ["setpriv", "--reuid", str(ID), "--regid", str(ID), "--clear-groups", "--inh-caps=-all"]
        #: The words before a command that is his.
        self.around = [*account, *identity, "--"]

    @staticmethod
    def gets(path: Path) -> None:
        """Make him the owner of a file or folder."""
        os.chown(path, ID, ID)

    @staticmethod
    def processes() -> set[int]:
        """Those of his that are ours too: podman leaves one behind that holds his user namespace."""
        return {pid for pid in footprint.descendants() if _owner(pid) == ID}

    def mounts(self) -> set[str]:
        """What is mounted where his processes are, as `footprint.mounts` tells it."""
        found: set[str] = set()
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it has ended
                found |= footprint.mounts(pid)
        # podman binds its folder of networks on itself once, for all containers.
        return {mount for mount in found if not mount.startswith(f"{self.run_time}/netns ")}


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return None
