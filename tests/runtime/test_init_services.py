"""`--init` below a service manager: sockets that it passes, and the pid that it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_descriptors import activated, given, listening
from tests.runtime.test_sd_notify import manager
from tests.support.runtime import Runtime
from tests.support.service_manager import ServiceManager

__all__ = ["manager"]  # a fixture


@pytest.mark.parametrize("private", [True, False], ids=["own-pid-namespace", "hosts-pid-namespace"])
@pytest.mark.parametrize("detached", [True, False])
def test_socket_activation(runtime: Runtime, folder: Path, private: bool, detached: bool) -> None:
    """LISTEN_PID is the pid of the program, which need not be 2: hooks have had one before."""
    twin = activated(runtime, 1, "LISTEN_FDNAMES=web")
    bundle = twin.bundle().ask("pid", "env", "readfd 3", "nap 0.1")
    bundle.hook("startContainer", "true; exit 0")
    if not private:
        bundle.without_namespace("pid")
    how: dict[str, Any] = {"preexec_fn": given(folder, "three"), "close_fds": False}
    if detached:
        container = twin.container(bundle)
        container.create("--init", **how).ok()
        runtime.verb("start", container.id).ok()
        container.stops()
        said = container.testimony
    else:
        said = twin.run(bundle, "--init", **how).ok().testimony
    assert said["pid"] != 1 and said["readfd 3"] == "three"
    assert not private or said["pid"] > 2
    assert listening(said["env"]) == {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(said["pid"]),
        "LISTEN_FDNAMES": "web",
    }


def test_main_pid(runtime: Runtime, manager: ServiceManager) -> None:
    """The service manager is told of init: with that the container ends."""
    bundle = runtime.bundle().ask("notify READY=1", "sleep")
    container = runtime.container(bundle)
    words = ["run", "--init", "--detach", "--bundle", runtime.put(bundle, container.id), container.id]
    running = runtime.spawn(*words, env=manager.env)
    manager.hears("READY=1")
    manager.hear(5)
    running.wait().ok()
    assert manager.texts == [f"READY=1\nMAINPID={container.pid}"]
    container.kill("KILL").ok()
