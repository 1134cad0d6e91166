"""The root: into it, over to it, what it is like afterwards; and that the host sees nothing of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.native import syscall
from tests.kernel.test_mounts import MOUNTS, USER, options, own, table
from tests.support.interpreter import (
    DEV,
    PROC,
    PTS,
    SYS,
    compile_root,
    config_of,
    execute,
    host_of,
    problems,
    run,
)


def test_pivot_root_leaves_nothing_of_the_host(bundle: Path) -> None:
    outcome = run(config_of(PROC, DEV, PTS), bundle, f"{MOUNTS}; ls /; cd /..; pwd")
    assert outcome.failure == ""
    assert set(table([line for line in outcome.lines if " - " in line])) == {"/", "/proc", "/dev", "/dev/pts"}
    assert outcome.lines[-7:] == ["bin", "dev", "etc", "proc", "sys", "tmp", "/"]


@pytest.mark.parametrize("user", [False, True])
def test_no_pivot_leaves_no_whole_proc_or_sys_of_the_host(bundle: Path, user: bool) -> None:
    if user:
        own(bundle)
    config = config_of(PROC, **(USER if user else {}))
    host = host_of(config, bundle, no_pivot=True)
    assert "/proc" in host.pseudo_mounts and "/sys" in host.pseudo_mounts
    outcome = run(config, bundle, f"{MOUNTS}; ls /", no_pivot=True)
    assert outcome.failure == ""
    mounts = [line for line in outcome.lines if " - " in line]
    assert [words[2] for words in table(mounts).values()].count("proc") == 1
    assert outcome.lines[-6:] == ["bin", "dev", "etc", "proc", "sys", "tmp"]


@pytest.mark.parametrize("no_pivot", [False, True])
def test_masks_cannot_be_left_by_a_user_namespace_inside(bundle: Path, no_pivot: bool) -> None:
    """There the kernel allows a fresh procfs only where one without masks is somewhere among the mounts.

    With --no-pivot the host's, which lie below the container's root, would count.
    """
    script = (
        "/bin/busybox unshare -U -r -m -p -f /bin/busybox mount -t proc fresh /tmp 2>/dev/null "
        "&& echo fresh || echo refused"
    )
    assert run(config_of(PROC, DEV), bundle, script, no_pivot=no_pivot).lines == ["fresh"], (
        "nothing is masked"
    )
    config = config_of(PROC, DEV, maskedPaths=["/proc/keys"], readonlyPaths=["/proc/sys"])
    assert run(config, bundle, script, no_pivot=no_pivot).lines == ["refused"]


def test_without_a_mount_namespace_only_the_root_changes(bundle: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    outcome = run(config_of(namespaces=("pid", "ipc")), bundle, "ls / /dev/null; cd ..; pwd")
    assert outcome.failure == ""
    assert outcome.lines == ["/dev/null", "", "/:", "bin", "dev", "etc", "proc", "sys", "tmp", "/"]
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    "word", ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"]
)
def test_propagation_of_the_root(bundle: Path, word: str) -> None:
    outcome = run(config_of(PROC, SYS, rootfsPropagation=word), bundle, MOUNTS)
    assert outcome.failure == ""
    # Where the host's mounts are shared, as systemd makes them, a slave has one of them as its master.
    kinds = {"shared": {"shared"}, "unbindable": {"unbindable"}, "slave": {"", "master"}}
    expected = kinds.get(word.removeprefix("r"), {""})
    found = table(outcome.lines)
    assert found["/"][1].partition(":")[0] in expected
    below = expected if word.startswith("r") else {""}
    assert found["/proc"][1].partition(":")[0] in below


def _in_shared_namespace(work: Any) -> Any:
    """`work()` in a child whose mounts are all shared, as systemd makes them; its result, pickled."""
    import pickle

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscall("unshare", 0x20000)
            # Private first: shared mounts of a host with systemd would still be shared with it.
            syscall("mount", b"none", b"/", None, 0x4000 | 0x40000, None)
            syscall("mount", b"none", b"/", None, 0x4000 | 0x100000, None)
            os.write(writer, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return pickle.loads(data)


@pytest.mark.parametrize("word", [None, "slave", "private", "shared", "rshared", "unbindable"])
def test_where_mounts_are_shared_the_host_sees_nothing(bundle: Path, word: str | None) -> None:
    config = config_of(PROC, DEV, PTS)
    if word:
        config["linux"]["rootfsPropagation"] = word

    def work() -> tuple[str, str, Any]:
        before = Path("/proc/self/mountinfo").read_text()
        outcome = run(config, bundle, MOUNTS)
        return before, Path("/proc/self/mountinfo").read_text(), outcome

    before, after, outcome = _in_shared_namespace(work)
    assert outcome.failure == ""
    assert before == after, "mounts of the container show outside, or the host's were unmounted"


def test_a_shared_volume_carries_mounts_of_the_host_both_ways(bundle: Path) -> None:
    volume = bundle / "volume"
    (volume / "sub").mkdir(parents=True)
    (bundle / "rootfs/mnt").mkdir()
    mounts = [{"destination": "/v", "source": str(volume), "options": ["rbind", "rshared"]}]
    script = "/bin/busybox mount -t tmpfs inside /v/sub"

    def work(word: str) -> Any:
        def inner() -> tuple[str, Any]:
            syscall("mount", str(volume).encode(), str(volume).encode(), None, 0x1000, None)
            syscall("mount", b"none", str(volume).encode(), None, 0x100000, None)
            outcome = run(config_of(PROC, *mounts, rootfsPropagation=word), bundle, script)
            return Path("/proc/self/mountinfo").read_text(), outcome

        return inner

    after, outcome = _in_shared_namespace(work("shared"))
    assert outcome.failure == "" and outcome.status == 0
    assert f"{volume}/sub " in after, "rootfsPropagation shared is what engines set for such volumes"
    after, outcome = _in_shared_namespace(work("slave"))
    assert outcome.failure == "" and outcome.status == 0
    assert f"{volume}/sub " not in after


def test_read_only_root(bundle: Path) -> None:
    config = config_of(PROC, DEV)
    config["root"]["readonly"] = True
    script = f"{MOUNTS}; echo x > /new 2>/dev/null || echo refused; echo x > /dev/new && echo fine"
    outcome = run(config, bundle, script)
    assert outcome.failure == ""
    assert outcome.lines[-2:] == ["refused", "fine"]
    assert "ro" in options(outcome.lines[:-2], "/")
    assert "rw" in options(outcome.lines[:-2], "/dev")


def test_read_only_root_in_a_user_namespace_on_a_mount_with_locked_flags(bundle: Path) -> None:
    own(bundle)

    def work() -> Any:
        root = str(bundle / "rootfs").encode()
        syscall("mount", root, root, None, 0x1000, None)
        syscall("mount", b"none", root, None, 0x1000 | 0x20 | 0x2 | 0x4, None)  # remount, nosuid, nodev
        config = config_of(PROC, **USER)
        config["root"]["readonly"] = True
        return run(config, bundle, MOUNTS)

    outcome = _in_shared_namespace(work)
    assert outcome.failure == ""
    assert {"ro", "nosuid", "nodev"} <= options(outcome.lines, "/")


def test_mounts_below_the_root_come_along(bundle: Path) -> None:
    (bundle / "rootfs/data").mkdir()

    def work() -> Any:
        syscall("mount", b"below", str(bundle / "rootfs/data").encode(), b"tmpfs", 0, None)
        return run(config_of(PROC), bundle, MOUNTS)

    outcome = _in_shared_namespace(work)
    assert table(outcome.lines)["/data"][3] == "below"


def test_a_root_path_that_is_no_directory_of_its_own(bundle: Path) -> None:
    (bundle / "file").touch()
    (bundle / "out").symlink_to("/")
    (bundle / "dir").symlink_to(bundle)
    for path, words in (
        ("missing", "no such file or directory"),
        ("file", "not a directory"),
        ("out", "is a symbolic link to /"),
        ("dir/missing", "no such file or directory"),
        ("file/x", "not a directory"),
        ("", "is empty"),
    ):
        config = config_of(PROC)
        config["root"]["path"] = path
        found = problems(config, host_of(config, bundle))
        assert len(found) == 1 and words in found[0], (path, found)
        assert found[0].startswith("root.path: ")


def test_a_relative_root_through_a_link_of_the_bundle(bundle: Path) -> None:
    (bundle / "link").symlink_to("/")
    config = config_of(PROC)
    config["root"]["path"] = "link/tmp"
    assert "passes a symbolic link and leads to /tmp" in problems(config, host_of(config, bundle))[0]
    config["root"]["path"] = str(bundle / "link/tmp")
    assert problems(config, host_of(config, bundle)) == []


def test_a_root_exchanged_for_a_link_is_refused(bundle: Path) -> None:
    config = config_of(PROC)
    program = compile_root(config, host_of(config, bundle), "true")
    (bundle / "rootfs").rename(bundle / "moved")
    (bundle / "rootfs").symlink_to("/")
    outcome = execute(config, program)
    assert outcome.failure.startswith("open the root ")
    assert outcome.path == "root.path"


def test_rules_that_need_other_properties(bundle: Path) -> None:
    config = config_of(rootfsPropagation="rprivate")
    assert "not safe with --no-pivot" in problems(config, host_of(config, bundle, no_pivot=True))[0]
    config = config_of(rootfsPropagation="sideways")
    assert '"sideways" is not a propagation type' in problems(config, host_of(config, bundle))[0]
    config = config_of(namespaces=("pid",), rootfsPropagation="slave")
    config["root"]["readonly"] = True
    found = problems(config, host_of(config, bundle))
    assert [problem.split(":")[0] for problem in found] == ["root.readonly", "linux.rootfsPropagation"]
    del config["root"]
    assert problems(config, host_of(config, bundle))[0].startswith("root: must be specified")
