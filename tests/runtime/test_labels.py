"""`process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`, on whatever this host labels with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.linux.lsm import APPARMOR, SELINUX, enabled
from tests.support.bundle import PATH, Bundle
from tests.support.payload import Testimony
from tests.support.runtime import Runtime

MODULES = enabled()
with_apparmor = pytest.mark.skipif(APPARMOR not in MODULES, reason="this host has no AppArmor")
without_apparmor = pytest.mark.skipif(APPARMOR in MODULES, reason="this host has AppArmor")
with_selinux = pytest.mark.skipif(SELINUX not in MODULES, reason="this host has no SELinux")
without_selinux = pytest.mark.skipif(SELINUX in MODULES, reason="this host has SELinux")
UID = GID = 1000
CURRENT = "read /proc/self/attr/current"


def refused(runtime: Runtime, bundle: Bundle, *words: str) -> None:
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(*words)
    before.assert_unchanged()


def with_user_namespace(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 300000, "size": 65536}]


# -- AppArmor ----------------------------------------------------------------------------------------------


@without_apparmor
def test_a_profile_without_apparmor_is_an_error(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["apparmorProfile"] = "containers-default"
    refused(runtime, bundle, "process.apparmorProfile", "AppArmor is not enabled on this host")


@pytest.mark.parametrize("profile", ["unconfined", ""])
def test_unconfined(runtime: Runtime, profile: str) -> None:
    """Engines ask for it everywhere."""
    bundle = runtime.bundle()
    bundle.process["apparmorProfile"] = profile
    told = runtime.ask(bundle, CURRENT)[CURRENT]
    if SELINUX in MODULES:
        assert told == Path("/proc/self/attr/current").read_text()
    else:
        assert told in ("unconfined\n", "", {"errno": "EINVAL"})


@pytest.fixture
def profile() -> Iterator[str]:
    """A loaded profile that allows everything but /area/secret."""
    name = f"pyrunc-test-{os.getpid()}"
    text = (
        f"profile {name} flags=(attach_disconnected,mediate_deleted) {{\n"
        "  file,\n  capability,\n  network,\n  mount,\n  umount,\n  signal,\n  ptrace,\n  unix,\n"
        "  deny /area/secret rwx,\n}\n"
    )

    def parser(flag: str) -> None:
        subprocess.run(["apparmor_parser", flag], input=text, text=True, check=True, capture_output=True)

    parser("--replace")
    yield name
    parser("--remove")


def confined(runtime: Runtime, profile: str) -> Bundle:
    bundle = runtime.bundle()
    bundle.process["apparmorProfile"] = profile
    for name in ("secret", "open"):
        (bundle.rootfs / "area" / name).write_text(name)
        (bundle.rootfs / "area" / name).chmod(0o666)
    return bundle


def assert_confined(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    said = runtime.ask(bundle, CURRENT, "read /area/open", "read /area/secret", "append /area/secret x")
    assert said[CURRENT] == f"{profile} (enforce)\n"
    assert said["read /area/open"] == "open"
    assert said["read /area/secret"] == said["append /area/secret x"] == {"errno": "EACCES"}


@with_apparmor
@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("kind", ["plain", "user namespace", "no pid namespace", "seccomp", "other user"])
def test_a_profile_bites(runtime: Runtime, profile: str, kind: str, nnp: bool) -> None:
    bundle = confined(runtime, profile)
    bundle.process["noNewPrivileges"] = nnp
    if kind == "user namespace":
        with_user_namespace(bundle)
    elif kind == "no pid namespace":
        bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    elif kind == "seccomp":
        bundle.linux["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}],
        }
    elif kind == "other user":
        bundle.process["user"] = {"uid": 1000, "gid": 1000}
    assert_confined(runtime, bundle, profile)


@with_apparmor
def test_a_profile_bites_in_every_child(runtime: Runtime, profile: str) -> None:
    bundle = confined(runtime, profile)
    bundle.process["args"] = ["sh", "-c", "testify 'read' /area/secret; testify read /area/open"]
    said = runtime.run(bundle).ok().testimony
    assert said["read /area/secret"] == {"errno": "EACCES"} and said["read /area/open"] == "open"


@with_apparmor
def test_a_profile_of_an_ordinary_user(runtime: Runtime, profile: str) -> None:
    bundle = confined(runtime, profile).rootless(UID, GID).give_rootfs(UID, GID)
    assert_confined(runtime.as_user(UID, GID), bundle, profile)


@with_apparmor
def test_what_the_container_has_at_proc_does_not_matter(runtime: Runtime, profile: str) -> None:
    """CVE-2019-16884: the image cannot take the label away with a /proc of its own."""
    bundle = confined(runtime, profile)
    del bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"]
    attributes = bundle.rootfs / "proc" / "self" / "attr"
    (attributes / "apparmor").mkdir(parents=True)
    for name in ("exec", "apparmor/exec"):
        (attributes / name).touch()
    mounts = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/proc"]
    bundle.config["mounts"] = mounts
    with runtime.running(bundle.ask("read /area/secret", "sleep")) as container:
        container.says("ready")
        current = Path(f"/proc/{container.pid}/attr/current").read_text()
        assert container.testimony["read /area/secret"] == {"errno": "EACCES"}
    assert current == f"{profile} (enforce)\n"


@with_apparmor
def test_which_hooks_are_confined(runtime: Runtime, profile: str) -> None:
    """Those that are programs of the image, not those of the host."""
    bundle = confined(runtime, profile)
    area = bundle.rootfs / "area"
    tell = "cat /proc/self/attr/current >"
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"{tell} {where}/{kind}"], "env": [PATH]}]
        for kind, where in (("createContainer", area), ("startContainer", "/area"))
    }
    runtime.run(bundle.ask("pid")).ok()
    assert (area / "createContainer").read_text() == "unconfined\n"
    assert (area / "startContainer").read_text() == f"{profile} (enforce)\n"


@with_apparmor
@pytest.mark.parametrize("name", ["pyrunc-test-not-loaded", "pyrunc test\nx"])
def test_an_unknown_profile_is_an_error_of_create(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle()
    bundle.process["apparmorProfile"] = name
    before = runtime.footprint(bundle)
    container = runtime.container(bundle)
    container.create().fails("apply the AppArmor profile", "no such file or directory", "apparmor_parser")
    before.assert_unchanged()


# -- SELinux -----------------------------------------------------------------------------------------------


@without_selinux
@pytest.mark.parametrize("part,name", [("process", "selinuxLabel"), ("linux", "mountLabel")])
def test_a_label_without_selinux_is_an_error(runtime: Runtime, part: str, name: str) -> None:
    bundle = runtime.bundle()
    bundle.config[part][name] = "system_u:object_r:container_t:s0"
    refused(runtime, bundle, f"{part}.{name}", "SELinux is disabled or not supported on this host")


@pytest.mark.parametrize("part,name", [("process", "selinuxLabel"), ("linux", "mountLabel")])
def test_an_empty_label_asks_for_nothing(runtime: Runtime, part: str, name: str) -> None:
    bundle = runtime.bundle()
    bundle.config[part][name] = ""
    assert runtime.ask(bundle, "pid")["pid"] == 1


def a_label(kind: str = "") -> str:
    """A label that the loaded policy knows: the test's own, with other categories where it has some."""
    own = Path("/proc/self/attr/current").read_text().strip("\0\n")
    return os.environ.get(f"PYRUNC_TEST_SELINUX_{kind}") or own


