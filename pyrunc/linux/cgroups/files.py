"""Reading and writing the files of a cgroup, with errors that name file and value."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM, ERANGE, EROFS

from pyrunc.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    #: Takes directory, file and value before they are written, and returns what is called where the kernel refuses.
    Watcher = Callable[[str, str, str], Callable[[], None]]

#: What the kernel says when cgroups belong to somebody else.
DENIED: Final = (EACCES, EPERM, EROFS)

#: Is told of everything that is written (`former.Keeping`).
watcher: Watcher | None = None


def write(directory: str, name: str, value: str, of: str = "") -> None:
    """Write `value` to the file `name` of the cgroup `directory`. Raises KernelError.

    `of`: the property of `linux.resources` that asks for it, such as "cpu.shares".
    """
    try:
        put(directory, name, value)
    except OSError as error:
        raise refused(directory, name, value, error, of) from error


def put(directory: str, name: str, value: str, above: int | None = None) -> None:
    """As `write`, but raises the bare OSError for a caller who has something to say about it.

    `above`: a descriptor that `directory` is relative to.
    """
    failed = watcher(directory, name, value) if watcher else None
    try:
        descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=above)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError:
        if failed:
            failed()
        raise


def refused(
    directory: str, name: str, value: str, error: OSError, of: str = "", remedy: str = "", detail: str = ""
) -> KernelError:
    """The error for a value that the kernel did not take."""
    number = error.errno or 0
    if number == ENOENT:
        detail = detail or f'this kernel, or this cgroup\'s parent, offers no "{name}"'
    elif number in DENIED:
        remedy = remedy or "run as root, or have this cgroup delegated to you"
    elif number in (EINVAL, ERANGE):
        remedy = remedy or "the kernel does not take this value here"
    step = f'write "{value}" to {name} in {directory}'
    if of:
        step = f"linux.resources.{of}: {step}"
    return KernelError(step, number, call="write", detail=detail, remedy=remedy)


def write_device(directory: str, name: str, value: str, of: str) -> None:
    """As `write`, for a line about one block device."""
    try:
        put(directory, name, value)
    except OSError as error:
        device = value.partition(" ")[0]
        remedy = {
            ENODEV: f"{device} is not a whole disk of this host (lsblk lists them)",
            EOPNOTSUPP: f"choose the I/O scheduler bfq for {device}, or on cgroup v2 enable it in io.cost.qos",
        }.get(error.errno or 0, "")
        raise refused(directory, name, value, error, of, remedy) from error


def read(directory: str, name: str) -> str:
    """The text of the file `name` without the white space around it. Raises KernelError."""
    try:
        return get(directory, name)
    except OSError as error:
        raise KernelError.of(f"read {name} in {directory}", error) from error


def get(directory: str, name: str, above: int | None = None) -> str:
    """As `read`, but raises the bare OSError. `above`: a descriptor that `directory` is relative to."""
    descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=above)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode().strip()


def keyed(text: str, key: str) -> int:
    """The number behind `key` in a file of "key number" lines, 0 if it is not there."""
    for line in text.splitlines():
        word, _, number = line.partition(" ")
        if word == key:
            return int(number)
    return 0
