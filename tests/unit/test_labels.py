"""AppArmor profiles and SELinux labels: what is refused, and what is emitted where."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, EPERM
from typing import Any

import pytest

from pyrunc.config.annotations import MOUNT_CONTEXT_TYPE
from pyrunc.linux import apparmor, lsm, selinux
from pyrunc.linux.cgroups.layout import Hierarchy, Layout
from pyrunc.linux.cgroups.manager import choose
from pyrunc.linux.mounts.flags import Context
from pyrunc.plan.build import Choices, compile_program
from pyrunc.plan.host import Host
from pyrunc.plan.program import Program
from pyrunc.validate.report import Report

LABEL = "system_u:system_r:container_t:s0:c1,c2"
CONTEXT = "system_u:object_r:container_file_t:s0:c1,c2"


def host(*modules: str) -> Host:
    host = Host(0, 0, False, {})
    host.security_modules = frozenset(modules)
    return host


def config(mounts: Any = (), annotations: Any = None, linux: Any = None, **process: Any) -> Any:
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], **process},
        "mounts": list(mounts),
        "annotations": annotations or {},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}], **(linux or {})},
    }


def problems(room: Any, given: Any, *modules: str) -> list[str]:
    report = Report()
    room.check(given, host(*modules), report)
    return [str(problem) for problem in report.problems]


def test_a_profile_takes_apparmor() -> None:
    given = config(apparmorProfile="cri-containerd.apparmor.d")
    assert problems(apparmor, given, "apparmor") == []
    (found,) = problems(apparmor, given, "selinux")
    assert found.startswith("process.apparmorProfile: AppArmor is not enabled on this host")


@pytest.mark.parametrize("profile", ["", "unconfined"])
def test_without_apparmor_every_process_is_unconfined(profile: str) -> None:
    given = config(apparmorProfile=profile)
    assert problems(apparmor, given) == []
    program = Program()
    apparmor.plan(given, host(), program, program.register())
    assert len(program) == 0


def test_names_that_the_kernel_would_cut_off() -> None:
    assert "longer than" in problems(apparmor, config(apparmorProfile="x" * 4001), "apparmor")[0]
    assert "longer than" in problems(selinux, config(selinuxLabel="x" * 4001), "selinux")[0]
    assert "longer than" in problems(selinux, config(linux={"mountLabel": "x" * 256}), "selinux")[0]


def test_labels_take_selinux() -> None:
    given = config(selinuxLabel=LABEL, linux={"mountLabel": CONTEXT})
    assert problems(selinux, given, "selinux") == []
    found = problems(selinux, given, "apparmor")
    assert [text.partition(":")[0] for text in found] == ["process.selinuxLabel", "linux.mountLabel"]
    assert all("SELinux is disabled or not supported" in text for text in found)


def values(program: Program, name: str) -> list[Any]:
    """The arguments of every call of this name, addresses as the text they point to."""
    texts: dict[Any, str] = {address: text.decode() for text, address in program._interned.items()}
    return [[texts.get(word, word) for word in args] for called, args in program.calls if called == name]


def attributes(program: Program) -> list[str]:
    return [args[1] for args in values(program, "openat2") if str(args[1]).startswith("self/")]


def compiled(given: Any, keyring: str = "_ses.c") -> Program:
    facts = host("selinux", "apparmor")
    facts.root = facts.root_real = "/bundle/rootfs"
    manager = choose(given, "c", Layout((), Hierarchy("/sys/fs/cgroup", ("pids",), "/")), False)
    return compile_program(given, facts, Choices(container_id="c", keyring=keyring), None, manager)


def order(program: Program, *steps: str) -> list[int]:
    """Where the first step stands that begins with each of these words."""
    labels = [label for label, _ in program.texts]
    return [next(i for i, label in enumerate(labels) if label.startswith(step)) for step in steps]


def test_the_profile_is_asked_for_where_nothing_else_is_executed_before_it() -> None:
    hook = {"path": "/bin/true"}
    given = config(apparmorProfile="mine", noNewPrivileges=True)
    given["hooks"] = {"createContainer": [hook], "startContainer": [hook]}
    program = compiled(given)
    assert [args[1] for args in values(program, "write") if "exec" in str(args[1])] == ["exec mine"]
    found = order(
        program,
        "open a private procfs",
        "error running createContainer",
        "apply the AppArmor profile mine",
        "set no_new_privs",
        "error running startContainer",
    )
    assert found == sorted(found)


def test_the_keyring_gets_the_label_of_the_process() -> None:
    program = compiled(config(selinuxLabel=LABEL))
    found = order(
        program,
        f"label the session keyring {LABEL}",
        "join a new session",
        f"apply the SELinux label {LABEL}",
    )
    assert found == sorted(found)
    assert attributes(program) == ["self/attr/keycreate", "self/attr/exec"]
    program = compiled(config(selinuxLabel=LABEL), keyring="")
    assert attributes(program) == ["self/attr/exec"]


def test_no_procfs_is_opened_for_nothing() -> None:
    assert not values(compiled(config(linux={"mountLabel": CONTEXT})), "fsopen")


@pytest.mark.parametrize("kind", ["tmpfs", "devpts", "ext4", "overlay"])
def test_file_systems_get_the_mount_label(kind: str) -> None:
    given = config(linux={"mountLabel": CONTEXT})
    assert selinux.with_context(given, kind, [("a", None)]) == [("a", None), ("context", CONTEXT)]


@pytest.mark.parametrize("kind", ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"])
def test_file_systems_that_take_none(kind: str) -> None:
    assert selinux.with_context(config(linux={"mountLabel": CONTEXT}), kind, []) == []


def test_a_label_among_the_mounts_own_options_stays() -> None:
    given = config(linux={"mountLabel": CONTEXT})
    own = [("rootcontext", "a:b:c")]
    assert selinux.with_context(given, "tmpfs", own) == own


def test_the_annotation_of_crun_chooses_the_option() -> None:
    chosen = {MOUNT_CONTEXT_TYPE: "rootcontext"}
    given = config(linux={"mountLabel": CONTEXT}, annotations=chosen)
    assert selinux.with_context(given, "tmpfs", []) == [("rootcontext", CONTEXT)]
    given["annotations"] = {MOUNT_CONTEXT_TYPE: "wrong"}
    (found,) = problems(selinux, given, "selinux")
    assert "is no mount option for a label" in found


def test_every_mount_in_a_compiled_container() -> None:
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
    ]
    given = config(mounts, linux={"mountLabel": CONTEXT, "maskedPaths": ["/proc/acpi"]})
    program = compiled(given)
    labelled = [args for args in values(program, "fsconfig") if args[2] == "context"]
    assert len(labelled) == 2, "the tmpfs on /dev, and the one that hides paths"
    assert all(args[3] == CONTEXT for args in labelled)
    ((_, name, value, size, flags),) = values(program, "fsetxattr")
    assert (name, value, size, flags) == ("security.selinux", CONTEXT, len(CONTEXT), 0)


def test_the_kernels_refusals_are_explained() -> None:
    assert "apparmor_parser" in apparmor.explain(ENOENT)
    assert all(apparmor.explain(number) for number in (EACCES, EPERM, EINVAL))
    assert "policy does not know" in selinux.explain(EINVAL)
    assert "does not allow" in selinux.explain(EACCES)


def test_the_rooms_agree_on_the_modules() -> None:
    assert lsm.enabled() <= {lsm.APPARMOR, lsm.SELINUX} == Host(0, 0, False, {}).security_modules


def test_mount_2_is_told_a_label_with_categories_in_quotes() -> None:
    context = Context("tmpfs")
    context.settings = ["mode=755", "context=system_u:object_r:file_t:s0:c1,c2", "rw"]
    assert context.data() == 'mode=755,context="system_u:object_r:file_t:s0:c1,c2"'
    context.settings = ['rootcontext="system_u:object_r:file_t:s0:c1,c2"']
    assert context.data() == 'rootcontext="system_u:object_r:file_t:s0:c1,c2"'
