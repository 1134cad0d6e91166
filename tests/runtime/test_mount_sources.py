"""Sources that only the host's root reaches, for containers whose root is somebody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.private_files import with_account
from tests.support.runtime import Runtime

UID = GID = 1000


@pytest.fixture
def closed(folder: Path) -> Path:
    """A file and a directory below one that nobody but root may enter."""
    place = folder / "closed"
    (place / "dir").mkdir(parents=True)
    (place / "file").write_text("reached")
    place.chmod(0o700)
    return place


@pytest.mark.parametrize("joins", [False, True], ids=["new", "joined"])
def test_any_number_of_them_in_a_user_namespace(runtime: Runtime, closed: Path, joins: bool) -> None:
    """More than the limit of open files allows at once; what init had is what the container gets."""
    bundle = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000)
    for number in range(1500):
        bundle.bind(closed / "file", f"/area/{number}", "rbind", "ro")
    bundle.bind(closed / "dir", "/area/dir")
    bundle.process["rlimits"] = []
    bundle.ask("read /area/0", "read /area/1499", "stat /area/dir", "rlimits")
    few = {"preexec_fn": lambda: __import__("resource").setrlimit(7, (1024, 4096))}
    if not joins:
        said = runtime.run(bundle, **few).ok().testimony
    else:
        first = runtime.bundle().map_ids(host=300000, size=1000).give_rootfs(300000, 300000).sleeper()
        with runtime.running(first) as container:
            container.says("ready")
            bundle.namespace("user", f"/proc/{container.pid}/ns/user")
            said = runtime.run(bundle, **few).ok().testimony
    assert said["read /area/0"] == said["read /area/1499"] == "reached"
    assert said["rlimits"]["RLIMIT_NOFILE"] == [1024, 4096]


def test_without_root_where_the_callers_id_is_not_the_containers_root(runtime: Runtime, folder: Path) -> None:
    """Init becomes a subordinate id, to which the caller's own folder is closed."""
    user = runtime.as_user(UID, GID, *with_account(folder, UID, GID, 600000))
    closed = Path(str(user.cwd)) / "closed"
    closed.mkdir()
    (closed / "file").write_text("reached")
    (closed / "file").chmod(0o644)
    closed.chmod(0o700)
    for path in (closed, closed / "file"):
        os.chown(path, UID, GID)
    bundle = runtime.bundle().rootless(UID, GID).give_rootfs(600000, 600000)
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = [
        {"containerID": 0, "hostID": 600000, "size": 1000},
        {"containerID": 1000, "hostID": UID, "size": 1},
    ]
    bundle.bind(closed / "file", "/area/file")
    assert user.run(bundle.ask("read /area/file")).ok().testimony["read /area/file"] == "reached"
