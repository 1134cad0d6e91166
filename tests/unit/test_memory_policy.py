"""`linux.memoryPolicy`: modes, nodes, flags and the call's arguments."""

from __future__ import annotations

import subprocess
from errno import EINVAL, ENOSYS, EPERM
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux import memory_policy
from pyrunc.plan.host import Host
from pyrunc.plan.program import ARENA, Program
from pyrunc.validate.report import Report

STATIC, RELATIVE, BALANCING = "MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING"


def config(mode: str, nodes: str = "", *flags: str) -> Any:
    return {"linux": {"memoryPolicy": {"mode": mode, "nodes": nodes, "flags": list(flags)}}}


def problems(given: Any, there: tuple[int, ...] = ()) -> list[str]:
    host = Host(0, 0, False, {})
    host.memory_nodes = frozenset(there)
    report = Report()
    memory_policy.check(given, host, report)
    return [f"{problem.path}: {problem.text}" for problem in report.problems]


@pytest.mark.parametrize(
    "given",
    [
        config("MPOL_DEFAULT"),
        config("MPOL_LOCAL"),
        config("MPOL_PREFERRED"),
        config("MPOL_PREFERRED", "0", STATIC),
        config("MPOL_BIND", "0-3,7", RELATIVE, BALANCING),
        config("MPOL_INTERLEAVE", " 0 , 1-1 "),
        config("MPOL_PREFERRED_MANY", "1", BALANCING),
        config("MPOL_WEIGHTED_INTERLEAVE", "1023"),
        {"linux": {"memoryPolicy": {"mode": "MPOL_LOCAL"}}},
    ],
)
def test_what_goes_together(given: Any) -> None:
    assert problems(given) == []


@pytest.mark.parametrize(
    "given,problem",
    [
        (config("MPOL_DEFAULT", "0"), "nodes: MPOL_DEFAULT takes no nodes"),
        (config("MPOL_LOCAL", "0"), "nodes: MPOL_LOCAL takes no nodes"),
        (config("MPOL_BIND"), "nodes: MPOL_BIND takes at least one node"),
        (config("MPOL_INTERLEAVE", ","), "nodes: MPOL_INTERLEAVE takes at least one node"),
        (config("MPOL_PREFERRED_MANY"), "nodes: MPOL_PREFERRED_MANY takes at least one node"),
        (config("MPOL_WEIGHTED_INTERLEAVE"), "nodes: MPOL_WEIGHTED_INTERLEAVE takes at least one node"),
        (config("MPOL_BIND", "1024"), "nodes: "),
        (config("MPOL_BIND", "2-1"), "nodes: "),
        (config("MPOL_BIND", "all"), "nodes: "),
        (config("MPOL_BIND", "0", STATIC, RELATIVE), "flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES"),
        (config("MPOL_LOCAL", "", STATIC), "flags: MPOL_F_STATIC_NODES is about nodes"),
        (config("MPOL_PREFERRED", "", RELATIVE), "flags: MPOL_F_RELATIVE_NODES is about nodes"),
        (config("MPOL_INTERLEAVE", "0", BALANCING), "flags: MPOL_F_NUMA_BALANCING goes with"),
    ],
)
def test_what_does_not(given: Any, problem: str) -> None:
    (found,) = problems(given)
    assert found.startswith(f"linux.memoryPolicy.{problem}")


def test_nodes_that_are_not_there() -> None:
    """The kernel would use node 0 alone without a word."""
    (found,) = problems(config("MPOL_BIND", "0,2-3"), there=(0, 1))
    assert found == "linux.memoryPolicy.nodes: this machine has no memory on 2,3"
    assert problems(config("MPOL_BIND", "0,2-3", RELATIVE), there=(0, 1)) == []


@pytest.mark.parametrize(
    "given,mode,mask",
    [
        (config("MPOL_DEFAULT"), 0, b""),
        (config("MPOL_BIND", "0,3"), 2, bytes([9]) + bytes(7)),
        (config("MPOL_INTERLEAVE", "64"), 3, bytes(8) + bytes([1]) + bytes(7)),
        (config("MPOL_BIND", "1", STATIC, BALANCING), 2 | 1 << 15 | 1 << 13, bytes([2]) + bytes(7)),
    ],
)
def test_the_call(given: Any, mode: int, mask: bytes) -> None:
    program = Program()
    memory_policy.plan(given, Host(0, 0, False, {}), program)
    ((name, args),) = program.calls
    assert (name, args[0]) == ("set_mempolicy", mode)
    assert args[2] == (8 * len(mask) + 1 if mask else 0)
    if mask:
        assert isinstance(args[1], int)
        raw = program.encode()
        arena = raw[2 * 4096 :]  # a header page, a page of steps
        assert arena[args[1] - ARENA :][: len(mask)] == mask


@pytest.mark.parametrize(
    "given,number,word",
    [
        (config("MPOL_DEFAULT"), ENOSYS, "CONFIG_NUMA"),
        (config("MPOL_DEFAULT"), EPERM, "seccomp"),
        (config("MPOL_BIND", "0"), EINVAL, "cpuset"),
        (config("MPOL_WEIGHTED_INTERLEAVE", "0"), EINVAL, "Linux 6.9"),
        (config("MPOL_BIND", "0", BALANCING), EINVAL, "CONFIG_NUMA_BALANCING"),
    ],
)
def test_the_kernels_refusals_are_explained(given: Any, number: int, word: str) -> None:
    assert word in memory_policy.explain(given, number)


def test_the_numbers_are_those_of_the_headers(tmp_path: Path) -> None:
    names = {**memory_policy.MODES, **memory_policy.FLAGS}
    del names[
        "MPOL_WEIGHTED_INTERLEAVE"
    ]  # an enumerator that the headers of Debian 12 (Linux 6.1) do not have
    lines = "\n".join(f'_Static_assert({name} == {value}, "{name}");' for name, value in names.items())
    (tmp_path / "numbers.c").write_text(f"#include <linux/mempolicy.h>\n{lines}\n")
    subprocess.run(["cc", "-c", "-o", tmp_path / "numbers.o", tmp_path / "numbers.c"], check=True)
