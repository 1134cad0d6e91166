"""Installs pyrunc below a prefix, or removes it: `install.py install|uninstall`.

PREFIX and DESTDIR come from the environment.

    PREFIX/bin/pyrunc            the launcher (install/launcher.c), bound to this Python and to PREFIX/lib/pyrunc
    PREFIX/share/man/man8/       the manual pages
    PREFIX/lib/pyrunc/
        pyrunc.code              the code archive (install/archive.py), which is what runs
        pyrunc/                  the package with its native part, for tracebacks
        vendor/                  the Python packages it needs, copied from the environment of the build
        manifest                 every file and folder of ours; what `uninstall` removes, and nothing else

The library is made complete in a folder beside its place and then exchanged with the old one in one step, so that an
engine never meets half a runtime. Modes are set, not left to the umask: all users may run it, its owner may change it.
`install --if-changed` does nothing when the installation is newer than everything it is made from.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))
REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "pyrunc"
MANUAL = REPOSITORY / "docs" / "man"
#: Folders of a dependency that only its own developers need.
UNNEEDED = frozenset(("tests", "test", "testing", "benchmarks", "docs"))
RENAME_EXCHANGE = 2  # linux/fs.h
MARK = "Made by `make install`"


def fail(text: str) -> NoReturn:
    """End with a sentence for the user."""
    sys.exit(f"install: {text}")


class Places:
    """Where things go. `lib` and `bin` are the final paths; `on_disk` says where they are now (DESTDIR)."""

    def __init__(self) -> None:
        prefix = os.environ.get("PREFIX") or "/usr/local"
        if "\n" in prefix or "'" in prefix or '"' in prefix or "\\" in prefix:
            fail("PREFIX must not contain quotes, backslashes or newlines")
        self.prefix = Path(os.path.abspath(prefix))
        self.destdir = os.environ.get("DESTDIR", "")
        self.launcher = self.prefix / "bin" / "pyrunc"
        self.home = self.prefix / "lib" / "pyrunc"
        share = self.prefix / "share"
        self.manual = share / "man" / "man8"
        #: Where each shell looks for the completion of a program, with this prefix as with /usr.
        self.completions = {
            "bash": share / "bash-completion" / "completions" / "pyrunc",
            "zsh": share / "zsh" / "site-functions" / "_pyrunc",
            "fish": share / "fish" / "vendor_completions.d" / "pyrunc.fish",
        }
        self.manifest = self.home / "manifest"

    def on_disk(self, path: Path) -> Path:
        """The path to write to, for the final path `path`."""
        return Path(os.path.abspath(self.destdir) + str(path)) if self.destdir else path


# -- what is installed ---------------------------------------------------------------------------------------


def requirements(name: str, seen: dict[str, metadata.Distribution]) -> None:
    """Add to `seen` the distributions that `name` needs at run time, itself included."""
    from packaging.requirements import Requirement

    requirement = Requirement(name)
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return
    key = requirement.name.lower().replace("_", "-")
    if key in seen:
        return
    try:
        seen[key] = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        fail(f"{requirement.name} is not in the environment of {sys.executable}; run `make build` first")
    for further in seen[key].requires or ():
        requirements(further, seen)


def files_of(distribution: metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """(file, path relative to site-packages) of what the distribution installed, without programs and caches."""
    base = Path(str(distribution.locate_file(""))).resolve()
    names = [str(path) for path in distribution.files or ()]
    installed = distribution.read_text("installed-files.txt")
    if installed is not None:  # setuptools' older form, whose SOURCES.txt is no list of what was installed
        info = Path(str(distribution._path)).name  # type: ignore[attr-defined]  # noqa: SLF001
        names = [os.path.normpath(f"{info}/{line}") for line in installed.splitlines()]
    for name in names:
        parts = Path(name).parts
        if ".." in parts or "__pycache__" in parts or UNNEEDED.intersection(parts) or name.endswith(".pyc"):
            continue
        if base.joinpath(name).is_file():
            yield base / name, name


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, readable by everyone, executable by everyone if by its owner."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def assemble(staging: Path, places: Places) -> None:
    """Put everything that belongs into `places.home` into the folder `staging`."""
    from archive import BUILD_ONLY, archive
    from dependencies import run_time

    from pyrunc.native.build import BORDER, products

    package = staging / "pyrunc"
    build_only = {PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py") for name in BUILD_ONLY}
    for path in PACKAGE.rglob("*.py"):
        if path not in build_only:
            copy(path, package / path.relative_to(PACKAGE))
    for name in products():
        if not name.endswith(".py"):
            copy(PACKAGE / name, package / name)
    copy(REPOSITORY / "LICENSE", staging / "LICENSE")
    seen: dict[str, metadata.Distribution] = {}
    for name in run_time():
        requirements(name, seen)
    for distribution in seen.values():
        for source, name in files_of(distribution):
            copy(source, staging / "vendor" / name)
    home = str(places.home)
    # These would be compiled at every rejected configuration otherwise: the launcher never writes .pyc files.
    compileall.compile_dir(
        staging / "vendor", stripdir=str(staging), prependdir=home, quiet=1, optimize=0, workers=1
    )
    extensions = {"pyrunc.kernel._border": f"{home}/pyrunc/{BORDER}"}
    for path in staging.glob("vendor/_cffi_backend*.so"):
        extensions["_cffi_backend"] = f"{home}/vendor/{path.name}"
    (staging / "pyrunc.code").write_bytes(archive(package, home, extensions))
    for path in (staging, *staging.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def shared(places: Places) -> dict[Path, str]:
    """The text of every file that belongs outside of `places.home`, by its final path: manual pages, completions."""
    from pyrunc.cli.completion import script

    texts = {
        places.manual / path.name: path.read_text(encoding="utf-8") for path in sorted(MANUAL.glob("*.8"))
    }
    return texts | {path: script(shell) for shell, path in places.completions.items()}


def make_launcher(target: Path, places: Places) -> None:
    """Compile the launcher for this prefix and this interpreter to `target`."""
    from launcher import compile_launcher

    try:
        compile_launcher(target, str(places.home))
    except ValueError as error:
        fail(f"{error}: choose another PREFIX")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        fail(f"{places.launcher} cannot be compiled: {error} (are gcc and python3-dev there?)")
    target.chmod(0o755)


# -- putting it in place --------------------------------------------------------------------------------------


def read_manifest(places: Places) -> list[Path]:
    """The final paths that an earlier installation lists; folders end in "/" in the file."""
    try:
        text = places.on_disk(places.manifest).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [Path(line) for line in text.splitlines()]


def make_folders(path: Path, places: Places) -> list[Path]:
    """Make the folder `path` and what is missing above it; the final paths of those made."""
    made: list[Path] = []
    places.on_disk(Path("/")).mkdir(parents=True, exist_ok=True)  # DESTDIR itself
    while not places.on_disk(path).is_dir():
        made.append(path)
        path = path.parent
    for folder in reversed(made):
        places.on_disk(folder).mkdir()
        places.on_disk(folder).chmod(0o755)
    return made


def exchange(fresh: Path, old: Path) -> None:
    """Let `fresh` take the place of the folder `old` in one step."""
    from pyrunc.kernel.constants import AT_FDCWD
    from pyrunc.kernel.native import syscall

    syscall("renameat2", AT_FDCWD, os.fsencode(fresh), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE)


def changed(places: Places) -> bool:
    """Whether anything that the installation is made from is newer than it, or it is not there."""
    try:
        since = places.on_disk(places.manifest).stat().st_ctime_ns
    except FileNotFoundError:
        return True
    sources = [
        PACKAGE,
        *PACKAGE.rglob("*"),
        *Path(__file__).parent.iterdir(),
        *MANUAL.glob("*.8"),
        Path(sys.prefix),
    ]
    return any(path.stat().st_mtime_ns > since for path in sources if "__pycache__" not in path.parts)


def install() -> None:
    """Install, or replace an earlier installation."""
    places = Places()
    if "--if-changed" in sys.argv and not changed(places):
        return
    launcher, home = places.on_disk(places.launcher), places.on_disk(places.home)
    if launcher.exists() and MARK not in launcher.read_text(encoding="utf-8", errors="replace"):
        fail(f"{launcher} is not ours; remove it or choose another PREFIX")
    if home.exists() and not places.on_disk(places.manifest).exists():
        fail(f"{home} is not ours (it has no manifest); remove it or choose another PREFIX")
    others = shared(places)
    if places.destdir:
        os.makedirs(places.destdir, exist_ok=True)
    own = {places.launcher.parent, places.home.parent, *(path.parent for path in others)}
    above = {folder for path in own for folder in (path, *path.parents)}
    before = read_manifest(places)
    folders = above.intersection(before)
    for folder in own:
        folders.update(make_folders(folder, places))
    staging = home.with_name(f".pyrunc-new-{os.getpid()}")
    fresh_launcher = launcher.with_name(f".pyrunc-new-{os.getpid()}")
    try:
        staging.mkdir()
        assemble(staging, places)
        inside = sorted(places.home / path.relative_to(staging) for path in staging.rglob("*"))
        listed = [places.launcher, *others, *inside, places.manifest, places.home, *sorted(folders)]
        manifest = staging / "manifest"
        manifest.write_text("".join(f"{path}\n" for path in listed), encoding="utf-8")
        manifest.chmod(0o644)
        make_launcher(fresh_launcher, places)
        # The library first: the old launcher can start the new library, not the other way round.
        if home.exists():
            exchange(staging, home)
        else:
            staging.rename(home)
        fresh_launcher.rename(launcher)
        for path, text in others.items():
            places.on_disk(path).write_text(text, encoding="utf-8")
            places.on_disk(path).chmod(0o644)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        fresh_launcher.unlink(missing_ok=True)
    for path in set(before).difference(listed) - {places.home}:
        target = places.on_disk(path)
        if places.home not in path.parents and target.is_file():  # such as a manual page that is no more
            target.unlink()
    print(f"installed {launcher}")


def uninstall() -> None:
    """Remove what the manifest lists; folders only if nothing else is in them."""
    places = Places()
    listed = read_manifest(places)
    if not listed:
        fail(f"nothing is installed below {places.prefix} (no {places.on_disk(places.manifest)})")
    folders = []
    for path in listed:
        target = places.on_disk(path)
        if target.is_dir() and not target.is_symlink():
            folders.append(target)
        elif target != places.on_disk(places.manifest):
            target.unlink(missing_ok=True)
    places.on_disk(places.manifest).unlink()  # last of the files: an interrupted removal can be repeated
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        try:
            folder.rmdir()
        except OSError:
            print(f"left {folder}: it holds files that are not ours")
    print(f"removed {places.on_disk(places.launcher)}")


if __name__ == "__main__":
    verbs = {"install": install, "uninstall": uninstall}
    if sys.argv[1:2] and sys.argv[1] in verbs:
        sys.path.insert(1, str(REPOSITORY))
        try:
            verbs[sys.argv[1]]()
        except PermissionError as error:
            fail(f"{error.filename}: permission denied (become root, or choose another PREFIX)")
    else:
        fail("say install or uninstall")
