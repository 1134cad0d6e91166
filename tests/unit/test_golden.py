"""The program of every bundle in `bundles/`, compiled for one fixed host, compared with the text in tests/golden.

Above it stands what the runtime does outside of it: making and limiting the cgroup, and the resctrl group.

A change of a program is to be seen in review. `PYRUNC_UPDATE_GOLDEN=1 pytest tests/unit/test_golden.py` writes
the texts anew. `minimal` and `busybox` are whole; of the others all that differs from `minimal`. `exec` is the program
of a process that joins the container of the bundle `busybox`, with a user namespace, terminal and label.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.cgroups.layout import Hierarchy, Layout
from pyrunc.linux.cgroups.manager import choose
from pyrunc.linux.mounts.facts import is_bind, source_of
from pyrunc.linux.namespaces import KINDS
from pyrunc.plan import build
from pyrunc.plan import exec as exec_plan
from pyrunc.plan.host import Host
from tests.support import host_side
from tests.support.listing import RecordedProgram, listing
from tests.support.payload import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden"
BUNDLES = sorted(path.parent for path in (REPOSITORY / "bundles").glob("*/config.json"))
#: A host with cgroup v2 and every controller; and one with cgroup v1, for limits that only that has.
V2 = Layout(
    (),
    Hierarchy(
        "/sys/fs/cgroup",
        ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"),
        "/user.slice/session.scope",
    ),
)
V1 = Layout(
    tuple(
        Hierarchy(f"/sys/fs/cgroup/{names.partition(',')[0]}", tuple(names.split(",")), "/")
        for names in (
            "cpu,cpuacct",
            "cpuset",
            "memory",
            "devices",
            "freezer",
            "blkio",
            "pids",
            "net_cls,net_prio",
        )
    ),
    None,
)
ONLY_V1 = {"cgroups-v1", "cgroups-network"}
MINIMAL = REPOSITORY / "bundles" / "minimal"
WHOLE = {"minimal", "busybox"}
EXEC = "exec"


def host_for(config: Any, *, rootless: bool) -> Host:
    """The facts of a host that is the same wherever this test runs."""
    host = Host(1000 if rootless else 0, 1000 if rootless else 0, rootless, {})
    host.bundle = host.bundle_real = "/bundle"
    host.root = host.root_real = "/bundle/rootfs"
    host.root_mode = stat.S_IFDIR | 0o755
    for mount in config.get("mounts") or ():
        if is_bind(mount):
            host.sources[source_of(mount, host.bundle)] = stat.S_IFDIR | 0o755
    for entry in config["linux"]["namespaces"]:
        if path := entry.get("path"):
            host.namespaces[path] = KINDS[entry["type"]][0]
    return host


def compiled(bundle: Path, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> str:
    """What the runtime does on the host for a bundle's cgroup and resctrl group, then the listing of its program."""
    monkeypatch.setattr(build, "Program", RecordedProgram)
    config = json.loads((bundle / "config.json").read_text())
    rootless = bundle.name == "rootless"
    host = host_for(config, rootless=rootless)
    layout = V1 if bundle.name in ONLY_V1 else V2
    before = host_side.listing(config, layout, rootless, scratch / bundle.name, monkeypatch)
    manager = choose(config, "golden", layout, rootless)
    host.cgroups = manager.paths()
    # What libseccomp makes of a profile differs from version to version; here only its place matters.
    bpf = b"\x06\0\0\0\0\0\xff\x7f" if "seccomp" in config["linux"] else None
    choices = build.Choices(container_id="golden", keyring="_ses.golden", init=bundle.name == "init")
    program = build.compile_program(config, host, choices, bpf, manager)
    assert isinstance(program, RecordedProgram)
    return before + listing(program)


def beyond(minimal: str, text: str) -> str:
    """`text` with a mark in place of what stands in `minimal` too, and of that what is missing."""
    found = ["what differs from minimal.txt: - missing, + added, … the same"]
    for line in difflib.unified_diff(minimal.splitlines(), text.splitlines(), lineterm="", n=1):
        if line.startswith(("---", "+++")):
            continue
        found.append("…" if line.startswith("@@") else line)
    return "\n".join(found) + "\n"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_program_of_a_bundle_is_as_recorded(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = compiled(bundle, monkeypatch, tmp_path)
    if bundle.name not in WHOLE:
        text = beyond(compiled(MINIMAL, monkeypatch, tmp_path), text)
    golden = GOLDEN / f"{bundle.name}.txt"
    if os.environ.get("PYRUNC_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.exists(), "write it with PYRUNC_UPDATE_GOLDEN=1, and read it"
    assert text == golden.read_text(), "if this is meant, write it anew with PYRUNC_UPDATE_GOLDEN=1"


def joining(monkeypatch: pytest.MonkeyPatch) -> str:
    """The listing of a program of exec that has most of what one can have."""
    monkeypatch.setattr(exec_plan, "Program", RecordedProgram)
    config = json.loads((REPOSITORY / "bundles" / "busybox" / "config.json").read_text())
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 65536}
    ]
    config["process"] |= {
        "args": ["id"],
        "terminal": True,
        "user": {"uid": 5, "gid": 6},
        "noNewPrivileges": False,
        "oomScoreAdj": 5,
        "apparmorProfile": "confined",
        "execCPUAffinity": {"final": "0-1"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 2},
    }
    host = host_for(config, rootless=False)
    flags = sum(KINDS[kind][0] for kind in ("pid", "mount", "user", "network"))
    wanted = exec_plan.Joining(
        flags,
        keyring="_ses.golden",
        present={"RLIMIT_NOFILE": (512, 512), "RLIMIT_CORE": (0, 1)},
        early=True,
        filtered=True,
    )
    bpf = b"\x06\0\0\0\0\0\xff\x7f"
    program = exec_plan.compile_exec(config, host, wanted, bpf, choose(config, "golden", V1, False))
    assert isinstance(program, RecordedProgram)
    return listing(program)


def test_the_program_of_exec_is_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    text, golden = joining(monkeypatch), GOLDEN / f"{EXEC}.txt"
    if os.environ.get("PYRUNC_UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), "if this is meant, write it anew with PYRUNC_UPDATE_GOLDEN=1"


def test_no_golden_text_is_left_of_a_bundle_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {bundle.name for bundle in BUNDLES} | {EXEC}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_says_in_one_paragraph_what_it_shows(bundle: Path) -> None:
    title, paragraph = (bundle / "README.md").read_text().split("\n\n", 1)
    assert title == f"# {bundle.name}"
    assert "\n\n" not in paragraph.strip()
    assert len(paragraph.split()) > 10
