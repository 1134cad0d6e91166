"""Id-mapped mounts: `idmap`, `ridmap`, a mount's own mappings (config.md "Mounts", config-linux.md "idmap")."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.payload import REPOSITORY
from tests.support.runtime import Runtime

UID = GID = 1000


def maps(inside: int, host: int, size: int = 10) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": host, "size": size}]


def source_of(folder: Path, uid: int = 0, gid: int = 0) -> Path:
    """A volume with a file that belongs to these ids."""
    source = folder / "volume"
    source.mkdir()
    (source / "file").write_text("x")
    os.chown(source, uid, gid)
    os.chown(source / "file", uid, gid)
    return source


def bound(runtime: Runtime, source: Path | str, *options: str, **mappings: Any) -> Bundle:
    bundle = runtime.bundle().bind(str(source), "/area", *options)
    bundle.mount_of("/area").update(mappings)
    return bundle


def owner(runtime: Runtime, bundle: Bundle, path: str = "/area/file") -> tuple[int, int]:
    status = runtime.ask(bundle, f"stat {path}")[f"stat {path}"]
    return status["uid"], status["gid"]


def flags(runtime: Runtime, bundle: Bundle, point: str) -> set[str]:
    lines = [line.split() for line in runtime.ask(bundle, "mounts")["mounts"].splitlines()]
    return {word for words in lines if words[4] == point for word in words[5].split(",")}


def test_own_mappings_are_used(runtime: Runtime, folder: Path) -> None:
    source = source_of(folder)
    bundle = bound(runtime, source, "bind", "idmap", uidMappings=maps(0, 1000), gidMappings=maps(0, 2000))
    assert owner(runtime, bundle) == (1000, 2000)
    assert (source / "file").stat().st_uid == 0, "no file is changed"


def test_what_is_written_comes_back_through_the_map(runtime: Runtime, folder: Path) -> None:
    source = source_of(folder)
    bundle = bound(runtime, source, "bind", "idmap", uidMappings=maps(5, 0, 1), gidMappings=maps(6, 0, 1))
    os.chown(source, 5, 6)
    assert runtime.ask(bundle, "write /area/new x")["write /area/new x"] == 1
    assert ((source / "new").stat().st_uid, (source / "new").stat().st_gid) == (5, 6)


def test_mappings_without_the_option_are_used_too(runtime: Runtime, folder: Path) -> None:
    """The option SHOULD be there; silently ignoring the mappings is what it is to prevent."""
    bundle = bound(runtime, source_of(folder), "bind", uidMappings=maps(0, 7), gidMappings=maps(0, 8))
    assert owner(runtime, bundle) == (7, 8)


def test_own_mappings_go_before_the_containers(runtime: Runtime, folder: Path) -> None:
    bundle = bound(
        runtime, source_of(folder), "bind", "idmap", uidMappings=maps(0, 300007), gidMappings=maps(0, 300008)
    )
    bundle.map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    assert owner(runtime, bundle) == (7, 8)


def test_without_own_mappings_the_containers_are_used(runtime: Runtime, folder: Path) -> None:
    bundle = bound(runtime, source_of(folder, 3, 4), "bind", "idmap")
    bundle.map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    assert owner(runtime, bundle) == (3, 4)


def test_without_any_mapping_it_is_an_error(runtime: Runtime, folder: Path) -> None:
    bundle = bound(runtime, source_of(folder), "bind", "idmap")
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("mounts[5].options", "user namespace")
    before.assert_unchanged()


@pytest.mark.parametrize("given", ["uidMappings", "gidMappings"])
def test_one_kind_of_mappings_alone_is_an_error(runtime: Runtime, folder: Path, given: str) -> None:
    bundle = bound(runtime, source_of(folder), "bind", "idmap", **{given: maps(0, 1000)})
    runtime.run(bundle).fails("mounts[5]", "required together with", given)


def test_a_joined_user_namespace_maps_too(runtime: Runtime, folder: Path) -> None:
    first = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000).sleeper()
    with runtime.running(first) as container:
        container.says("ready")
        bundle = bound(runtime, source_of(folder, 3, 4), "bind", "idmap")
        bundle.namespace("user", f"/proc/{container.pid}/ns/user").give_rootfs(300000, 300000)
        assert owner(runtime, bundle) == (3, 4)


def test_idmap_is_not_recursive_and_ridmap_is(runtime: Runtime, folder: Path) -> None:
    twin = runtime.like()
    source = source_of(folder)
    (source / "below").mkdir()
    below = f'mount -t tmpfs tmpfs {source}/below; touch {source}/below/file; exec "$@"'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", below, "sh"]
    for option, expected in (("idmap", 0), ("ridmap", 1000)):
        bundle = bound(runtime, source, "rbind", option, uidMappings=maps(0, 1000), gidMappings=maps(0, 1000))
        said = twin.run(bundle.ask("stat /area/file", "stat /area/below/file")).ok().testimony
        assert said["stat /area/file"]["uid"] == 1000
        assert said["stat /area/below/file"]["uid"] == expected, option


def test_a_new_file_system(runtime: Runtime) -> None:
    """tmpfs: what the container's root writes is root's on the file system only where the map says so."""
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "idmap", "mode=777")
    bundle.mount_of("/area").update(uidMappings=maps(0, 0, 5), gidMappings=maps(0, 0, 5))
    assert "idmapped" in flags(runtime, bundle, "/area")
    bundle.mount_of("/area").update(uidMappings=maps(0, 44), gidMappings=maps(0, 55))
    assert owner(runtime, bundle, "/area") == (44, 55)


def test_a_new_file_system_of_a_user_namespace_is_mapped_as_that_is(runtime: Runtime) -> None:
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "idmap")
    bundle.map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    assert owner(runtime, bundle, "/area") == (0, 0)


def test_copied_content_goes_through_the_map(runtime: Runtime) -> None:
    """The ids 0 and 7 exchanged: content keeps the owner that the container has seen before."""
    bundle = runtime.bundle().mount("/area", "tmpfs", "tmpfs", "tmpcopyup", "idmap")
    (bundle.rootfs / "area" / "file").write_text("x")
    os.chown(bundle.rootfs / "area" / "file", 7, 7)
    exchanged = maps(0, 7, 1) + maps(7, 0, 1)
    bundle.mount_of("/area").update(uidMappings=exchanged, gidMappings=exchanged)
    assert owner(runtime, bundle) == (7, 7)
    assert owner(runtime, bundle, "/area") == (7, 7), "the root of the tmpfs is 0 on it"


@pytest.mark.parametrize("kind", ["proc", "sysfs", "mqueue", "ramfs"])
def test_what_the_kernel_cannot_map_is_named(runtime: Runtime, kind: str) -> None:
    point = {"proc": "/proc", "sysfs": "/sys"}.get(kind, "/area")
    bundle = runtime.bundle()
    if point == "/area":
        bundle.mount("/area", kind, kind)
    bundle.mount_of(point).update(options=["idmap"], uidMappings=maps(0, 1), gidMappings=maps(0, 1))
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(
        f"map the ids of {kind} on {point}", "invalid argument", "this kernel cannot map", "ext4"
    )
    before.assert_unchanged()


def test_a_bind_mount_that_cannot_be_mapped_names_its_file_system(runtime: Runtime) -> None:
    bundle = bound(runtime, "/proc/bus", "bind", "idmap", uidMappings=maps(0, 1), gidMappings=maps(0, 1))
    runtime.run(bundle).fails("mounts[5]", "bind on /area", "file system proc", "overlay")


#: Binds argv[1] on itself, mapped as argv[2] is by the namespace of a sleeping process, and executes the rest.
MAPPED = """
import os, subprocess, sys
from struct import pack
from pyrunc.kernel.native import syscall
holder = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; exec sleep 9"], stdout=subprocess.PIPE)
holder.stdout.readline()
for name in ("uid_map", "gid_map"):
    open(f"/proc/{holder.pid}/{name}", "w").write("0 1000 1")
space = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
source = os.fsencode(sys.argv[1])
tree = syscall("open_tree", -100, source, 1)
syscall("mount_setattr", tree, b"", 0x1000, pack("<QQQQ", 0x100000, 0, 0, space), 32)
syscall("move_mount", tree, b"", -100, source, 4)
holder.kill()
holder.wait()
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_an_idmapped_source_is_not_mapped_again(runtime: Runtime, folder: Path) -> None:
    source = source_of(folder)
    twin = runtime.like()
    twin.env["PYTHONPATH"] = str(REPOSITORY)
    private = ["unshare", "--mount", "--propagation", "private"]
    twin.prefix = [*private, sys.executable, "-c", MAPPED, str(source)]
    bundle = bound(runtime, source, "bind")
    assert twin.run(bundle.ask("stat /area/file")).ok().testimony["stat /area/file"]["uid"] == 1000
    bundle = bound(runtime, source, "bind", "idmap", uidMappings=maps(0, 2), gidMappings=maps(0, 2))
    twin.run(bundle).fails("operation not permitted", "id-mapped already")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("idmap=uids=0-1000-1;gids=0-2000-1", (1000, 2000)),
        ("ridmap=uids=5-9-1#0-1000-1;gids=0-2000-10", (1000, 2000)),
    ],
)
def test_the_form_of_crun(runtime: Runtime, folder: Path, form: str, expected: tuple[int, int]) -> None:
    assert owner(runtime, bound(runtime, source_of(folder), "bind", form)) == expected


def test_the_form_of_crun_counted_as_the_container_does(runtime: Runtime, folder: Path) -> None:
    bundle = bound(runtime, source_of(folder), "bind", "idmap=uids=@0-7-1;gids=@0-8-1")
    bundle.map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    assert owner(runtime, bundle) == (7, 8)


def test_many_share_one_user_namespace(runtime: Runtime, folder: Path) -> None:
    """More than descriptors could be handed to init."""
    bundle = runtime.bundle()
    source = source_of(folder)
    for number in range(300):
        bundle.bind(str(source), f"/area/{number}", "bind", "idmap")
        bundle.config["mounts"][-1].update(uidMappings=maps(0, 1000), gidMappings=maps(0, 1000))
    assert owner(runtime, bundle, "/area/299/file") == (1000, 1000)


def test_not_without_root(runtime: Runtime, folder: Path) -> None:
    bundle = (
        runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID).bind(str(folder), "/area", "bind", "idmap")
    )
    runtime.as_user(UID, GID).run(bundle).fails("mounts[5].options", "host's root only")
