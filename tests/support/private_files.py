"""Other files at paths of the host, for one program and its children; the host's own stay as they are."""

from __future__ import annotations

import shlex
from pathlib import Path


def with_files(files: dict[str, Path]) -> list[str]:
    """The words before a command that let it see each of `files` at its path, in a mount namespace of its own."""
    binds = [f"mount --bind {shlex.quote(str(ours))} {path}" for path, ours in files.items()]
    script = " && ".join([*binds, 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


def with_account(folder: Path, uid: int, gid: int, first: int) -> list[str]:
    """The words before a command for which this user has a name and 65536 subordinate ids from `first` on.

    newuidmap asks for both, and on a fresh machine nobody has this uid.
    """
    (folder / "subids").write_text(f"{uid}:{first}:65536\n")
    (folder / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\nsomebody:x:{uid}:{gid}::/:/bin/sh\n")
    ids = folder / "subids"
    return with_files({"/etc/subuid": ids, "/etc/subgid": ids, "/etc/passwd": folder / "passwd"})
