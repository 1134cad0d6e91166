"""The start-up budget: which modules each verb loads before it acts (docs/design.md, "Start-up").

A verb is started anew for every call, and a module costs a tenth of a millisecond where it is light and
five to fifteen where it is heavy. Whoever adds one here has measured it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _cffi_backend
import pytest

from pyrunc.lifecycle.liveness import start_time
from pyrunc.store.record import Record
from pyrunc.store.store import Store
from tests.support.payload import REPOSITORY

FORBIDDEN = {
    "argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "json",
    "jsonschema", "logging", "pathlib", "pyseccomp", "re", "shutil", "signal", "socket", "subprocess",
    "tempfile", "traceback", "typing", "warnings",
}  # fmt: skip
#: Of the standard library, over what the bare interpreter has loaded.
LIBRARY = {
    "__future__", "_collections_abc", "_json", "_stat", "errno", "fcntl", "gc", "genericpath", "os",
    "os.path", "posixpath", "select", "stat",
}  # fmt: skip
EVERY = {
    "pyrunc", "pyrunc.cli", "pyrunc.cli.main", "pyrunc.cli.options", "pyrunc.cli.parse", "pyrunc.cli.settings",
    "pyrunc.cli.verbs", "pyrunc.errors", "pyrunc.log", "pyrunc.store", "pyrunc.store.record", "pyrunc.store.root",
    "pyrunc.store.store",
}  # fmt: skip
STATUS = {
    "pyrunc.config", "pyrunc.config.load", "pyrunc.lifecycle", "pyrunc.lifecycle.liveness",
    "pyrunc.lifecycle.status",
}  # fmt: skip
QUERY = {*STATUS, "pyrunc.cli.verbs.query", "pyrunc.config.writer", "pyrunc.lifecycle.query"}
KILL = {
    *STATUS,
    "pyrunc.cli.verbs.lifecycle",
    "pyrunc.lifecycle.kill",
    "pyrunc.linux",
    "pyrunc.linux.signals",
}
VERBS = {
    "state one": QUERY,
    "list": QUERY,
    "list -q": QUERY,
    "kill one 0": KILL,
    "kill one TERM": KILL,
    "delete --force one": {*KILL, "pyrunc.lifecycle.delete"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def loaded(code: str) -> set[str]:
    script = (
        "import sys; bare = set(sys.modules)\n"
        f"sys.path[:0] = {[str(REPOSITORY), os.path.dirname(_cffi_backend.__file__)]!r}\n"
        f"{code}\n"
        "sys.stderr.write('\\n'.join(set(sys.modules) - bare))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_loads(root: Path, verb: str) -> None:
    child = subprocess.Popen(["sleep", "100"])
    try:
        with Store(str(root)).create("one") as directory:
            record = Record(
                "one", "/b", "/b/r", pid=child.pid, start_time=start_time(child.pid) or 0, ready=True
            )
            directory.save(record)
        words = ["--root", str(root), *verb.split()]
        modules = loaded(f"from pyrunc.cli.main import main\nassert main({words!r}) == 0")
    finally:
        child.kill()
        child.wait()
    allowed = EVERY | VERBS[verb] | LIBRARY | ({"pwd"} if verb == "list" else set())
    assert modules <= allowed, sorted(modules - allowed)
    assert VERBS[verb] <= modules, sorted(VERBS[verb] - modules)  # the list does not grow stale


@pytest.mark.parametrize(
    ("family", "module"),
    [("create", "create"), ("lifecycle", "start"), ("create", "run"), ("events", "events"), ("exec", "exec")],
)
def test_the_other_verbs_load_nothing_heavy(family: str, module: str) -> None:
    modules = loaded(f"import pyrunc.cli.main, pyrunc.cli.verbs.{family}, pyrunc.lifecycle.{module}")
    assert not modules & FORBIDDEN, sorted(modules & FORBIDDEN)


def test_the_cgroup_of_a_running_container_is_cheap_to_ask() -> None:
    modules = loaded(
        "from pyrunc.linux.cgroups.manager import restore\n"
        "import pyrunc.linux.cgroups.v1.stats, pyrunc.linux.cgroups.v2.stats"
    )
    assert not modules & FORBIDDEN, sorted(modules & FORBIDDEN)


def test_the_interpreter_itself_loads_nothing_of_ours() -> None:
    assert "PYTHONPATH" not in os.environ or loaded("") == set()
