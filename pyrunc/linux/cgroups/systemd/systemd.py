"""systemd's manager on D-Bus: making a transient unit, stopping it (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import os
import time

from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups.systemd.bus import PATIENCE, Bus, Refused, address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

    from pyrunc.linux.cgroups.systemd.properties import Properties

_NAME: Final = "org.freedesktop.systemd1"
_PATH: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_MATCH: Final = f"type='signal',sender='{_NAME}',path='{_PATH}',interface='{_MANAGER}',member='JobRemoved'"

EXISTS: Final = "org.freedesktop.systemd1.UnitExists"
_MISSING: Final = "org.freedesktop.systemd1.NoSuchUnit"
#: systemd's own socket: no message bus, and so no daemon to ask, in between. Root's only.
_PRIVATE: Final = "/run/systemd/private"
_SYSTEM_BUS: Final = "/run/dbus/system_bus_socket"
#: Only systemd makes this directory (sd_booted(3)).
_BOOTED: Final = "/run/systemd/system"


def is_own(uid: int) -> bool:
    """Whether this host's systemd belongs to `uid` as this process sees it.

    Root of a user namespace that somebody made on a host of others sees the owner as nobody. Where the whole
    system runs in the namespace, its systemd belongs to the root of that.
    """
    try:
        return os.stat(_BOOTED).st_uid == uid
    except OSError:
        return False


class Systemd:
    """The systemd of the host, or with `rootless` the caller's own, connected to when it is first needed.

    Every method raises PyruncError.
    """

    def __init__(self, rootless: bool, address: str = "") -> None:
        self.rootless = rootless
        #: D-Bus address, empty until it is known.
        self.address = address
        self._bus: Bus | None = None

    def close(self) -> None:
        """End the connection."""
        if self._bus:
            self._bus.close()
        self._bus = None

    # -- connection ------------------------------------------------------------------------------------

    def _connected(self) -> Bus:
        if self._bus:
            return self._bus
        if not self.address:
            self.address = _user_address() if self.rootless else _system_address()
        daemon = self.address != address_of(_PRIVATE)
        bus = None
        try:
            bus = Bus(self.address, daemon=daemon)
            if daemon:
                # systemd tells a client on the bus of its jobs only if asked to; on its own socket it tells everyone.
                bus.call(
                    "org.freedesktop.DBus",
                    "/org/freedesktop/DBus",
                    "org.freedesktop.DBus",
                    "AddMatch",
                    "s",
                    _MATCH,
                )
                bus.call(_NAME, _PATH, _MANAGER, "Subscribe")
        except PyruncError as error:
            if bus:
                bus.close()
            if error.remedy:
                raise  # of libsystemd, which is missing
            raise self._unreachable(error) from error
        self._bus = bus
        return bus

    def _unreachable(self, error: PyruncError) -> PyruncError:
        remedy = "check that systemd and its D-Bus run"
        if self.rootless:
            remedy = "check `systemctl --user status`; log in through PAM, or run `loginctl enable-linger USER` as root"
        return PyruncError(f"reach systemd: {error.message}", remedy=remedy, code="systemd")

    def _call(self, member: str, signature: str = "", *values: Any) -> list[Any]:
        return self._connected().call(_NAME, _PATH, _MANAGER, member, signature, *values)

    # -- facts -----------------------------------------------------------------------------------------

    def _get(self, path: str, interface: str, name: str) -> Any:
        bus = self._connected()
        return bus.call(_NAME, path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, name)[0]

    def _fact(self, name: str) -> str:
        return str(self._get(_PATH, _MANAGER, name))

    def version(self) -> int:
        """Such as 257."""
        digits = ""
        for letter in self._fact("Version").removeprefix("v"):
            if not letter.isdecimal():
                break
            digits += letter
        return int(digits or 0)

    def control_group(self) -> str:
        """The cgroup that holds all of this systemd's slices: "" for the host's own, usually."""
        return self._fact("ControlGroup").rstrip("/")

    # -- units -----------------------------------------------------------------------------------------

    def start(self, unit: str, properties: Properties) -> str:
        """Have the transient `unit` made; the job that does it. Raises Refused, PyruncError."""
        pairs = [(name, value) for name, value in properties.items()]
        return str(self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", pairs, [])[0])

    def started(self, unit: str, job: str) -> None:
        """Wait until `job` has made `unit`. Raises PyruncError."""
        result = self._finished(job, f"start of {unit}")
        if result != "done":
            raise PyruncError(
                f"systemd did not start {unit}: {result}",
                remedy=f"`journalctl -u {unit}` may say why",
                code="systemd",
            )

    def properties(self, unit: str, names: Iterable[str]) -> dict[str, Any]:
        """What properties `names` of `unit`, a scope or a slice, are now."""
        interface = f"{_NAME}.{'Slice' if unit.endswith('.slice') else 'Scope'}"
        try:
            path = str(self._call("GetUnit", "s", unit)[0])
            return {name: self._get(path, interface, name) for name in names}
        except Refused as error:
            raise self._failed("read properties of", unit, error) from error

    def cgroup_of(self, unit: str) -> str:
        """The path of the cgroup of `unit`, a scope or a slice, in the hierarchy; "" where it has none."""
        kind = {"scope": "Scope", "slice": "Slice"}.get(unit.rpartition(".")[2])
        if not kind:
            return ""
        try:
            path = str(self._call("GetUnit", "s", unit)[0])
            return str(self._get(path, f"{_NAME}.{kind}", "ControlGroup"))
        except Refused as error:
            if error.name != _MISSING:
                raise self._failed("find the cgroup of", unit, error) from error
            return ""

    def change(self, unit: str, pairs: Sequence[tuple[str, tuple[str, Any]]]) -> None:
        """Set properties of `unit`, one after the other; all or none. They last as long as the unit does."""
        try:
            # True: at run time only. systemd keeps them where it keeps the unit, so a reload reads them, too.
            self._call("SetUnitProperties", "sba(sv)", unit, True, pairs)
        except Refused as error:
            raise self._failed("change", unit, error) from error

    def stop(self, unit: str) -> None:
        """Stop `unit`, wait until it has gone, and forget that it failed. One that is not there is fine."""
        try:
            job = self._call("StopUnit", "ss", unit, "replace")[0]
            self._finished(job, f"stop of {unit}")
        except Refused as error:
            if error.name != _MISSING:
                raise self._failed("stop", unit, error) from error
        self.reset(unit)

    def reset(self, unit: str) -> None:
        """Have systemd forget that `unit` failed."""
        try:
            self._call("ResetFailedUnit", "s", unit)
        except Refused as error:
            if error.name != _MISSING:
                raise self._failed("reset", unit, error) from error

    def attach(self, unit: str, pid: int, below: str = "") -> None:
        """Move process `pid` into `unit`, also where the caller may not write to the cgroups in between.

        `below`: into this cgroup inside, relative to that of the unit.
        """
        try:
            self._call("AttachProcessesToUnit", "ssau", unit, f"/{below}" if below else "", [pid])
        except Refused as error:
            where = f"the cgroup {below} of" if below else ""
            raise self._failed(f"move a process into {where}".rstrip(), unit, error) from error

    def _failed(self, what: str, unit: str, error: Refused) -> PyruncError:
        return PyruncError(f"{what} systemd unit {unit}: {error.text}", code="systemd")

    def _finished(self, job: str, what: str) -> str:
        """Wait for the end of `job` and return its result."""
        bus = self._connected()
        until = time.monotonic() + PATIENCE
        while True:
            for signal in bus.signals:
                # id, job, unit, result
                if signal.member == "JobRemoved" and signal.values[1] == job:
                    bus.signals.clear()
                    return str(signal.values[3])
            bus.signals.clear()
            bus.wait_signal(until, f"the {what}")


def _system_address() -> str:
    for path in (_PRIVATE, _SYSTEM_BUS):
        if os.access(path, os.W_OK):
            return address_of(path)
    raise PyruncError(
        "the systemd cgroup manager was asked for, but this host is not run by systemd",
        remedy="use --cgroup-manager cgroupfs",
        code="systemd",
    )


def _user_address() -> str:
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    directory = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if os.path.exists(path := f"{directory}/bus"):
        return address_of(path)
    raise PyruncError(
        f"no D-Bus of a user's systemd: DBUS_SESSION_BUS_ADDRESS is not set, and there is no {path}",
        remedy="log in through PAM with systemd, or use --cgroup-manager cgroupfs",
        code="systemd",
    )
