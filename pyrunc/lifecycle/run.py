"""run: create and start in one go, and stay with the container unless it is detached."""

from __future__ import annotations

import os

from pyrunc.lifecycle.create import build
from pyrunc.lifecycle.delete import destroy
from pyrunc.lifecycle.failure import word
from pyrunc.lifecycle.foreground import adopt_size, attend, block_signals
from pyrunc.lifecycle.hand_over import hand_over
from pyrunc.lifecycle.interrupt import Interruptible
from pyrunc.lifecycle.start import await_exec, open_root, run_poststart
from pyrunc.lifecycle.undo import Undo
from pyrunc.spawn.conversation import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from pyrunc.lifecycle.container import Container
    from pyrunc.lifecycle.notify import Proxy
    from pyrunc.lifecycle.request import Request

#: The status of a process that SIGKILL ended.
_KILLED: Final = 128 + 9


def run(request: Request) -> int:
    """Carry out `pyrunc run`; the exit status: 0 when detached, else that of the container's process."""
    foreground = not request.detach
    if foreground and not request.no_subreaper:
        from pyrunc.kernel.attributes import become_subreaper

        # What the container's process leaves behind comes here instead of to a distant ancestor.
        become_subreaper()
    proxy = None
    with Undo(request.log) as undo:
        with Interruptible():
            container = build(request, undo, foreground=foreground, socket=False)
            init, talk = container.init, container.talk
            assert init is not None and talk is not None
            hand_over(request, container)
        signals = block_signals() if foreground else -1
        if foreground and container.master >= 0:
            adopt_size(container.master)
        if container.prepared.notified:
            from pyrunc.lifecycle.notify import open_proxy

            proxy = open_proxy(container.directory, container.record, request.log, foreground=foreground)
        _start(container)
        run_poststart(container.record, init.pidfd)
        undo.keep()
    container.directory.unlock()
    if not foreground:
        if proxy is not None:
            proxy.until_ready(init.pidfd)
        return 0
    return stay(request, container, signals, proxy)


def stay(request: Request, container: Container, signals: int, proxy: Proxy | None) -> int:
    """Attend the running container to its end, and delete it then unless it is to be kept; its exit status.

    `signals`: of `block_signals`.
    """
    init = container.init
    assert init is not None
    status = attend(init.pid, init.pidfd, signals, container.master, proxy)
    if status == _KILLED and container.record.memory_limit and container.prepared.manager.oom_kills() > 0:
        request.log.warning(
            "container init was killed, possibly OOM-killed (memory limit too low?): raise linux.resources.memory.limit"
        )
    if not request.keep:
        _remove(request, container)
    return status


def _start(container: Container) -> None:
    """Give the last word and wait until the program runs."""
    init, talk = container.init, container.talk
    assert init is not None and talk is not None
    root = open_root(init.pid)
    try:
        talk.go()
        await_exec(talk, container.record, init.pidfd, lambda: container.prepared.config)
    except StepFailed as error:
        raise word(error, container.prepared.config, root) from error
    finally:
        if root >= 0:
            os.close(root)


def _remove(request: Request, container: Container) -> None:
    """Delete the stopped container, unless somebody has done so by now."""
    from pyrunc.errors import NotFound

    try:
        with container.directory.lock():
            destroy(request.store, container.directory, container.record, request.log)
    except NotFound:
        pass
