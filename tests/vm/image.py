"""Makes the disk image, its kernel and the emulator, once for each recipe; all is kept in one cache folder."""

from __future__ import annotations

import ast
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.payload import REPOSITORY
from tests.vm import recipe

#: Everything that is kept between runs, machines that are up included.
CACHE = Path(os.environ.get("PYRUNC_TEST_VM_CACHE") or Path.home() / ".cache/pyrunc-test-vm").resolve()
IMAGE = CACHE / "root.ext4"
KERNEL = CACHE / "vmlinux"
KEY = CACHE / "id_ed25519"
TOOLS = CACHE / "tools"
STAMP = CACHE / "recipe"

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NO_DOCUMENTATION = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class VmError(Exception):
    """The machine cannot be made or has failed; `status` is what a command of ours exits with then."""

    status = 125


def build(first_boot: Callable[[], None]) -> bool:
    """Make what is out of date; whether there was anything. `first_boot` starts the new image once and keeps it.

    Raises VmError, and CalledProcessError of apt, mmdebstrap, pip and the like, whose words are on stderr.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.exists() and STAMP.read_text() == recipe.digest():
            return False
        if os.geteuid() != 0:
            raise VmError("only root can make the image: its files belong to root and other ids")
        STAMP.unlink(missing_ok=True)
        _call(str(REPOSITORY / "install/prepare"), "vm")
        _check_host()
        _make_key()
        say("the emulator")
        shutil.rmtree(TOOLS, ignore_errors=True)
        unpack(TOOLS, recipe.emulator_packages())
        _make_image()
        say("first boot, which fills the guest's own caches")
        first_boot()
        STAMP.write_text(recipe.digest())
        return True


def _check_host() -> None:
    """Raise VmError, with all that is missing, where the image cannot be made."""
    programs = ("apt-config", "apt-get", "mmdebstrap", "setpriv", "ssh", "ssh-keygen", "unshare", "zstd")
    missing = [name for name in programs if not shutil.which(name)]
    if platform.machine() != "x86_64":
        missing.insert(0, "an x86-64 processor, whose kind is also the guest's")
    if missing:
        raise VmError(f"the image cannot be made here: missing {', '.join(missing)}")


def say(what: str) -> None:
    """Tell the person who waits what goes on."""
    print(f"vm: {what}", file=sys.stderr, flush=True)


def tool(path: str) -> list[str]:
    """The start of a command that runs a program of the emulator with its own libraries."""
    libraries = TOOLS / "usr/lib/x86_64-linux-gnu"
    loader = TOOLS / "usr/lib64/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", str(libraries), str(TOOLS / path)]


def _make_key() -> None:
    if not KEY.exists():
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", str(KEY))


def _make_image() -> None:
    root = CACHE / "root"
    shutil.rmtree(root, ignore_errors=True)
    IMAGE.unlink(missing_ok=True)
    say(f"Debian {recipe.SUITE}, {len(recipe.guest_packages())} packages and what they depend on")
    _bootstrap(root, "apt", recipe.guest_packages())
    say("Python packages")
    _make_environment(root)
    _configure(root)
    _unpack_kernel(root)
    say("the disk")
    _call(*tool("usr/sbin/mke2fs"), "-q", "-t", "ext4", "-d", str(root), str(IMAGE), recipe.IMAGE_SIZE)
    shutil.rmtree(root)


def unpack(root: Path, packages: list[str]) -> None:
    """Unpack these packages of the guest's release, with what they depend on, into the folder `root`.

    What they have at installation is left undone. Their programs run with their own libraries (see `tool`).
    """
    _bootstrap(root, "extract", packages)


def _bootstrap(root: Path, variant: str, packages: list[str]) -> None:
    """Make a Debian root file system with the host's mirror, proxy and certificates."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write('APT::Install-Recommends "false";\n' + _apt_settings())
        settings.flush()
        _call(
            "mmdebstrap",
            "--quiet",
            f"--variant={variant}",
            f"--include={','.join(packages)}",
            f"--aptopt={settings.name}",
            *_NO_DOCUMENTATION,
            recipe.SUITE,
            str(root),
            _mirror(),
        )


def _mirror() -> str:
    """The mirror from which the host has its own release."""
    release = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    targets = _output("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    for line in targets.splitlines():
        suite, uri = line.split()
        if release and suite == release[1]:
            return uri
    raise VmError("apt's sources name no Debian mirror for this release; the image is made from packages")


def _apt_settings() -> str:
    settings = _output("apt-config", "dump").splitlines(keepends=True)
    return "".join(line for line in settings if re.match(r"Acquire::(\w+::Proxy|Check-)", line))


def _make_environment(root: Path) -> None:
    """Install the Python packages in the guest's root: by its own Python, and at the speed of the host."""
    tree = root / recipe.TREE.lstrip("/")
    for name in recipe.ENVIRONMENT_FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tree / name)
    if _CERTIFICATES.exists():
        shutil.copy(_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
    for name in ("etc/resolv.conf", "etc/hosts"):
        (root / name).unlink(missing_ok=True)
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    for kind in recipe.ENVIRONMENT_KINDS:
        inside = f"mount -t proc proc /proc && exec {recipe.TREE}/install/environment {kind}"
        command = ["unshare", "--mount", "--propagation", "private", "chroot", str(root), "sh", "-c", inside]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=_pip_settings())


def _pip_settings() -> dict[str, str]:
    """An environment that gives pip in the guest's root the settings of the host's.

    Folders of the host with packages are left out: they are not there, and hold packages for the host's Python.
    """
    env = dict(os.environ)
    for line in _output(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in ("global", "install"):
            env[f"PIP_{name.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        places = [word for word in env.pop(name, "").split() if not word.startswith(("/", "file:"))]
        env |= {name: " ".join(places)} if places else {}
    env["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    env["HOME"] = "/root"
    return env


def _configure(root: Path) -> None:
    for name, text in recipe.GUEST_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, target in recipe.GUEST_LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    for unit in recipe.DISABLED_UNITS:
        for link in root.glob(f"etc/systemd/system/*.wants/{unit}"):
            link.unlink()
    for profile in (root / "etc/apparmor.d").iterdir():
        if profile.is_file() and profile.name not in recipe.APPARMOR_PROFILES:
            profile.unlink()
    shutil.copy(f"{KEY}.pub", root / "etc/ssh/vm_key.pub")
    _call("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", recipe.USER)


def _unpack_kernel(root: Path) -> None:
    """Unpack the kernel here, where that is quicker than in the guest."""
    packed = next((root / "boot").glob("vmlinuz-*")).read_bytes()
    start = packed.find(_ZSTD_MAGIC)
    command = ["zstd", "-dqc"]
    unpacked = subprocess.run(
        command, input=packed[start:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if start < 0 or not unpacked.stdout.startswith(b"\x7fELF"):
        raise VmError("cannot unpack the guest's kernel: it is not an ELF image packed with zstd")
    KERNEL.write_bytes(unpacked.stdout)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
