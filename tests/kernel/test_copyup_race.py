"""tmpcopyup while others exchange the entries of the directory that is copied (`linux.mounts.copyup`)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from pyrunc.linux.mounts import copyup

RENAME_EXCHANGE = 2
ROUNDS = 1500


def test_a_file_gets_no_other_files_attributes(folder: Path) -> None:
    """Else who may exchange two files gives its own content the set-user-ID bit of the other's."""
    source = folder / "source"
    source.mkdir()
    for name, mode in (("a", 0o4755), ("b", 0o644)):
        (source / name).write_text(oct(mode))
        (source / name).chmod(mode)
    rename = ctypes.CDLL(None).renameat2
    arguments = [-100, os.fsencode(source / "a"), -100, os.fsencode(source / "b"), RENAME_EXCHANGE]
    pid = os.fork()
    if pid == 0:  # as in the runtime: it leaves its descriptors and its limits as they come
        try:
            directory = os.open(source, os.O_PATH)
            for number in range(ROUNDS):
                target = folder / f"target-{number}"
                target.mkdir()
                copyup._copy_tree(directory, os.open(target, os.O_RDONLY))
            os._exit(0)
        finally:
            os._exit(1)
    ended = 0
    while not ended:
        rename(*arguments)
        ended, status = os.waitpid(pid, os.WNOHANG)
    assert status == 0
    for number in range(ROUNDS):
        for file in (folder / f"target-{number}").iterdir():
            assert oct(file.stat().st_mode & 0o7777) == file.read_text()
