"""What the runtime does for init while that makes the container, in the order of their conversation."""

from __future__ import annotations

import os

from pyrunc.config import CREATE_RUNTIME, PRESTART
from pyrunc.config.annotations import hook_files
from pyrunc.kernel.procfs import own_pid
from pyrunc.lifecycle.home import home_of
from pyrunc.lifecycle.status import CREATING, state_document
from pyrunc.linux import hooks
from pyrunc.linux.limits import apply_oom_score_adj, apply_rlimits
from pyrunc.linux.seccomp import notifies
from pyrunc.plan.talk import HOME, HOOKS, PID, PRIORITIES, READY, SAY_CONSOLE, SAY_LISTENER, SAY_REACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.lifecycle.container import Container
    from pyrunc.lifecycle.undo import Undo


def converse(container: Container, undo: Undo) -> None:
    """Lead init from its namespaces to where it is ready (the drawing is in pyrunc.plan.talk)."""
    prepared, talk, init = container.prepared, container.talk, container.init
    assert talk is not None and init is not None
    config = prepared.config
    given = prepared.program.given
    if given and given[0][0] != SAY_CONSOLE:
        from pyrunc.lifecycle import mounts

        mounts.serve(prepared.program, config, prepared.bundle, talk, prepared.manager, init.pid)
    if config["process"].get("terminal", False):
        container.master = talk.expect(SAY_CONSOLE).descriptor
    talk.expect(SAY_REACHED, HOOKS)
    if container.open_files:
        from pyrunc.lifecycle.mounts import take_back

        take_back(init.pid, container.open_files)
    # From outside, while init still is root: raising limits takes privileges that it gives up next.
    apply_rlimits(config, init.pid)
    apply_oom_score_adj(config, init.pid)
    if config.get("linux", {}).get("netDevices"):
        from pyrunc.linux.net_devices.move import move

        move(config, init.pid, undo.push)  # before the hooks, which may configure them
    listed = config.get("hooks") or {}
    if listed:
        container.hooks_reached = True
        state = state_document(container.record, CREATING).encode()
        files = hook_files(config.get("annotations"), prepared.bundle)
        hooks.run_hooks(PRESTART, listed.get(PRESTART) or (), state, prepared.bundle, files)
        hooks.run_hooks(CREATE_RUNTIME, listed.get(CREATE_RUNTIME) or (), state, prepared.bundle, files)
    talk.go()
    if prepared.choices.asks_pid:
        talk.expect(SAY_REACHED, PID)
        talk.go(b"%d" % own_pid(init.pid))
    if prepared.choices.asks_home:
        talk.expect(SAY_REACHED, HOME)
        talk.go(os.fsencode(home_of(init.pid, config)))
    if prepared.choices.asks_priorities:
        from pyrunc.lifecycle.priorities import apply_priorities

        talk.expect(SAY_REACHED, PRIORITIES)
        apply_priorities(config["process"], init.pid, prepared.host.cgroups)
        talk.go()
    profile = config.get("linux", {}).get("seccomp")
    if profile and notifies(profile) and not config["process"].get("noNewPrivileges"):
        from pyrunc.lifecycle.seccomp_agent import hand_over as hand_over_listener

        listener = talk.expect(SAY_LISTENER)
        hand_over_listener(listener, init.pidfd, profile, container.record, CREATING)
        talk.go()
    talk.expect(SAY_REACHED, READY)
