"""Folders for a test run: readable by ordinary users, and never deleted while something is mounted below."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.support import footprint


def make(name: str) -> Path:
    """A new folder that every user may enter (pytest's own are closed to the rootless tests).

    Where /tmp is mounted without devices or set-user-ID programs, as Debian 13 does, it is in /var/tmp.
    """
    restricted = os.statvfs("/tmp").f_flag & (os.ST_NODEV | os.ST_NOSUID)
    path = Path(tempfile.mkdtemp(prefix=name + "-", dir="/var/tmp" if restricted else "/tmp"))
    path.chmod(0o755)
    return path


def unmount_below(path: Path) -> list[str]:
    """Detach every mount below `path`; returns what was mounted there."""
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file]
    mine = [point for point in points if point.startswith(f"{path}/")]
    for point in reversed(mine):
        footprint.unmount(point)
    return mine


def remove(path: Path) -> None:
    """Delete `path`, unless a mount below could not be detached: then nothing is deleted."""
    unmount_below(path)
    with open("/proc/self/mountinfo") as file:
        if any(line.split()[4].startswith(f"{path}/") for line in file):
            return
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o755)
    shutil.rmtree(path, ignore_errors=True)
