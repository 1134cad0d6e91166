"""exec into a container with linux.intelRdt: the process is in its resctrl group before it can clone another."""

from __future__ import annotations

from tests.runtime.test_intel_rdt import MB, bundle_with, given, resctrl
from tests.support.resctrl import Resctrl
from tests.support.runtime import Runtime

__all__ = ["resctrl"]


def test_the_group_is_the_containers(runtime: Runtime, resctrl: Resctrl) -> None:
    caller = given(runtime, resctrl)
    container = caller.container(bundle_with(runtime, memBwSchema=MB, enableMonitoring=True))
    container.create().ok()
    container.start().ok()
    container.says("ready")
    before = set(resctrl.tasks)
    container.asks("pid")
    (first,) = set(resctrl.tasks) - before
    assert resctrl.tasks[first] == resctrl.tasks[container.pid]
