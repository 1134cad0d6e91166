"""User namespaces: id mappings written as root, and containers of ordinary users (rootless)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.private_files import with_account
from tests.support.runtime import Runtime

pytestmark = pytest.mark.needs_root

UID = GID = 1000


def test_mapping(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    bundle.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
    said = runtime.ask(bundle, "ids", "read /proc/self/uid_map", "read /proc/self/gid_map", "stat /bin")
    assert said["ids"]["uid"] == [5] * 3 and said["ids"]["gid"] == [6] * 3 and 7 in said["ids"]["groups"]
    assert said["read /proc/self/uid_map"].split() == ["0", "300000", "1000"]
    assert said["read /proc/self/gid_map"].split() == ["0", "300000", "1000"]
    assert (said["stat /bin"]["uid"], said["stat /bin"]["gid"]) == (0, 0)


def test_host_sees_mapped_ids(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids(host=300000, size=1000).sleeper()
    bundle.process["user"] = {"uid": 5, "gid": 6}
    with runtime.running(bundle) as container:
        container.says("ready")
        status = Path(f"/proc/{container.pid}/status").read_text()
        assert "Uid:\t300005\t300005\t300005\t300005" in status


def test_several_ranges(runtime: Runtime) -> None:
    bundle = runtime.bundle().namespace("user")
    ranges = [(0, 300000, 10), (10, 400000, 5), (1000, 500000, 1)]
    bundle.linux["uidMappings"] = [{"containerID": c, "hostID": h, "size": s} for c, h, s in ranges]
    bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 300000, "size": 10}]
    bundle.process["user"] = {"uid": 1000, "gid": 3}
    said = runtime.ask(bundle, "ids", "read /proc/self/uid_map")
    assert said["ids"]["uid"] == [1000] * 3
    assert [tuple(map(int, line.split())) for line in said["read /proc/self/uid_map"].splitlines()] == ranges


def test_capabilities_are_those_of_the_namespace(runtime: Runtime) -> None:
    """Full capabilities inside, none over the host."""
    bundle = runtime.bundle().map_ids()
    names = ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_NET_ADMIN"]
    bundle.process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    bundle.linux["readonlyPaths"] = []
    said = runtime.ask(
        bundle, "caps", "mknod /dev/node c 1 3", "write /proc/sys/vm/swappiness 1", "syscall sethostname 0 0"
    )
    assert said["caps"]["effective"] == [12, 21, 27]
    assert said["mknod /dev/node c 1 3"] == {"errno": "EPERM"}
    assert said["write /proc/sys/vm/swappiness 1"]["errno"] in ("EACCES", "EPERM")
    assert said["syscall sethostname 0 0"] == 0


def test_root_file_system_is_not_changed(runtime: Runtime) -> None:
    """Mappings are written, files are not given away."""
    bundle = runtime.bundle().map_ids()
    before = {p: (p.lstat().st_uid, p.lstat().st_mode) for p in bundle.rootfs.rglob("*")}
    runtime.ask(bundle, "pid")
    assert {p: (p.lstat().st_uid, p.lstat().st_mode) for p in before} == before


def test_readonly_root_and_paths_in_a_user_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle().map_ids()
    bundle.config["root"]["readonly"] = True
    bundle.linux["maskedPaths"] = ["/proc/interrupts", "/sys/firmware"]
    said = runtime.ask(bundle, "read /proc/interrupts", "write /x y", "write /proc/sys/kernel/ostype x")
    assert said["read /proc/interrupts"] == ""
    assert said["write /x y"] == {"errno": "EROFS"}
    assert said["write /proc/sys/kernel/ostype x"]["errno"] in ("EROFS", "EACCES")


def test_locked_flags_are_kept(runtime: Runtime, folder: Path) -> None:
    """A bind mount with `ro` of a nosuid,nodev,noexec source in a user namespace keeps what is locked."""
    twin = runtime.like()
    (folder / "locked").mkdir()
    mount = f'mount -t tmpfs -o nosuid,nodev,noexec tmpfs {folder}/locked; exec "$@"'
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]
    bundle = runtime.bundle().map_ids().bind(folder / "locked", "/area", "bind", "ro")
    said = twin.run(bundle.ask("mounts")).ok().testimony
    (line,) = [line for line in said["mounts"].splitlines() if line.split()[4] == "/area"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))


@pytest.mark.parametrize("user", [{"uid": 70000, "gid": 0}, {"uid": 0, "gid": 70000}])
def test_id_outside_the_mapping(runtime: Runtime, user: dict[str, int]) -> None:
    bundle = runtime.bundle().map_ids()
    bundle.process["user"] = user
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails("70000", "map")
    before.assert_unchanged()


# -- rootless --------------------------------------------------------------------------------------------


def rootless(runtime: Runtime) -> Runtime:
    """Called by an ordinary user that has no subordinate ids."""
    return runtime.as_user(UID, GID)


def test_rootless_run(runtime: Runtime) -> None:
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(UID, GID)
    before = runtime.footprint(bundle)
    user = rootless(runtime)
    said = user.run(
        bundle.ask(
            "pid", "ids", "namespaces", "write /area/x y", "stat /dev/null", "read /proc/self/setgroups"
        )
    )
    answers = said.ok().testimony
    assert answers["pid"] == 1 and answers["ids"]["uid"] == [0, 0, 0]
    assert answers["namespaces"]["user"] != os.readlink("/proc/self/ns/user")
    assert answers["write /area/x y"] == 1
    assert (bundle.rootfs / "area" / "x").stat().st_uid == UID
    assert answers["stat /dev/null"]["rdev"] == [1, 3]
    assert answers["read /proc/self/setgroups"].strip() == "deny"
    before.skip = (*before.skip, runtime.folder / f"user-{UID}")
    before.before["files"] = before.look()["files"]  # the user's own run-time directory may stay
    before.assert_unchanged()


def test_rootless_lifecycle(runtime: Runtime) -> None:
    user = rootless(runtime)
    bundle = runtime.bundle().rootless(UID, GID).sleeper()
    container = user.container(bundle)
    container.create().ok()
    assert container.status == "created"
    assert user.verb("list", "-q").ok().out.split() == [container.id]
    container.start().ok()
    container.says("ready")
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert f"Uid:\t{UID}\t" in status
    container.delete().fails("not stopped")
    container.kill("TERM").ok()
    container.stops()
    container.delete().ok()


def test_rootless_default_state_directory(runtime: Runtime) -> None:
    """Without --root the state is below XDG_RUNTIME_DIR."""
    user = rootless(runtime)
    id = runtime.new_id()
    place = user.put(runtime.bundle().rootless(UID, GID).sleeper(), id)
    words = user.words("create", "--bundle", place, id)
    at = words.index("--root")
    del words[at : at + 2]
    twin = user.like()
    twin.words = lambda *w: [*words[:at], *w]  # type: ignore[method-assign]
    twin.verb("create", "--bundle", place, id).ok()
    home = runtime.folder / f"user-{UID}"
    (made,) = home.glob(f"*/{id}")
    assert made.is_dir() and made.parent.stat().st_mode & 0o1777 == 0o1700
    twin.verb("delete", "--force", id).ok()
    assert not made.exists()


def test_rootless_needs_a_user_namespace(runtime: Runtime) -> None:
    user = rootless(runtime)
    runtime.bundle()
    user.run(runtime.bundle()).fails("user namespace")


@pytest.mark.cgroupfs
def test_rootless_cannot_have_limits_without_a_cgroup(runtime: Runtime) -> None:
    if os.path.isfile("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("this host has cgroup v2, which may delegate to ordinary users")
    bundle = runtime.bundle().rootless(UID, GID)
    bundle.linux["resources"] = {"memory": {"limit": 64 << 20}}
    rootless(runtime).run(bundle).fails("cgroup")


def test_rootless_mapping_of_a_foreign_id(runtime: Runtime) -> None:
    """Ids that are neither one's own nor subordinate are refused by newuidmap."""
    bundle = runtime.bundle().rootless(UID, GID)
    bundle.linux["uidMappings"].append({"containerID": 1, "hostID": 3333333, "size": 10})
    bundle.linux["gidMappings"].append({"containerID": 1, "hostID": 3333333, "size": 10})
    rootless(runtime).run(bundle).fails("newuidmap")


