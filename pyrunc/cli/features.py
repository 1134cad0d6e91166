"""features: what this pyrunc supports (runtime-spec features.md), taken from the tables that carry it out.

Fixed by the build, never probed: what a host lacks is found when a container needs it. A property that this
version refuses is not announced.
"""

from __future__ import annotations

from pyrunc import SPEC_VERSION, __version__
from pyrunc.cli.help import build_facts
from pyrunc.cli.verbs import FAMILIES
from pyrunc.config import HOOKS
from pyrunc.config.annotations import MEANINGS
from pyrunc.config.writer import dumps
from pyrunc.linux import intel_rdt, memory_policy
from pyrunc.linux.capabilities import NAMES
from pyrunc.linux.cgroups import resources
from pyrunc.linux.cgroups.manager import KINDS, SYSTEMD
from pyrunc.linux.cgroups.v1 import manager as v1
from pyrunc.linux.cgroups.v2 import manager as v2
from pyrunc.linux.mounts.options import IDMAP, OPTIONS
from pyrunc.linux.namespaces import KINDS as NAMESPACES
from pyrunc.linux.seccomp import FLAGS
from pyrunc.linux.seccomp.compile import ACTIONS, ARCHITECTURES, OPERATORS
from pyrunc.validate import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

#: The oldest version of the specification whose configurations run.
OLDEST: Final = "1.0.0"


def document() -> dict[str, Any]:
    """The features document."""
    commit, libseccomp = build_facts()
    annotations = {
        # Engines ask under this name.
        "org.opencontainers.runc.checkpoint.enabled": "true" if "checkpoint" in FAMILIES else "false",
        "pyrunc.commit": commit,
        "pyrunc.version": __version__,
    }
    if libseccomp:
        annotations["io.github.seccomp.libseccomp.version"] = libseccomp
    resctrl = _has_room("intelRdt")
    return {
        "ociVersionMin": OLDEST,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(OPTIONS),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(NAMES),
            "cgroup": _cgroup(),
            "seccomp": _seccomp(),
            "apparmor": {"enabled": _has_room("apparmorProfile")},
            "selinux": {"enabled": _has_room("selinuxLabel") and _has_room("mountLabel")},
            "intelRdt": {
                "enabled": resctrl,
                "schemata": resctrl and "schemata" in intel_rdt.SHARES,
                "monitoring": resctrl and intel_rdt.MONITORING in intel_rdt.PLACE,
            },
            "mountExtensions": {
                "idmap": {"enabled": any(kind == IDMAP for kind, _, _ in OPTIONS.values())},
            },
            "memoryPolicy": {
                "modes": sorted(memory_policy.MODES),
                "flags": sorted(memory_policy.FLAGS),
            },
            "netDevices": {"enabled": _has_room("netDevices")},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": sorted(MEANINGS),
    }


def _has_room(name: str) -> bool:
    """Whether there is a room for this property of `process` or `linux`."""
    return any(name in properties and bool(check.room(room)) for room, _, properties in check.SELDOM)


def _cgroup() -> dict[str, Any]:
    systemd = SYSTEMD in KINDS
    return {
        **{f"v{manager.version}": True for manager in (v1.Manager, v2.Manager)},
        "systemd": systemd,
        "systemdUser": systemd,  # the same code, with another bus
        "rdma": "rdma" in resources.CONTROLLERS,
    }


def _seccomp() -> dict[str, Any]:
    return {
        "enabled": "seccomp" in check.ROOMS,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": sorted({f"SCMP_ARCH_{name}" for machine in ARCHITECTURES.values() for name in machine}),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": sorted(FLAGS),
    }


def text() -> str:
    """The document as indented JSON."""
    return dumps(document(), 4) + "\n"


def probed() -> str:
    """The document with an answer of this host in each place, as indented JSON."""
    from pyrunc.lifecycle.probe import probe

    return dumps(probe(document()), 4) + "\n"
