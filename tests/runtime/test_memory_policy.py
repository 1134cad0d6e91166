"""`linux.memoryPolicy` (config-linux.md "Memory policy"), as the container's process finds it."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.linux.memory_policy import nodes_with_memory
from tests.support.bundle import PATH
from tests.support.payload import Testimony
from tests.support.runtime import Runtime

NODES = sorted(nodes_with_memory())
pytestmark = pytest.mark.skipif(not NODES, reason="the kernel is built without CONFIG_NUMA")
NODE = NODES[0] if NODES else 0
DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL, PREFERRED_MANY, WEIGHTED = range(7)
STATIC, RELATIVE, BALANCING = 1 << 15, 1 << 14, 1 << 13


def policy(runtime: Runtime, **wanted: Any) -> dict[str, int]:
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = wanted
    told: dict[str, int] = runtime.ask(bundle, "memory-policy")["memory-policy"]
    return told


@pytest.mark.parametrize(
    "name,mode,nodes,flags,number",
    [
        ("MPOL_DEFAULT", DEFAULT, "", [], 0),
        ("MPOL_LOCAL", LOCAL, "", [], 0),
        ("MPOL_PREFERRED", PREFERRED, str(NODE), [], 0),
        ("MPOL_PREFERRED", LOCAL, "", [], 0),  # set_mempolicy(2): local allocation
        ("MPOL_PREFERRED_MANY", PREFERRED_MANY, str(NODE), [], 0),
        ("MPOL_BIND", BIND, str(NODE), [], 0),
        ("MPOL_BIND", BIND, str(NODE), ["MPOL_F_STATIC_NODES"], STATIC),
        ("MPOL_BIND", BIND, "0", ["MPOL_F_RELATIVE_NODES"], RELATIVE),
        ("MPOL_BIND", BIND, str(NODE), ["MPOL_F_NUMA_BALANCING"], BALANCING),
        ("MPOL_INTERLEAVE", INTERLEAVE, str(NODE), [], 0),
        ("MPOL_WEIGHTED_INTERLEAVE", WEIGHTED, str(NODE), ["MPOL_F_STATIC_NODES"], STATIC),
    ],
)
def test_modes_and_flags(
    runtime: Runtime, name: str, mode: int, nodes: str, flags: list[str], number: int
) -> None:
    found = policy(runtime, mode=name, nodes=nodes, flags=flags)
    assert found == {"mode": mode, "flags": number, "nodes": 1 << NODE if nodes else 0}


def test_every_node_of_the_machine(runtime: Runtime) -> None:
    found = policy(runtime, mode="MPOL_INTERLEAVE", nodes=",".join(map(str, NODES)))
    assert found["nodes"] == sum(1 << node for node in NODES)


def test_under_a_filter_that_forbids_it(runtime: Runtime) -> None:
    """Docker's profile does; the policy is set before, and a user namespace is no obstacle."""
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": str(NODE)}
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["set_mempolicy"], "action": "SCMP_ACT_ERRNO"}],
    }
    bundle.linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    assert runtime.ask(bundle, "memory-policy")["memory-policy"]["mode"] == BIND


def test_create_container_hooks_are_not_meant(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": str(NODE)}
    area, tell = bundle.rootfs / "area", bundle.rootfs / "bin" / "testify"
    script = f"{tell} memory-policy > {area}/told"
    bundle.config["hooks"] = {
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [PATH]}]
    }
    runtime.run(bundle.ask("pid")).ok()
    assert Testimony((area / "told").read_text())["memory-policy"]["mode"] == DEFAULT


@pytest.mark.parametrize(
    "wanted,words",
    [
        ({"mode": "MPOL_WRONG"}, "linux.memoryPolicy.mode"),
        ({"nodes": "0"}, "linux.memoryPolicy"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WRONG"]}, "linux.memoryPolicy.flags[0]"),
        ({"mode": "MPOL_DEFAULT", "nodes": "0"}, "MPOL_DEFAULT takes no nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "MPOL_LOCAL takes no nodes"),
        ({"mode": "MPOL_BIND"}, "MPOL_BIND takes at least one node"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": ""}, "MPOL_INTERLEAVE takes at least one node"),
        ({"mode": "MPOL_BIND", "nodes": "0-"}, "linux.memoryPolicy.nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0,1000"}, "no memory on 1000"),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
            "MPOL_F_NUMA_BALANCING",
        ),
    ],
)
def test_what_is_no_policy_is_refused(runtime: Runtime, wanted: dict[str, Any], words: str) -> None:
    bundle = runtime.bundle()
    bundle.linux["memoryPolicy"] = wanted
    before = runtime.footprint(bundle)
    runtime.run(bundle).fails(words)
    before.assert_unchanged()
