"""The working directory, as pyrunc-init makes and enters it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.kernel.constants import AT_FDCWD
from pyrunc.kernel.paths import open_how, open_in_root
from pyrunc.kernel.structs import OPEN_HOW_SIZE
from pyrunc.linux import capabilities, credentials, cwd
from tests.support import program as init
from tests.support.process_steps import HOST, able, caps, config, enter


def where(root: Path, asked: Any, *, leak: bool = False) -> init.Outcome:
    """Create and enter the working directory of `asked`; then `here` is made in it."""
    program = init.begin()
    supplies = {}
    if leak:
        # A descriptor of the host that init still has, as in CVE-2024-21626.
        supplies["leak"] = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        program.inherit("leak")
    enter(program, root)
    cwd.plan_create(asked, HOST, program)
    again = cwd.plan_enter_before_user(asked, HOST, program)
    credentials.plan_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("mkdirat", AT_FDCWD, "here", 0o700, step="make here", tolerate=(errno.EACCES, errno.EROFS))
    program.call("exit_group", 0, step="exit")
    outcome = init.run(program, 0, supplies)
    for fd in supplies.values():
        os.close(fd)
    return outcome


@pytest.mark.parametrize(
    "path,place",
    [
        ("/", ""),
        ("/bin", "bin"),
        ("/new", "new"),
        ("/new/and/deep", "new/and/deep"),
        ("//new/./x/", "new/x"),
        ("/bin/../new", "new"),
        ("/new/../other", "other"),
        ("/../../new", "new"),
        ("/absolute/deeper", "bin/deeper"),
        ("/up/deeper", "bin/deeper"),
    ],
)
def test_cwd_is_made_and_entered(root: Path, path: str, place: str) -> None:
    (root / "absolute").symlink_to("/bin")
    (root / "up").symlink_to("../../../../bin")
    outcome = where(root, config(cwd=path))
    assert outcome.failure == ""
    assert (root / place / "here").is_dir()
    if place:
        assert (root / place).stat().st_mode & 0o777 == 0o755


@pytest.fixture
def renaming(tmp_path: Path) -> Iterator[None]:
    """Somebody renames a file, somewhere on the host, all the time."""
    (tmp_path / "a").touch()
    script = "import os\nprint(flush=True)\nwhile True: os.rename('a', 'b'); os.rename('b', 'a')"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.mark.usefixtures("renaming")
def test_renames_elsewhere_do_not_disturb_a_path(root: Path) -> None:
    """openat2(2) says EAGAIN when it cannot tell whether ".." still leads into the root, so now and then here."""
    path = "/bin/.." * 9
    program = init.begin()
    how = program.data(open_how(os.O_PATH))
    top = os.open(root, os.O_PATH | os.O_DIRECTORY)
    place, fd = program.string(path), program.register()
    slot = program.inherit("top")
    for _ in range(20000):
        program.call("openat2", slot, place, how, OPEN_HOW_SIZE, step="open it", into=fd)
        program.call("close", fd, step="close it")
    program.call("exit_group", 0, step="exit")
    assert init.run(program, 0, {"top": top}).failure == ""
    for _ in range(20000):
        os.close(open_in_root(top, path, os.O_PATH))
    os.close(top)


def test_cwd_is_a_file(root: Path) -> None:
    outcome = where(root, config(cwd="/bin/testify"))
    assert outcome.failure == 'create cwd ("/bin/testify") set in config.json: not a directory'
    assert outcome.failures[0].path == "process.cwd"


def test_cwd_is_a_dangling_link(root: Path) -> None:
    (root / "link").symlink_to("/nowhere")
    assert where(root, config(cwd="/link")).failure.startswith('create cwd ("/link") set in config.json: ')
    assert not (root / "nowhere").exists()


def test_cwd_through_a_descriptor_of_the_host(root: Path) -> None:
    """CVE-2024-21626: /proc/self/fd/N of the image's own /proc must not lead out."""
    (root / "proc").mkdir()
    program = init.begin()
    program.call("unshare", 0x20000, step="own mount namespace")
    program.call("mount", "none", "/", 0, 0x4000 | 0x40000, 0, step="private")
    program.call("mount", "proc", str(root / "proc"), "proc", 0, 0, step="mount proc")
    leak = program.inherit("leak")
    enter(program, root)
    asked = config(cwd=f"/proc/self/fd/{leak}/tmp")
    again = cwd.plan_enter_before_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("exit_group", 0, step="exit")
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    outcome = init.run(program, 0, {"leak": fd})
    os.close(fd)
    assert outcome.failure.endswith("set in config.json failed: too many levels of symbolic links")


def test_cwd_outside_is_noticed(root: Path) -> None:
    """Even if init stood in a directory of the host: getcwd(2) tells."""
    program = init.begin()
    leak = program.inherit("leak")
    enter(program, root)
    asked = config()
    again = cwd.plan_enter_before_user(asked, HOST, program)
    program.call("fchdir", leak, step="stand outside")
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("exit_group", 0, step="exit")
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    outcome = init.run(program, 0, {"leak": fd})
    os.close(fd)
    assert "outside of the container's root" in outcome.failure and outcome.code == 1


def test_cwd_that_only_the_user_may_enter(root: Path) -> None:
    """The first attempt, made without CAP_DAC_OVERRIDE, is refused; the second is the user's."""
    (root / "private").mkdir(mode=0o700)
    os.chown(root / "private", 1000, 1000)
    asked = config(
        cwd="/private",
        user={"uid": 1000, "gid": 1000},
        capabilities=caps(bounding=[], permitted=["SETUID", "SETGID"]),
    )
    program = init.begin()
    enter(program, root)
    asked["process"]["capabilities"]["effective"] = asked["process"]["capabilities"]["permitted"]
    capabilities.plan_after_user(asked, able(), program)
    again = cwd.plan_enter_before_user(asked, HOST, program)
    credentials.plan_user(asked, HOST, program)
    cwd.plan_enter_after_user(asked, HOST, program, again)
    program.call("mkdirat", AT_FDCWD, "here", 0o700, step="make here")
    program.call("exit_group", 0, step="exit")
    assert init.run(program).failure == ""
    assert (root / "private" / "here").is_dir()


def test_cwd_that_only_root_may_enter(root: Path) -> None:
    (root / "private").mkdir(mode=0o700)
    assert where(root, config(cwd="/private", user={"uid": 1000, "gid": 1000})).failure == ""
