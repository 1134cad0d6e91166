"""`mounts[].options`: flags, recursive ones, propagation, and data for the file system (config.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mountinfo import mounts, table
from tests.support.runtime import Runtime


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "options,present,absent",
    [
        (["ro"], {"ro"}, {"rw"}),
        (["rw"], {"rw"}, {"ro"}),
        (["ro", "rw"], {"rw"}, {"ro"}),
        (["rw", "ro"], {"ro"}, {"rw"}),
        (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}, set()),
        (["nosuid", "suid"], set(), {"nosuid"}),
        (["noatime"], {"noatime"}, {"relatime"}),
        (["nodiratime"], {"nodiratime"}, set()),
        (["strictatime"], set(), {"relatime", "noatime"}),
        (["relatime"], {"relatime"}, set()),
        (["nosymfollow"], {"nosymfollow"}, set()),
        (["defaults"], {"rw"}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("what", ["tmpfs", "bind"])
def test_flags(
    runtime: Runtime, what: str, options: list[str], present: set[str], absent: set[str], folder: Path
) -> None:
    bundle = runtime.bundle()
    if what == "tmpfs":
        bundle.mount("/area", "tmpfs", "tmpfs", *options)
    else:
        bundle.bind(folder, "/area", "bind", *options)
    seen = mounts(runtime, bundle)["/area"]
    assert present <= seen.options and not absent & seen.options, seen.options


@pytest.mark.parametrize("option,word", [("sync", "sync"), ("dirsync", "dirsync"), ("lazytime", "lazytime")])
def test_flags_of_the_file_system(runtime: Runtime, option: str, word: str) -> None:
    assert word in mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))["/area"].data


@pytest.mark.parametrize(
    "option",
    [
        "async",
        "atime",
        "diratime",
        "dev",
        "exec",
        "suid",
        "norelatime",
        "nostrictatime",
        "nolazytime",
        "silent",
        "loud",
        "iversion",
        "noiversion",
        "nomand",
        "symfollow",
    ],
)
def test_options_that_are_known(runtime: Runtime, option: str) -> None:
    """They must be accepted, and never reach the file system as unknown data (tmpfs refuses that)."""
    assert "/area" in mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))


@pytest.mark.needs_root
def test_unknown_option_is_data(runtime: Runtime) -> None:
    seen = mounts(
        runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", "size=128k", "mode=1750", "uid=7")
    )
    assert {"size=128k", "mode=1750", "uid=7"} <= seen["/area"].data


def test_bad_data(runtime: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "nosuchoption=1")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("/area", "invalid argument")
    before.assert_unchanged()


def test_data_on_a_bind_mount(runtime: Runtime, folder: Path) -> None:
    runtime.run(runtime.bundle().bind(folder, "/area", "bind", "size=1m")).fails("mounts[5]", "size=1m")


@pytest.mark.needs_root
def test_bind_without_recursion(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area"))
    assert not [point for point in seen if point.startswith("/area/")]


def test_remount(runtime: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "nosuid")
    bundle.mount("/area", "tmpfs", "tmpfs", "remount", "ro", "nosuid")
    assert {"ro", "nosuid"} <= mounts(runtime, bundle)["/area"].options


def test_remount_of_a_bind_mount(runtime: Runtime, folder: Path) -> None:
    bundle = runtime.bundle().bind(folder, "/area").bind(folder, "/area", "bind", "remount", "ro")
    assert "ro" in mounts(runtime, bundle)["/area"].options


@pytest.mark.parametrize(
    "option,tags",
    [
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("private", set()),
        ("rprivate", set()),
        ("unbindable", {"unbindable"}),
    ],
)
def test_propagation_of_a_mount(runtime: Runtime, option: str, tags: set[str]) -> None:
    assert mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", option))["/area"].tags == tags


# -- recursive flags ---------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "options,effect",
    [
        (["rro"], "ro"),
        (["rnosuid"], "nosuid"),
        (["rnodev"], "nodev"),
        (["rnoexec"], "noexec"),
        (["rnoatime"], "noatime"),
        (["rnodiratime"], "nodiratime"),
        (["rnosymfollow"], "nosymfollow"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_recursive_flags(runtime: Runtime, options: list[str], effect: str) -> None:
    bundle = runtime.bundle().without_mount("/sys")
    bundle.bind("/dev", "/area", "rbind", *options)
    seen = mounts(runtime, bundle)
    below = [point for point in seen if point.startswith("/area/")]
    assert below
    for point in ("/area", *below):
        assert effect in seen[point].options, point


def test_ro_alone_is_not_recursive(runtime: Runtime) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area", "rbind", "ro"))
    assert "ro" in seen["/area"].options and "rw" in seen["/area/pts"].options


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "option",
    [
        "rrw",
        "rsuid",
        "rdev",
        "rexec",
        "ratime",
        "rdiratime",
        "rrelatime",
        "rnorelatime",
        "rstrictatime",
        "rnostrictatime",
        "rsymfollow",
    ],
)
def test_recursive_flags_that_clear(runtime: Runtime, folder: Path, option: str) -> None:
    assert "/area" in mounts(runtime, runtime.bundle().bind(folder, "/area", "rbind", option))


@pytest.mark.parametrize("option", ["ro", "noatime", "nosuid", "nosymfollow"])
def test_a_flag_with_rbind_is_not_recursive(runtime: Runtime, option: str) -> None:
    seen = mounts(runtime, runtime.bundle().bind("/dev", "/area", "rbind", option))
    assert (
        option in seen["/area"].options
        and option
        not in seen["/area/pts"].options - table(Path("/proc/self/mountinfo").read_text())["/dev/pts"].options
    )


# -- the table of options ----------------------------------------------------------------------------------


ATIME = {"noatime", "relatime"}


@pytest.mark.parametrize(
    ("option", "before", "present", "absent"),
    [
        ("ro", "rw", {"ro"}, {"rw"}),
        ("rw", "ro", {"rw"}, {"ro"}),
        ("nosuid", "suid", {"nosuid"}, set()),
        ("suid", "nosuid", set(), {"nosuid"}),
        ("nodev", "dev", {"nodev"}, set()),
        ("dev", "nodev", set(), {"nodev"}),
        ("noexec", "exec", {"noexec"}, set()),
        ("exec", "noexec", set(), {"noexec"}),
        ("nosymfollow", "symfollow", {"nosymfollow"}, set()),
        ("symfollow", "nosymfollow", set(), {"nosymfollow"}),
        ("nodiratime", "diratime", {"nodiratime"}, set()),
        ("diratime", "nodiratime", set(), {"nodiratime"}),
        ("noatime", "strictatime", {"noatime"}, {"relatime"}),
        ("atime", "noatime", {"relatime"}, {"noatime"}),
        ("relatime", "noatime", {"relatime"}, {"noatime"}),
        ("norelatime", "relatime", {"relatime"}, {"noatime"}),
        ("strictatime", "noatime", set(), ATIME),
        ("nostrictatime", "strictatime", {"relatime"}, {"noatime"}),
        ("defaults", "ro", {"ro"}, {"rw"}),
    ],
)
@pytest.mark.parametrize("scope", ["new", "bind", "below"])
def test_every_flag_of_a_mount_after_its_opposite(
    runtime: Runtime, folder: Path, option: str, before: str, present: set[str], absent: set[str], scope: str
) -> None:
    """The later word wins; of an r word on all mounts below."""
    if scope == "below" and option == "defaults":
        return
    bundle = runtime.bundle()
    if scope == "new":
        bundle.mount("/area", "tmpfs", "tmpfs", before, option)
    elif scope == "bind":
        bundle.bind(folder, "/area", "bind", before, option)
    else:
        bundle.bind("/dev", "/area", "rbind", f"r{before}", f"r{option}")
    seen = mounts(runtime, bundle)
    points = [point for point in seen if point == "/area" or point.startswith("/area/")]
    assert len(points) > (2 if scope == "below" else 0)
    for point in points:
        assert present <= seen[point].options and not absent & seen[point].options, (
            point,
            seen[point].options,
        )


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        (["async", "sync"], {"sync"}, set()),
        (["sync", "async"], set(), {"sync"}),
        (["dirsync"], {"dirsync"}, set()),
        (["nolazytime", "lazytime"], {"lazytime"}, set()),
        (["lazytime", "nolazytime"], set(), {"lazytime"}),
        (["mand", "nomand"], set(), {"mand"}),
        (["iversion", "sync"], {"sync"}, set()),
        (["noiversion"], {"rw"}, set()),
        (["silent", "lazytime", "dirsync"], {"lazytime", "dirsync"}, set()),
        (["silent", "loud"], {"rw"}, set()),
        (["ro"], {"rw"}, {"ro"}),  # of the mount, not of a file system that others may share
    ],
    ids=lambda words: "-".join(words if isinstance(words, list) else sorted(words)),  # xdist wants one order
)
def test_every_flag_of_a_file_system(
    runtime: Runtime, options: list[str], present: set[str], absent: set[str]
) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", *options, "size=1m")
    seen = mounts(runtime, bundle)
    assert present | {"size=1024k"} <= seen["/area"].data and not absent & seen["/area"].data
    assert seen["/"].type != "tmpfs", "the stage for mount(2) is gone"


def test_mand_is_told_to_the_kernel(runtime: Runtime) -> None:
    """Kernels since 5.15 know it as a word only: accepted, and without effect."""
    assert mounts(runtime, runtime.bundle().mount("/area", "tmpfs", "tmpfs", "mand"))["/area"].data
