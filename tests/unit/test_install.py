"""`make install` and `make uninstall`: what is put where, who can run it, what it depends on, what is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scratch

REPOSITORY = Path(__file__).resolve().parents[2]
INSTALLER = [sys.executable, "-X", "no_debug_ranges", str(REPOSITORY / "install" / "install.py")]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def installer(
    verb: str, prefix: Path, destdir: str = "", umask: int = -1
) -> subprocess.CompletedProcess[str]:
    """One call of the installer."""
    return subprocess.run(
        [*INSTALLER, verb],
        env={"PATH": os.environ["PATH"], "PREFIX": str(prefix), "DESTDIR": destdir},
        capture_output=True,
        text=True,
        timeout=120,
        umask=umask,
    )


def run(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """A command in an empty environment, far from the source tree."""
    return subprocess.run(
        [str(word) for word in command], env=env or {}, cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def prefix() -> Iterator[Path]:
    """An installation made under a umask that gives others nothing; the tests do not change it."""
    path = scratch.make("pyrunc-test-install")
    done = installer("install", path / "prefix", umask=0o077)
    assert done.returncode == 0, done.stderr
    yield path / "prefix"
    scratch.remove(path)


@pytest.fixture
def own(prefix: Path, folder: Path) -> Path:
    """An installation of the test's own."""
    done = installer("install", folder / "own")
    assert done.returncode == 0, done.stderr
    return folder / "own"


def works(answer: subprocess.CompletedProcess[str]) -> bool:
    return (
        answer.returncode == 0 and answer.stdout.startswith("pyrunc version ") and not answer.stderr
    ) or pytest.fail(repr(answer))


def test_works_from_anywhere_with_an_empty_environment(prefix: Path, folder: Path) -> None:
    assert works(run(prefix / "bin" / "pyrunc", "--version", cwd=folder))