def test_rootless_with_subordinate_ids(runtime: Runtime, folder: Path) -> None:
    """newuidmap and newgidmap, with a private /etc/subuid and /etc/subgid, and a user who has a name."""
    user = runtime.as_user(UID, GID, *with_account(folder, UID, GID, 600000))
    bundle = runtime.bundle().rootless(UID, GID)
    bundle.linux["uidMappings"].append({"containerID": 1, "hostID": 600000, "size": 1000})
    bundle.linux["gidMappings"].append({"containerID": 1, "hostID": 600000, "size": 1000})
    bundle.process["user"] = {"uid": 33, "gid": 34, "additionalGids": [35]}
    own = user.folder / "bin"
    own.mkdir()
    seen = Path(str(user.cwd)) / "seen"
    for name in ("newuidmap", "newgidmap"):
        (own / name).write_text(
            f'#!/bin/sh\nfor f in /proc/$$/fd/*; do readlink $f; done >> {seen}\nexec /usr/bin/{name} "$@"\n'
        )
        (own / name).chmod(0o755)
    path = f"{own}:{user.env['PATH']}"

    def arrange() -> None:
        os.dup2(os.open(folder / "subids", os.O_RDONLY), 7)

    asked = bundle.ask("ids", "read /proc/self/uid_map")
    said = user.run(asked, env={"PATH": path}, preexec_fn=arrange, close_fds=False).ok().testimony
    assert "pipe:" in seen.read_text() and "subids" not in seen.read_text()
    assert said["ids"]["uid"] == [33] * 3 and 35 in said["ids"]["groups"]
    assert said["read /proc/self/uid_map"].split() == ["0", "1000", "1", "1", "600000", "1000"]


