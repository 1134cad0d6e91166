"""Compiled filters, kept by their content in `.cache/seccomp` below the state root.

An entry is trusted only if the directory and the file belong to the caller, nobody else can write to them, and
its digest fits; anything else is compiled anew. A cache that cannot be used costs time and nothing else, so no
failure of it stops a container.
"""

from __future__ import annotations

import os
from _blake2 import blake2b
from marshal import dumps
from stat import S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from pyrunc.config.spec import Seccomp

#: Part of every key: to be changed when `compile` makes another program of the same profile.
GENERATION: Final = b"pyrunc-seccomp-2"
#: Properties that the program does not depend on; metadata may even be another one for each container.
BESIDE: Final = frozenset(("flags", "listenerMetadata", "listenerPath"))
#: An entry: the digest of the program, then the program.
DIGEST: Final = 32
LARGEST: Final = DIGEST + 4096 * 8
#: How many entries are kept; engines use a handful of profiles.
ENTRIES: Final = 64

_FOLDERS: Final = (".cache", "seccomp")


def key_of(profile: Seccomp) -> str:
    """The name of the profile's entry: a digest of all that the compiled filter depends on."""
    system = os.uname().machine.encode() + b"\0" + _library()
    # Version 2 of marshal writes equal values as equal bytes; later ones depend on reference counts.
    plain: Any = {name: value for name, value in profile.items() if name not in BESIDE}
    return blake2b(b"\0".join((GENERATION, system, dumps(plain, 2))), digest_size=20).hexdigest()


def _library() -> bytes:
    """Which libseccomp is installed, without loading it: where its link leads, such as libseccomp.so.2.5.4."""
    machine = os.uname().machine
    for folder in (f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"):
        try:
            return os.fsencode(os.readlink(f"{folder}/libseccomp.so.2"))
        except OSError:
            continue
    return b""


def _open_folder(state_root: str, create: bool) -> int:
    """The cache directory, which is the caller's alone. Raises OSError."""
    folder = os.open(state_root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in _FOLDERS:
        try:
            if create:
                try:
                    os.mkdir(name, 0o700, dir_fd=folder)
                except FileExistsError:
                    pass
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(folder)
            raise PermissionError(f"{name} in {state_root} can be written by others")
    return folder


def load(state_root: str, key: str) -> bytes | None:
    """The program under `key`, or None if there is none that can be trusted."""
    try:
        folder = _open_folder(state_root, create=False)
    except OSError:
        return None
    try:
        file = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    try:
        status = os.fstat(file)
        if not S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        entry = os.read(file, LARGEST + 1)
    finally:
        os.close(file)
    digest, bpf = entry[:DIGEST], entry[DIGEST:]
    if not bpf or len(bpf) % 8 or len(entry) > LARGEST or _digest(key, bpf) != digest:
        return None
    return bpf


def save(state_root: str, key: str, bpf: bytes) -> None:
    """Put the program under `key`, whole or not at all."""
    try:
        folder = _open_folder(state_root, create=True)
    except OSError:
        return  # no cache: see above
    temporary = f".{key}.{os.getpid()}"
    try:
        _make_room(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            entry = _digest(key, bpf) + bpf
            whole = os.write(file, entry) == len(entry)
        finally:
            os.close(file)
        if whole:
            os.rename(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.unlink(temporary, dir_fd=folder)
    except OSError:
        # A full disk, say. What was begun must not stay.
        try:
            os.unlink(temporary, dir_fd=folder)
        except OSError:
            pass
    finally:
        os.close(folder)


def _digest(key: str, bpf: bytes) -> bytes:
    # With the key, so that an entry under another name is no entry.
    return blake2b(bpf, key=key.encode(), digest_size=DIGEST).digest()


def _make_room(folder: int) -> None:
    """Take out the oldest entries beyond the limit, leftovers of killed runtimes included. Raises OSError."""
    names = os.listdir(folder)
    if len(names) < ENTRIES:
        return
    aged = sorted((os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime, name) for name in names)
    for _, name in aged[: len(names) - ENTRIES + 1]:
        os.unlink(name, dir_fd=folder)