def test_ignores_what_lies_around(prefix: Path, folder: Path) -> None:
    for name in ("os.py", "posix.py", "pyrunc.py", "marshal.py", "gc.py"):
        (folder / name).write_text("raise SystemExit('a file of the working directory was imported')")
    env = {"PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / "os.py"), "PYTHONHOME": str(folder)}
    assert works(run(prefix / "bin" / "pyrunc", "--version", cwd=folder, env=env))


def test_does_not_ask_for_the_first_python_on_path(prefix: Path, folder: Path) -> None:
    for name in ("python3", "python", "env"):
        (folder / name).write_text("#!/bin/sh\nexit 99\n")
        (folder / name).chmod(0o755)
    assert works(run(prefix / "bin" / "pyrunc", "--version", env={"PATH": str(folder)}))
    assert str(REPOSITORY).encode() not in (prefix / "bin" / "pyrunc").read_bytes()


@needs_root
def test_ordinary_user_can_run_it(prefix: Path) -> None:
    user = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups")
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert works(run(*user, prefix / "bin" / "pyrunc", "--version", env=path))
    # A whole import of everything vendored, as a rejected configuration needs it.
    code = f"import sys; sys.path += ['{prefix}/lib/pyrunc/vendor']; import jsonschema, prctl, _cffi_backend, pyseccomp"
    answer = run(*user, "/usr/bin/python3", "-IBS", "-c", code, env=path)
    assert answer.returncode == 0, answer.stderr


@needs_root
def test_does_not_need_the_source_tree(prefix: Path) -> None:
    hidden = 'mount -t tmpfs none "$0" && ! ls "$0"/pyrunc 2>/dev/null && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", hidden, str(REPOSITORY), str(prefix / "bin" / "pyrunc")]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert works(run(*words, "--version", env=path))
    answer = run(*words, "state", "no-such-container", env=path)
    assert answer.returncode == 1
    assert "does not exist" in answer.stderr


def test_modes_do_not_depend_on_the_umask(prefix: Path) -> None:
    for path in (prefix / "bin" / "pyrunc", *(prefix / "lib").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o444 == 0o444, path
        assert not mode & 0o022, path
        if path.is_dir():
            assert mode == 0o755, path


def test_running_it_writes_nothing_into_the_installation(prefix: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in prefix.rglob("*")}
    run(prefix / "bin" / "pyrunc", "features")
    assert {path: path.stat().st_mtime_ns for path in prefix.rglob("*")} == before


def test_uninstall_removes_everything(own: Path) -> None:
    assert list(own.rglob("*"))
    done = installer("uninstall", own)
    assert done.returncode == 0, done.stderr
    assert list(own.parent.iterdir()) == []  # the prefix was made by the installation, and is gone with it


def test_uninstall_leaves_what_is_not_ours(folder: Path) -> None:
    own = folder / "own"
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "other").write_text("")
    installer("install", own).check_returncode()
    (own / "lib" / "pyrunc" / "vendor" / "mine.py").write_text("")
    done = installer("uninstall", own)
    assert done.returncode == 0
    assert sorted(str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()) == [
        "bin/other",
        "lib/pyrunc/vendor/mine.py",
    ]
    assert "left" in done.stdout


def test_uninstall_after_two_installations_removes_everything(own: Path) -> None:
    installer("install", own).check_returncode()
    installer("uninstall", own).check_returncode()
    assert not own.exists()


def test_uninstall_says_when_there_is_nothing(folder: Path) -> None:
    done = installer("uninstall", folder)
    assert done.returncode == 1
    assert "nothing is installed" in done.stderr


def test_destdir_is_where_files_go_and_prefix_what_they_say(folder: Path) -> None:
    prefix = folder / "final"
    done = installer("install", prefix, destdir=str(folder / "package"))
    assert done.returncode == 0, done.stderr
    assert not prefix.exists()
    packed = folder / "package" / prefix.relative_to("/")
    assert str(folder / "package").encode() not in (packed / "bin" / "pyrunc").read_bytes()
    assert str(folder / "package").encode() not in (packed / "lib" / "pyrunc" / "pyrunc.code").read_bytes()
    packed.rename(prefix)
    assert works(run(prefix / "bin" / "pyrunc", "--version"))


def test_a_foreign_executable_is_not_overwritten(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "pyrunc").write_text("somebody else's")
    done = installer("install", folder)
    assert done.returncode == 1
    assert "not ours" in done.stderr
    assert [path.name for path in folder.rglob("*")] == ["bin", "pyrunc"]


def test_an_engine_never_meets_half_an_installation(own: Path) -> None:
    wrong: list[object] = []
    done = threading.Event()

    def use() -> None:
        while not done.is_set():
            answer = run(own / "bin" / "pyrunc", "state", "no-such-container")
            if answer.returncode != 1 or "does not exist" not in answer.stderr:
                wrong.append(answer)

    user = threading.Thread(target=use)
    user.start()
    for _ in range(3):
        installer("install", own).check_returncode()
    done.set()
    user.join()
    assert wrong == []
    assert not [path.name for path in (own / "lib").iterdir() if path.name != "pyrunc"]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "of another interpreter", "scrambled"])
def test_says_so_when_its_archive_is_damaged(own: Path, damage: str) -> None:
    code = own / "lib" / "pyrunc" / "pyrunc.code"
    content = code.read_bytes()
    if damage == "missing":
        code.unlink()
    elif damage == "cut short":
        code.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        code.write_bytes(b"")
    elif damage == "scrambled":
        code.write_bytes(content[:24] + b"\xff" * 64 + content[88:])
    else:
        code.write_bytes(b"\x00\x01" + content[2:])
    answer = run(own / "bin" / "pyrunc", "--version")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith("pyrunc: cannot start: ")
    assert "install it again" in answer.stderr


@needs_root
def test_no_permission_is_a_sentence(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    words = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", *INSTALLER, "install")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PREFIX": str(folder / "closed" / "prefix")}
    answer = run(*words, env=env)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "permission denied" in answer.stderr
