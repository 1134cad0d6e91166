"""Type=notify-reload (systemd.service(5)): what systemd does and hears at `systemctl reload`, without systemd."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.support.runtime import Runtime
from tests.support.service_manager import ServiceManager

#: A service that reloads at SIGHUP. /proc/uptime counts hundredths of a second, of CLOCK_BOOTTIME: where the host has
#: never slept, the same as CLOCK_MONOTONIC.
SERVICE = """
reload() {
    read up rest </proc/uptime
    testify notify "RELOADING=1|MONOTONIC_USEC=${up%.*}${up#*.}0000" -- notify "READY=1|STATUS=reloaded"
}
trap reload HUP
testify notify READY=1
while :; do sleep 0.2; done
"""


def test_reload(runtime: Runtime, folder: Path) -> None:
    """SIGHUP to the main process goes in, RELOADING=1 with a time after it and READY=1 come out, from that process."""
    bundle = runtime.bundle().shell(SERVICE)
    id = runtime.new_id()
    with ServiceManager(folder / "notify") as manager:
        running = runtime.spawn("run", "--bundle", runtime.put(bundle, id), id, env=manager.env)
        manager.hears("READY=1")
        begun = time.clock_gettime(time.CLOCK_BOOTTIME)
        running.process.send_signal(signal.SIGHUP)
        manager.hears("STATUS=reloaded", 30)
        heard, main = manager.heard, running.process.pid
        runtime.verb("delete", "--force", id).ok()
        running.wait()
    reloading, reloaded = (text.splitlines() for _, text, _ in heard[-2:])
    assert reloading[0] == "RELOADING=1" and len(reloading) == 2
    name, value = reloading[1].split("=")
    assert name == "MONOTONIC_USEC"
    assert begun - 0.01 <= int(value) / 1e6 <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert reloaded == ["READY=1", "STATUS=reloaded", f"MAINPID={main}"]
    assert {sender for sender, _, _ in heard} == {main}
