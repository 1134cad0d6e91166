"""features: what this pyrunc supports (runtime-spec features.md), taken from the tables that carry it out.

Fixed by the build, never probed: what a host lacks is found when a container needs it. A property that this
version refuses is not announced.
"""

from __future__ import annotations

from pyrunc import SPEC_VERSION, __version__
from pyrunc.cli.help import build_facts
from pyrunc.config.annotations import MEANINGS
from pyrunc.config.writer import dumps
from pyrunc.linux import memory_policy
from pyrunc.linux.capabilities import NAMES
from pyrunc.linux.mounts.options import OPTIONS
from pyrunc.linux.namespaces import KINDS as NAMESPACES
from pyrunc.linux.seccomp import FLAGS
from pyrunc.linux.seccomp.compile import ACTIONS, ARCHITECTURES, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

HOOKS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
#: The oldest version of the specification whose configurations run.
OLDEST: Final = "1.0.0"


def document() -> dict[str, Any]:
    """The features document."""
    commit, libseccomp = build_facts()
    annotations = {
        "org.opencontainers.runc.checkpoint.enabled": "true",  # engines ask under this name
        "pyrunc.commit": commit,
        "pyrunc.version": __version__,
    }
    if libseccomp:
        annotations["io.github.seccomp.libseccomp.version"] = libseccomp
    return {
        "ociVersionMin": OLDEST,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(OPTIONS),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "memoryPolicy": {
                "modes": sorted(memory_policy.MODES),
                "flags": sorted(memory_policy.FLAGS),
            },
            "netDevices": {"enabled": True},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": sorted(MEANINGS),
    }


def _seccomp() -> dict[str, Any]:
    return {
        "enabled": True,
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
