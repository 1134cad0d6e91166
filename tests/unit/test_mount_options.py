"""The table of mount options and what a list of them means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.kernel import constants as k
from pyrunc.linux.mounts.filesystem import make_by_page, settings_of
from pyrunc.linux.mounts.old import OldProgram
from pyrunc.linux.mounts.options import OPTIONS, SUPERBLOCK_WORDS, parse
from tests.support.interpreter import compile_root, config_of, host_of

SPECIFIED = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev
rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow
ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave
strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap""".split()


def test_every_option_of_the_specification_is_known_and_no_other() -> None:
    assert sorted(OPTIONS) == sorted(SPECIFIED)


def test_the_last_word_on_the_id_map_wins() -> None:
    options = parse(["bind", "ridmap", "idmap"])
    assert (options.idmap, options.idmap_all, options.idmap_text) == (True, False, "")
    options = parse(["idmap", "ridmap=uids=0-1-2;gids=0-1-2"])
    assert (options.idmap, options.idmap_all, options.idmap_text) == (True, True, "uids=0-1-2;gids=0-1-2")
    assert not parse(["bind"]).idmap


def test_flags_and_their_opposites() -> None:
    options = parse(["nosuid", "nodev", "noexec", "ro", "nosymfollow", "nodiratime"])
    assert options.set == (
        k.MOUNT_ATTR_NOSUID
        | k.MOUNT_ATTR_NODEV
        | k.MOUNT_ATTR_NOEXEC
        | k.MOUNT_ATTR_RDONLY
        | k.MOUNT_ATTR_NOSYMFOLLOW
        | k.MOUNT_ATTR_NODIRATIME
    )
    assert options.clear == 0 and options.readonly
    options = parse(["ro", "rw", "dev", "nodev"])
    assert (options.set, options.clear) == (k.MOUNT_ATTR_NODEV, k.MOUNT_ATTR_RDONLY)
    assert not options.readonly


def test_the_atime_family_is_a_choice() -> None:
    cases = {
        ("noatime",): k.MOUNT_ATTR_NOATIME,
        ("strictatime",): k.MOUNT_ATTR_STRICTATIME,
        ("relatime",): 0,
        ("noatime", "strictatime"): k.MOUNT_ATTR_STRICTATIME,
        ("strictatime", "atime"): k.MOUNT_ATTR_STRICTATIME,
        ("noatime", "atime"): 0,
        ("atime",): 0,
        ("strictatime", "nostrictatime"): 0,
        ("noatime", "norelatime"): k.MOUNT_ATTR_NOATIME,
    }
    for words, choice in cases.items():
        options = parse(words)
        assert (options.set, options.clear) == (choice, k.MOUNT_ATTR__ATIME), words
        options = parse(["r" + word for word in words])
        assert (options.set_all, options.clear_all) == (choice, k.MOUNT_ATTR__ATIME), words
    for word in ("norelatime", "nostrictatime", "rnorelatime", "rnostrictatime"):
        options = parse([word])
        assert (options.set, options.clear, options.set_all, options.clear_all) == (0, 0, 0, 0), word


def test_recursive_options_leave_the_mount_itself_to_the_others() -> None:
    options = parse(["rbind", "rro", "rw", "rnosuid", "rsuid"])
    assert (options.bind, options.recursive) == (True, True)
    assert (options.set, options.clear) == (0, k.MOUNT_ATTR_RDONLY)
    assert (options.set_all, options.clear_all) == (k.MOUNT_ATTR_RDONLY, k.MOUNT_ATTR_NOSUID)


def test_propagation_in_order() -> None:
    assert parse(["rshared", "slave"]).propagation == [(k.MS_SHARED, True), (k.MS_SLAVE, False)]


def test_superblock_words() -> None:
    options = parse(["sync", "async", "dirsync", "lazytime", "nomand"])
    assert options.superblock == {"sync": False, "dirsync": True, "lazytime": True, "mand": False}
    for name in options.superblock:
        assert name in SUPERBLOCK_WORDS


def test_flags_of_mount_2_alone() -> None:
    assert parse(["silent", "iversion", "loud"]).flags == {"silent": False, "iversion": True}
    program = OldProgram(3, (0, 0), translating=False)
    options = parse(["silent", "iversion", "size=1m", "sync", "ro", "noatime"])
    settings = settings_of("tmpfs", options)
    make_by_page(program, "tmpfs", "t", settings, options, options.set, step="mount", of="mounts[0]")
    flags = (
        k.MS_SILENT | k.MS_I_VERSION | k.MS_SYNCHRONOUS | k.MS_NOATIME
    )  # read-only is the mount's, not the file system's
    calls = [
        args for name, args in program.calls if name == "mount" and args[2] == "tmpfs" and args[1] != "/"
    ]
    assert [(args[0], args[3], args[4]) for args in calls] == [("t", flags, "size=1m")]


@pytest.mark.parametrize(
    ("word", "opposite", "flag"),
    [("silent", "loud", k.MS_SILENT), ("iversion", "noiversion", k.MS_I_VERSION)],
)
def test_flags_of_mount_2_are_told_to_the_kernel(tmp_path: Path, word: str, opposite: str, flag: int) -> None:
    """Nothing shows them in mountinfo: what counts is the call in the program of a container."""

    def flags(*words: str) -> list[object]:
        mount = {"destination": "/area", "type": "tmpfs", "source": "area", "options": list(words)}
        config = config_of(mount)
        program = compile_root(config, host_of(config, tmp_path), "true")
        return [args[3] for name, args in program.calls if name == "mount" and args[0] == "area"]

    assert flags("nodev", opposite, word) == [k.MS_NODEV | k.MS_RELATIME | flag]
    assert flags("nodev", word, opposite) == [], "not by mount(2)"


def test_what_is_left_is_data() -> None:
    options = parse(["size=1k", "mode=755,uid=0", "", "x,,y", 'context="a,b",z', "RO"])
    assert options.data == ["size=1k", "mode=755", "uid=0", "x", "y", 'context="a,b"', "z", "RO"]


def test_a_context_is_told_to_the_newer_calls_without_its_quotes() -> None:
    options = parse(['context="u:r:t:s0:c1,c2"', "fscontext=u:r:t:s0", 'name="x"'])
    assert settings_of("tmpfs", options) == [
        ("context", "u:r:t:s0:c1,c2"),
        ("fscontext", "u:r:t:s0"),
        ("name", '"x"'),
    ]


@given(st.lists(st.sampled_from(SPECIFIED), max_size=12))
def test_a_bit_is_never_both_set_and_cleared(words: list[str]) -> None:
    options = parse(words)
    for set_, clear in ((options.set, options.clear), (options.set_all, options.clear_all)):
        assert set_ & clear & ~k.MOUNT_ATTR__ATIME == 0
        assert not set_ & k.MOUNT_ATTR__ATIME or clear & k.MOUNT_ATTR__ATIME == k.MOUNT_ATTR__ATIME
    assert options.data == []


@given(st.lists(st.sampled_from(["ro", "rw", "nosuid", "suid"]), min_size=1, max_size=8))
def test_the_last_word_wins(words: list[str]) -> None:
    options = parse(words)
    last = [word for word in words if word in ("ro", "rw")][-1:]
    assert options.readonly == (last == ["ro"])
