"""cgroup.kill: newer kernels kill what clone3 puts into a cgroup that was not killed as often as its caller's own.

So they do (seen on 6.12.107 and 6.18) before its first instruction; such a process enters by its own write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.linux.cgroups.layout import layout
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.cgroupfs]


@pytest.fixture
def killed(runtime: Runtime) -> Iterator[Path]:
    """A cgroup that was once killed as a whole."""
    v2 = layout().v2
    if v2 is None or not Path(v2.mount, "cgroup.controllers").exists():
        pytest.skip("this host has no cgroup v2")
    path = Path(v2.mount, f"{runtime.tag}-killed")
    path.mkdir()
    (path / "cgroup.kill").write_text("1")
    yield path
    if path.exists():
        path.rmdir()


def test_create_and_exec_in_it(runtime: Runtime, killed: Path) -> None:
    bundle = runtime.bundle().sleeper()
    bundle.linux["cgroupsPath"] = f"/{killed.name}"
    with runtime.running(bundle) as container:
        container.says("ready")
        assert container.pid in map(int, (killed / "cgroup.procs").read_text().split())
        own = Path(f"/proc/{container.pid}/cgroup").read_text()
        assert container.asks("read /proc/self/cgroup")["read /proc/self/cgroup"]
        container.exec(["sleep", "1000"], "-d", "--pid-file", str(runtime.folder / "pid")).ok()
        joined = int((runtime.folder / "pid").read_text())
        assert Path(f"/proc/{joined}/cgroup").read_text() == own


@pytest.mark.parametrize("time_namespace", [False, True])
def test_the_runtime_in_it(runtime: Runtime, killed: Path, time_namespace: bool) -> None:
    """Then every other cgroup is one that clone3 kills in."""
    runtime.prefix = ["sh", "-c", f'echo $$ >{killed}/cgroup.procs && exec "$@"', "sh"]
    bundle = runtime.bundle()
    if time_namespace:  # in which the child shares no memory with the runtime
        bundle.namespace("time")
    with runtime.running(bundle.sleeper()) as container:
        container.says("ready")
        assert container.asks("pid")["pid"] > 1
        assert killed.name not in Path(f"/proc/{container.pid}/cgroup").read_text()
