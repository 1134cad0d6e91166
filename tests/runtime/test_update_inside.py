"""`update`: limits bite the processes that are in the container already."""

from __future__ import annotations

from tests.support.limits import SWAP, M, limited, only_v2
from tests.support.runtime import Runtime, wait_for
from tests.support.updating import answers, update, waiting, with_json


def test_tasks_and_processors_inside(runtime: Runtime) -> None:
    with runtime.running(waiting(runtime.bundle(), "forks 20", "affinity")) as container:
        container.says("first")
        update(container, "--pids-limit", "10", "--cpuset-cpus", "1").ok()
        made, everywhere, refused, confined = answers(container)
        assert made["made"] == 20
        assert len(everywhere) > 1
        assert refused == {"made": 8, "errno": "EAGAIN"}  # besides the shell and testify itself
        assert confined == [1]


def test_a_quota_inside(runtime: Runtime) -> None:
    with runtime.running(waiting(runtime.bundle(), "spin 1")) as container:
        container.says("first")
        update(container, "--cpu-quota", "5000", "--cpu-period", "50000").ok()
        free, limited_ = answers(container)
        assert limited_ < 0.2 < free


def test_memory_inside(runtime: Runtime) -> None:
    """First more than there was, then less than there is."""
    bundle = limited(runtime, memory={"limit": 32 * M})
    bundle.shell(
        "until [ -e /go ]; do sleep 0.1; done; testify eat 100; echo $? first; testify eat 200; echo $? second; "
        "sleep 1000"
    )
    with runtime.running(bundle) as container:
        update(container, "--memory", "160m", *(["--memory-swap", "160m"] if SWAP else [])).ok()
        (container.bundle.rootfs / "go").touch()
        container.says("second")
        assert "0 first" in container.out
        assert "137 second" in container.out


@only_v2
def test_memory_high_inside(runtime: Runtime) -> None:
    """Slowed down, not killed."""
    bundle = runtime.bundle().shell("until [ -e /go ]; do sleep 0.1; done; testify eat 200")
    with runtime.running(bundle) as container:
        with_json(container, {"unified": {"memory.high": str(8 * M)}}).ok()
        (bundle.rootfs / "go").touch()
        events = container.cgroup() / "memory.events"
        wait_for(lambda: "\nhigh 0\n" not in events.read_text(), say="slowing down")
        assert container.status == "running"