@with_selinux
@pytest.mark.parametrize("nnp", [True, False])
def test_the_label_of_the_process(runtime: Runtime, nnp: bool) -> None:
    bundle = runtime.bundle()
    bundle.process["noNewPrivileges"] = nnp
    bundle.process["selinuxLabel"] = a_label("PROCESS")
    assert runtime.ask(bundle, CURRENT)[CURRENT].strip("\0\n") == a_label("PROCESS")


@with_selinux
def test_which_hooks_have_the_label(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["selinuxLabel"] = a_label("PROCESS")
    area = bundle.rootfs / "area"
    tell = str(bundle.rootfs / "bin" / "testify")
    hooks = (("createContainer", tell, area), ("startContainer", "/bin/testify", "/area"))
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"{tell} {CURRENT} > {where}/{kind}"], "env": [PATH]}]
        for kind, tell, where in hooks
    }
    runtime.run(bundle.ask("pid")).ok()
    told = {kind: Testimony((area / kind).read_text())[CURRENT].strip("\0\n") for kind, _, _ in hooks}
    own = Path("/proc/self/attr/current").read_text().strip("\0\n")
    assert told == {"createContainer": own, "startContainer": a_label("PROCESS")}


@with_selinux
def test_the_label_of_the_mounts(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    label = a_label("MOUNT")
    bundle.linux["mountLabel"] = label
    bundle.config["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"})
    with runtime.running(bundle.ask("sleep")) as container:
        container.says("ready")
        root = f"/proc/{container.pid}/root"
        found = {
            path: os.getxattr(f"{root}{path}", "security.selinux").decode().strip("\0")
            for path in ("/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/firmware")
        }
        assert set(found.values()) == {label}, found
        assert os.getxattr(f"{root}/proc", "security.selinux").decode().strip("\0") != label


@with_selinux
def test_a_label_that_the_policy_does_not_know(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["selinuxLabel"] = "none_u:none_r:none_t:s0"
    refused(runtime, bundle, "none_u:none_r:none_t:s0: invalid argument", "policy does not know")
