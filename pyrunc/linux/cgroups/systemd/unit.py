"""The unit of a container: its name, its slice, and where systemd puts its cgroup (systemd.slice(5)).

With the systemd manager `linux.cgroupsPath` is not a path but `slice:prefix:name`, as for every other runtime:
the scope `prefix-name.scope` inside the slice, or, where the name ends with `.slice`, that slice itself.
"""

from __future__ import annotations

from pyrunc.errors import PyruncError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_SLICE: Final = ".slice"
_FORM: Final = 'with the systemd cgroup manager it is "slice:prefix:name", such as system.slice:pyrunc:box'
#: systemd.unit(5), "String Escaping for Inclusion in Unit Names".
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:-_.\\@"
_LONGEST: Final = 255
#: Names that systemd escapes since files of a cgroup begin so: with one of these and a dot.
_CONTROLLERS: Final = ("cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids")


class Unit:
    """`name`: with its suffix. `slice`: the one that holds it. `path`: of its cgroup below systemd's own."""

    __slots__ = ("name", "path", "slice")

    def __init__(self, name: str, slice: str, path: str) -> None:
        self.name = name
        self.slice = slice
        self.path = path

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice rather than a scope."""
        return self.name.endswith(_SLICE)


def unit(cgroups_path: str, container_id: str, rootless: bool) -> Unit:
    """The unit that `linux.cgroupsPath` means; without one `pyrunc-ID.scope`. Raises PyruncError."""
    default = "user.slice" if rootless else "system.slice"
    if not cgroups_path:
        name = f"pyrunc-{_escaped(container_id)}.scope"
        return Unit(name, default, f"{expand(default)}/{name}")
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise _wrong(cgroups_path, f"has {len(parts)} part(s) instead of 3", _FORM)
    parent, prefix, name = parts
    if not name:
        raise _wrong(cgroups_path, "has no name", _FORM)
    try:
        if name.endswith(_SLICE):
            above = _parent(name)
            if name == above:
                raise ValueError("is the root of the hierarchy, which cannot be a container's cgroup")
            if parent and parent != above:
                raise ValueError(f"the slice {name} lies in {above} by its name, not in {parent}")
            return Unit(name, above, expand(name))
        parent = parent or default
        whole = f"{prefix}-{name}.scope"
        place = expand(parent)
        _check_name(whole)
    except ValueError as error:
        raise _wrong(cgroups_path, str(error), _FORM) from None
    return Unit(whole, parent, f"{place.rstrip('/')}/{_directory(whole)}")


def _wrong(cgroups_path: str, text: str, remedy: str) -> PyruncError:
    return PyruncError(f"linux.cgroupsPath {cgroups_path!r}: {text}", remedy=remedy, code="invalid-config")


def expand(slice: str) -> str:
    """The path of a slice's cgroup: `/a.slice/a-b.slice` for `a-b.slice`, `/` for `-.slice`. Raises ValueError."""
    if slice == "-" + _SLICE:
        return "/"
    _check_name(slice)
    words = slice.removesuffix(_SLICE).split("-")
    if not slice.endswith(_SLICE) or "" in words:
        raise ValueError(f"{slice!r} is not the name of a slice, which is like a.slice or a-b.slice")
    return "".join([f"/{_directory('-'.join(words[: end + 1]) + _SLICE)}" for end in range(len(words))])


def _parent(slice: str) -> str:
    """The slice that holds `slice`."""
    expand(slice)  # refuses what is none
    above = slice.removesuffix(_SLICE).rpartition("-")[0]
    return (above or "-") + _SLICE


def _check_name(name: str) -> None:
    if bad := [letter for letter in name if letter not in _LETTERS]:
        raise ValueError(f"{name!r} is no name of a unit: it holds {bad[0]!r}")
    if len(name) > _LONGEST:
        raise ValueError(f"the name {name[:20]}… of the unit is longer than {_LONGEST} characters")


def _escaped(name: str) -> str:
    """`name` with what no unit name can hold written as systemd-escape(1) does."""
    return "".join(
        [
            letter if letter in _LETTERS else "".join([f"\\x{byte:02x}" for byte in letter.encode()])
            for letter in name
        ]
    )


def _directory(name: str) -> str:
    """The directory of a unit: an underscore goes before what could be mistaken for a file of a cgroup."""
    if name[:1] in "_." or name.partition(".")[0] in _CONTROLLERS:
        return f"_{name}"
    return name
