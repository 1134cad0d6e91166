"""`linux.cgroupsPath` with the systemd manager: the unit's name, slice and place (config-linux.md "Cgroups Path")."""

from __future__ import annotations

import pytest

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.systemd.unit import expand, unit


@pytest.mark.parametrize(
    ("path", "name", "slice", "place"),
    [
        ("", "pyrunc-box.scope", "system.slice", "/system.slice/pyrunc-box.scope"),
        (":docker:1", "docker-1.scope", "system.slice", "/system.slice/docker-1.scope"),
        ("a.slice:p:n", "p-n.scope", "a.slice", "/a.slice/p-n.scope"),
        ("a-b-c.slice:p:n", "p-n.scope", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        ("-.slice:p:n", "p-n.scope", "-.slice", "/p-n.scope"),
        ("::n", "-n.scope", "system.slice", "/system.slice/-n.scope"),
        # A name that is a slice's is that slice, whose place its name alone says.
        ("a.slice:p:a-b.slice", "a-b.slice", "a.slice", "/a.slice/a-b.slice"),
        (":p:b.slice", "b.slice", "-.slice", "/b.slice"),
        # What could be taken for a file of a cgroup gets an underscore (cg_escape in systemd).
        ("memory.slice:p:n", "p-n.scope", "memory.slice", "/_memory.slice/p-n.scope"),
    ],
)
def test_unit(path: str, name: str, slice: str, place: str) -> None:
    found = unit(path, "box", rootless=False)
    assert (found.name, found.slice, found.path) == (name, slice, place)
    assert found.is_slice is name.endswith(".slice")


def test_an_ordinary_user_has_a_slice_of_his_own() -> None:
    assert unit("", "box", rootless=True).path == "/user.slice/pyrunc-box.scope"
    assert unit("a.slice:p:n", "box", rootless=True).path == "/a.slice/p-n.scope"


def test_an_id_that_no_unit_can_have_is_escaped() -> None:
    """The runtime chooses the name where none is asked for, so it cannot be wrong."""
    assert unit("", "a+b", rootless=False).name == "pyrunc-a\\x2bb.scope"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/pyrunc/box", "has 1 part(s) instead of 3"),
        ("a:b", "has 2 part(s)"),
        ("a:b:c:d", "has 4 part(s)"),
        ("a.slice:b:", "has no name"),
        ("a:b:c", "'a' is not the name of a slice"),
        ("a--b.slice:b:c", "'a--b.slice' is not the name of a slice"),
        ("-a.slice:b:c", "is not the name of a slice"),
        (".slice:b:c", "is not the name of a slice"),
        ("a/b.slice:b:c", "holds '/'"),
        ("a.slice:b:../../x", "holds '/'"),
        ("a.slice:b c:d", "holds ' '"),
        ("a.slice:b:\n", "holds '\\n'"),
        ("a.slice:b:" + "c" * 300, "longer than 255"),
        (":p:-.slice", "is the root of the hierarchy"),
        ("a.slice:p:b-c.slice", "lies in b.slice by its name, not in a.slice"),
    ],
)
def test_what_is_no_unit_is_an_error(path: str, words: str) -> None:
    """config-linux.md "Cgroups Path": the runtime MUST generate an error for a value that is invalid."""
    with pytest.raises(PyruncError) as caught:
        unit(path, "box", rootless=False)
    assert words in str(caught.value)
    assert str(caught.value).startswith("linux.cgroupsPath ")
    assert "slice:prefix:name" in caught.value.remedy


def test_expand() -> None:
    assert expand("-.slice") == "/"
    assert expand("a.slice") == "/a.slice"
    assert expand("a-b.slice") == "/a.slice/a-b.slice"
