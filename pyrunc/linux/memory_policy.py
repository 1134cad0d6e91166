"""NUMA memory policy of the container process (config-linux.md "Memory policy"; set_mempolicy(2), numa(7))."""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM

from pyrunc.linux.cpu_affinity import ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from pyrunc.config.spec import Config, MemoryPolicy
    from pyrunc.plan.host import Host
    from pyrunc.plan.program import Program
    from pyrunc.validate.report import Report

#: The spec's modes, by their value in linux/mempolicy.h.
MODES: Final = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
#: The spec's flags, by their value in linux/mempolicy.h.
FLAGS: Final = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}
#: Modes that are for no nodes in particular, and those that are for some.
WITHOUT_NODES: Final = ("MPOL_DEFAULT", "MPOL_LOCAL")
WITH_NODES: Final = ("MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE")
#: The release that brought a mode; the oldest kernel that pyrunc runs on is older.
SINCE: Final = {"MPOL_PREFERRED_MANY": "5.15", "MPOL_WEIGHTED_INTERLEAVE": "6.9"}
#: One more than the highest node number that a kernel can be built for (NODES_SHIFT in arch/*/Kconfig).
NODES_MAX: Final = 1024
#: Nodes that have memory; all others the kernel leaves out of a policy without a word.
HAS_MEMORY: Final = "/sys/devices/system/node/has_memory"
_WHERE: Final = "linux.memoryPolicy"


def nodes_with_memory() -> frozenset[int]:
    """The NUMA nodes of this machine that have memory; empty where the kernel does not know of nodes."""
    try:
        with open(HAS_MEMORY, encoding="ascii") as file:
            return _numbers(file.read())
    except OSError:
        return frozenset()


def _numbers(text: str) -> frozenset[int]:
    found = ranges(text, NODES_MAX)
    return frozenset([node for first, last in found for node in range(first, last + 1)])


def check(config: Config, host: Host, report: Report) -> None:
    """Nodes where the mode wants some, none where not; flags that go together; and nodes that are there.

    That a node is missing is no error to the kernel, which uses the others; but then the policy would not be
    the one that was asked for.
    """
    policy = config["linux"]["memoryPolicy"]
    mode, flags, text = policy["mode"], policy.get("flags") or (), policy.get("nodes", "")
    try:
        nodes = _numbers(text)
    except ValueError as error:
        report.error(f"{_WHERE}.nodes", str(error), 'list nodes as in "0-3,7"')
        return
    if nodes and mode in WITHOUT_NODES:
        report.error(f"{_WHERE}.nodes", f"{mode} takes no nodes", "remove them or choose another mode")
    elif not nodes and mode in WITH_NODES:
        report.error(f"{_WHERE}.nodes", f"{mode} takes at least one node", 'list nodes as in "0-3,7"')
    _check_flags(mode, flags, nodes, report)
    missing = nodes - host.memory_nodes
    # Numbers of MPOL_F_RELATIVE_NODES count within the nodes that the cpuset allows, and wrap around.
    if missing and host.memory_nodes and "MPOL_F_RELATIVE_NODES" not in flags:
        there = ",".join([str(node) for node in sorted(host.memory_nodes)])
        shown = ",".join([str(node) for node in sorted(missing)])
        report.error(
            f"{_WHERE}.nodes", f"this machine has no memory on {shown}", f"nodes with memory: {there}"
        )


def _check_flags(mode: str, given: Sequence[str], nodes: frozenset[int], report: Report) -> None:
    where = f"{_WHERE}.flags"
    of_nodes = [flag for flag in ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES") if flag in given]
    if len(of_nodes) == 2:
        report.error(where, f"{of_nodes[0]} and {of_nodes[1]} exclude each other", "choose one")
    elif of_nodes and not nodes:
        report.error(where, f"{of_nodes[0]} is about nodes, and {mode} has none here", "remove it")
    if "MPOL_F_NUMA_BALANCING" in given and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        text = f"MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY, not with {mode}"
        report.error(where, text, "remove it")


def plan(config: Config, host: Host, program: Program) -> None:
    """Emit set_mempolicy(2)."""
    policy = config.get("linux", {}).get("memoryPolicy")
    if not policy:
        return
    mode = MODES[policy["mode"]]
    for name in policy.get("flags") or ():
        mode |= FLAGS[name]
    bits = sum([1 << node for node in _numbers(policy.get("nodes", ""))])
    words = (bits.bit_length() + 63) // 64
    nodes = program.data(bits.to_bytes(8 * words, "little")) if words else 0
    # The kernel takes one off the number of bits (get_nodes() in mm/mempolicy.c).
    size = 64 * words + 1 if words else 0
    step = f"set the memory policy to {_shown(policy)}"
    program.call("set_mempolicy", mode, nodes, size, step=step, of=_WHERE)


def _shown(policy: MemoryPolicy) -> str:
    nodes = policy.get("nodes", "")
    return policy["mode"] + (f" on {nodes}" if nodes else "")


def explain(config: Config, number: int) -> str:
    """What the kernel's errno leaves out."""
    policy = config["linux"]["memoryPolicy"]
    mode = policy["mode"]
    if number == ENOSYS:
        return "this kernel is built without CONFIG_NUMA; remove linux.memoryPolicy"
    if number == EPERM:
        return "a seccomp filter over pyrunc forbids set_mempolicy"
    if number != EINVAL:
        return ""
    if mode in SINCE:
        return f"{mode} takes Linux {SINCE[mode]}, and a node of those that the container's cpuset allows"
    if "MPOL_F_NUMA_BALANCING" in (policy.get("flags") or ()):
        return f"MPOL_F_NUMA_BALANCING with {mode} takes a kernel with CONFIG_NUMA_BALANCING"
    if policy.get("nodes"):
        return "none of these nodes is in the container's cpuset (linux.resources.cpu.mems)"
    return ""
