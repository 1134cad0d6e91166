"""The devices of a container on cgroup v1: a list in the devices hierarchy, or a program in that of cgroup v2."""

from __future__ import annotations

from pyrunc.errors import KernelError, PyruncError
from pyrunc.linux.cgroups.devices import allowlist_v1
from pyrunc.linux.cgroups.devices.rules import allows_everything, rules, table
from pyrunc.linux.cgroups.files import DENIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.linux.cgroups.devices.allowlist_v1 import Writes
    from pyrunc.linux.cgroups.former import Push
    from pyrunc.linux.cgroups.resources import Resources
    from pyrunc.linux.cgroups.v1.manager import Home, Manager


def allow(manager: Manager, resources: Resources, ours: bool = False, push: Push | None = None) -> None:
    """Let the container use what `linux.resources.devices` and the default rules allow. Raises PyruncError.

    `ours`: of the unified hierarchy's programs only pyrunc's are replaced. `push`: as of `Manager.while_frozen`.
    """
    try:
        _set(manager, resources.get("devices") or (), ours, push)
    except KernelError as error:
        # In a user namespace the kernel refuses device rules, and there is no access to devices beyond the user's own.
        if not (manager.rootless and error.number in DENIED):
            raise


def _set(manager: Manager, devices: Sequence[Resources], ours: bool, push: Push | None) -> None:
    normal = table(rules(devices))
    if home := _home(manager, "devices"):
        current = None if home.fresh else allowlist_v1.current_list(home.path)
        _carry_out(manager, home, allowlist_v1.writes(normal, current), push)
    elif home := _home(manager, ""):
        from pyrunc.linux.cgroups.devices import program_v2

        program_v2.apply(home.path, devices, home.fresh, manager.rootless, ours)
    # Rootless, the hierarchy may belong to somebody else (`create` left it out).
    elif not manager.rootless and not allows_everything(normal):
        raise PyruncError(
            'linux.resources.devices: the cgroup controller "devices" is not available on this host',
            remedy="mount it, or allow every device",
            code="unsupported",
        )


def way_back(manager: Manager, before: Resources) -> Callable[[], None]:
    """What puts back the present list, which may have more than the rules of `before` say: others write to it, too.

    Where the kernel does not tell all of it, those rules.
    """
    home = _home(manager, "devices")
    listed = allowlist_v1.current_list(home.path) if home else ""

    def put_back() -> None:
        planned = allowlist_v1.back(listed, allowlist_v1.current_list(home.path)) if home else None
        if home and planned is not None:
            _carry_out(manager, home, planned)
        else:
            allow(manager, before, ours=True)

    return put_back


def _home(manager: Manager, controller: str) -> Home | None:
    return next((home for home in manager.homes if controller in home.controllers), None)


def _carry_out(manager: Manager, home: Home, planned: Writes, push: Push | None = None) -> None:
    if home.fresh or not allowlist_v1.starts_anew(planned):
        allowlist_v1.carry_out(home.path, planned)
    else:
        # For an instant everything is allowed here, or nothing: no process of the container may run in it.
        manager.while_frozen(lambda: allowlist_v1.carry_out(home.path, planned), push)