@pytest.mark.parametrize("keep", [True, False])
def test_original_groups(runtime: Runtime, keep: bool) -> None:
    """crun's annotation: the caller's groups stay, though they are not mapped (podman's `--group-add keep-groups`)."""
    bundle = runtime.bundle().map_ids()
    if keep:
        bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    outcome = runtime.run(bundle.ask("ids"), preexec_fn=lambda: os.setgroups([4242]))
    assert outcome.ok().testimony["ids"]["groups"] == ([65534] if keep else [])


def test_rootless_terminal(runtime: Runtime) -> None:
    from tests.support.terminal import ConsoleSocket

    user = rootless(runtime)
    bundle = runtime.bundle().rootless(UID, GID).ask("tty")
    bundle.mount_of("/dev/pts")["options"] = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    bundle.process["terminal"] = True
    container = user.container(bundle)
    with ConsoleSocket(runtime.folder / "console.sock") as socket:
        os.chmod(socket.path, 0o777)
        container.create("--console-socket", str(socket.path)).ok()
        master = socket.receive()
        container.start().ok()
        container.stops()
        assert master.answers()["tty"]["isatty"] == [True, True, True]


def test_fake_root_is_rootless(runtime: Runtime) -> None:
    """Root inside a user namespace (podman unshare, buildah) is no root: it must still work."""
    user = runtime.as_user(UID, GID)
    user.prefix += ["unshare", "--user", "--map-root-user", "--mount", "--"]
    bundle = runtime.bundle().rootless(0, 0)
    assert user.run(bundle.ask("ids")).ok().testimony["ids"]["uid"] == [0, 0, 0]
