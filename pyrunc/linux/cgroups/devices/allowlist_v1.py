"""The device list of cgroup v1: devices.allow and devices.deny (admin-guide/cgroup-v1/devices.rst).

A v1 cgroup either denies everything except its exceptions or allows everything except its exceptions. An
exception that allows must hold all the access an open asks for by itself; one that denies need only overlap.
So the normal form of the rules can be held exactly where narrower entries always allow more than wider ones
(a list of what is allowed), or always less (a list of what is denied). Anything else is refused, but for one thing that
docker asks of every container: where every node may be made, which is the default, no list can say that one of them may
be neither made nor opened. It may be made then, as under runc, and is as useless as asked, for it cannot be opened.
"""

from __future__ import annotations

import os
from errno import EINVAL, EPERM

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.devices.rules import ANY, EVERYTHING, MKNOD, allows_everything, text
from pyrunc.linux.cgroups.files import read, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.linux.cgroups.devices.rules import Table

    #: (file, line) pairs in the order they are written
    Writes = Sequence[tuple[str, str]]


def allowed(normal: Table) -> Table | None:
    """The exceptions of a cgroup that denies the rest, None if the rules cannot be held that way."""
    exceptions = {key: access for key, access in normal.items() if access}
    return exceptions if _narrowing_only_adds(normal, exceptions) else None


def denied(normal: Table) -> Table | None:
    """The exceptions of a cgroup that allows the rest, None if the rules cannot be held that way."""
    inverse = {key: EVERYTHING & ~access for key, access in normal.items()}
    exceptions = {key: access for key, access in inverse.items() if access}
    return exceptions if _narrowing_only_adds(inverse, exceptions) else None


def _narrowing_only_adds(normal: Table, exceptions: Table) -> bool:
    """Whether each entry has every bit of every wider entry that matches the same devices."""
    for (kind, major, minor), access in normal.items():
        wider = ((major, ANY), (ANY, minor), (ANY, ANY))
        if any(exceptions.get((kind, *pattern), 0) & ~access for pattern in wider):
            return False
    # "8:*" decides before "*:3" where 8:3 has no entry of its own, but the kernel looks at both.
    for (kind, major, minor), access in normal.items():
        if major != ANY and minor == ANY:
            for (other, any_major, third), bits in exceptions.items():
                crosses = other == kind and any_major == ANY and third != ANY
                if crosses and (kind, major, third) not in normal and bits & ~access:
                    return False
    return True


def writes(normal: Table, current: str | None) -> Writes:
    """What to write so that a cgroup holds `normal`.

    `current`: the text of devices.list, or None for a cgroup that was just made (it has what its parent
    has). Taking away always comes before giving, so at no instant is more allowed than before and after,
    except for what `starts_anew` tells. Raises PyruncError where cgroup v1 cannot hold these rules.
    """
    if allows_everything(normal):
        return (("devices.allow", "a"),)
    if (exceptions := allowed(normal)) is not None:
        return _exchanged(_parse(current or "a"), exceptions)
    if (exceptions := denied(normal)) is not None:
        return [
            ("devices.allow", "a"),
            *[("devices.deny", text(*key, bits)) for key, bits in exceptions.items()],
        ]
    if (exceptions := allowed(_nodes_made(normal))) is not None:
        return _exchanged(_parse(current or "a"), exceptions)
    raise PyruncError(
        "linux.resources.devices: cgroup v1 cannot hold these rules: some narrow ones allow what a wider one "
        "denies and others deny what a wider one allows",
        remedy="list only what is allowed after one rule that denies everything, or the other way round",
        code="unsupported",
    )


def _nodes_made(normal: Table) -> Table:
    """The same, with each node of a type allowed to be made that nobody may use, if those that no rule names are."""
    return {key: access or normal[key[0], ANY, ANY] & MKNOD for key, access in normal.items()}


def _exchanged(have: Table | None, exceptions: Table) -> Writes:
    """What to write so that a cgroup allows nothing but `exceptions`; `have` as of `_parse`."""
    if have is None:
        return [
            ("devices.deny", "a"),
            *[("devices.allow", text(*key, bits)) for key, bits in exceptions.items()],
        ]
    take = [(key, bits & ~exceptions.get(key, 0)) for key, bits in have.items()]
    give = [(key, bits & ~have.get(key, 0)) for key, bits in exceptions.items()]
    return [
        *[("devices.deny", text(*key, bits)) for key, bits in take if bits],
        *[("devices.allow", text(*key, bits)) for key, bits in give if bits],
    ]


def back(listed: str, current: str) -> Writes | None:
    """What to write so that a cgroup whose devices.list is `current` has again the one that was `listed`.

    None for one that allowed everything except its exceptions, for the kernel does not list those.
    """
    exceptions = _parse(listed)
    return None if exceptions is None else _exchanged(_parse(current), exceptions)


def starts_anew(planned: Writes) -> bool:
    """Whether everything is allowed, or nothing, between the first of these writes and the last."""
    return len(planned) > 1 and planned[0][1] == "a"


def carry_out(directory: str, planned: Writes) -> None:
    """Write what `writes` planned, one line for each write(2) as the kernel wants it. Raises KernelError."""
    opened: dict[str, int] = {}
    try:
        for name, line in planned:
            try:
                if name not in opened:
                    opened[name] = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
                os.write(opened[name], line.encode())
            except OSError as error:
                raise _explained(directory, name, line, error) from error
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def current_list(directory: str) -> str:
    """The text of devices.list."""
    return read(directory, "devices.list")


def _explained(directory: str, name: str, line: str, error: OSError) -> KernelError:
    step = f'write "{line}" to {name} in {directory}'
    if name == "devices.allow" and error.errno == EPERM:
        remedy = "a cgroup cannot allow what its parent denies: allow it there, or remove the rule"
        return KernelError.of(step, error, remedy=remedy)
    if error.errno == EINVAL and line == "a":
        remedy = "cgroups inside the container keep its device list from being replaced: remove them first"
        return KernelError.of(step, error, remedy=remedy)
    return refused(directory, name, line, error)


def _parse(listed: str) -> Table | None:
    """The exceptions of a cgroup that denies the rest; None for one that allows the rest."""
    bits = {"r": 2, "w": 4, "m": 1}
    found: Table = {}
    for line in listed.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "a":
            return None
        numbers, _, letters = rest.partition(" ")
        major, _, minor = numbers.partition(":")
        key = (kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor))
        found[key] = sum([bits[letter] for letter in letters])
    return found
