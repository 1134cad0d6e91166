"""`make test-vm`: a clean copy of the tree, built in the guest, and the tests whose result depends on the host's kind.

tests/unit, tests/native, tests/golden and tests/fuzz stay out: they ask nothing of the kernel that depends on
cgroups, systemd or a security module, so `make test` on any host has their result.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.payload import REPOSITORY
from tests.vm import machine
from tests.vm.image import say
from tests.vm.machine import Machine
from tests.vm.recipe import SECURITY, TREE, USER

#: Seconds from the first boot to the last test; what is left then is not run, and the status is 124.
DEADLINE = 4500

#: How many tests of a part may fail and be run again; if more fail, something is wrong.
AGAIN_MAX = 10

#: Where the results are put: one JUnit file for each part, with the reason of every skip.
RESULTS = REPOSITORY / "build" / "test-vm"

_RUNTIME = "/usr/local/bin/pyrunc"
_SETTINGS = {
    "PYRUNC_RUNTIME": _RUNTIME,
    "PYRUNC_MUST_RUN": "1",
    "PYRUNC_TEST_PATIENCE": "6",  # everything waits that much longer before it gives up
}
_PYTEST = [".venv/bin/python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "--timeout", "600"]


@dataclass(frozen=True)
class Part:
    """One run of pytest in the guest."""

    name: str
    tests: tuple[str, ...]
    user: str = "root"
    around: tuple[str, ...] = ()
    security: str = "apparmor"
    settings: dict[str, str] = field(default_factory=dict)

    def command(self, more: Sequence[str], *, again: bool = False, short: bool = False) -> list[str]:
        """The words to run there; `again`: only what has just failed, one after the other; `short`: without ALIKE."""
        env = [f"{name}={value}" for name, value in {**_SETTINGS, **self.settings}.items()]
        result = ["-o", f"cache_dir=/var/tmp/pytest-{self.user}"]
        result += (
            ["--last-failed", "--last-failed-no-failures", "none", "-n", "0"]
            if again
            else [f"--junitxml={self.result()}"]
        )
        tests = [name for name in self.tests if name not in ALIKE] if short else self.tests
        left = [f"--ignore={name}" for name in ALIKE] if short else []
        return [*self.around, "env", *env, *_PYTEST, *result, *left, *(more or tests)]

    def result(self) -> str:
        """The file in the guest that says how it went."""
        return f"/var/tmp/{self.name}.xml"


_SYSTEMD = {"PYRUNC_TEST_CGROUP_MANAGER": "systemd"}


def _runtime(names: str) -> tuple[str, ...]:
    return tuple(f"tests/runtime/test_{name}.py" for name in names.split())


#: With systemd as the cgroup manager: what makes, joins, limits, freezes or removes cgroups.
_MANAGED = _runtime(
    "cgroup_block_io cgroup_limits_bite cgroups cgroups_v2 concurrency default_device_rules events events_cgroups"
    " events_stats exec exec_cgroups lifecycle pause_resume prune ps run state_and_list update update_devices"
    " update_failures update_inside update_order"
)

#: As an ordinary user: what such a container is refused or granted otherwise than root's.
_ROOTLESS = _runtime(
    "cgroup_limits_bite cgroups concurrency events events_cgroups events_stats exec exec_cgroups exec_limits"
    " exec_namespaces exec_security hooks init_process init_rights init_services init_start init_terminal lifecycle"
    " mounts_verb mounts_verb_refused pause_resume prune ps run seccomp_and_init state_and_list systemd_cgroup"
    " terminal update update_devices update_failures update_inside update_order update_systemd"
)

_PODMAN = tuple(
    f"tests/engines/test_{name}.py"
    for name in "podman docker_and_podman running_containers exec quadlet".split()
)

#: With the other cgroup manager: what of podman and docker is about cgroups.
_LIMITED = tuple(
    f"tests/engines/test_docker_and_podman.py::test_{name}"
    for name in "memory pids_limit cpu devices".split()
)

#: A cgroup that systemd has delegated to the user: where containers go with the cgroupfs manager.
_DELEGATED = ("systemd-run", "--user", "--scope", "--quiet", "--property", "Delegate=yes")

#: Labels that Debian's policy has for containers.
_LABELS = {
    "PYRUNC_TEST_SELINUX_PROCESS": "system_u:system_r:container_t:s0:c1,c2",
    "PYRUNC_TEST_SELINUX_MOUNT": "system_u:object_r:container_file_t:s0:c1,c2",
}

#: What is left out with --short: it is about the command line, config.json, paths, mounts or one process, and has met
#: no other result on another kind of host since the whole was last run.
ALIKE = _runtime(
    "annotations bad_bundles bad_ids bad_input bad_moments bundles checkpoint_agreement checkpoint_files"
    " checkpoint_labels checkpoint_memory checkpoint_mounts checkpoint_namespaces checkpoint_sockets"
    " checkpoint_stdio completion copy_up delete_anything descriptors devices exec_limits exec_namespaces"
    " exec_terminal features_probe hooks hostile_images idmapped_mounts init_process init_rights init_services"
    " init_start init_terminal intel_rdt killed_create log log_daemons masked_paths memory_policy mount_options"
    " mount_options_without_effect mount_sources mounts mounts_verb mounts_verb_all_or_nothing mounts_verb_hostile"
    " mounts_verb_refused mounts_verb_user_namespace named_hierarchies namespaces net_devices no_cgroup old_mounts"
    " process root rootfs_propagation scheduling sd_notify sd_notify_reload seccomp seccomp_and_init"
    " seccomp_notify several_containers terminal user_namespace"
)

PARTS = (
    Part("runtime", ("tests/kernel", "tests/runtime")),
    Part("runtime-systemd", _MANAGED, settings=_SYSTEMD),
    Part("rootless", _ROOTLESS, user=USER, settings=_SYSTEMD),
    Part(
        "rootless-cgroupfs",
        _runtime("lifecycle cgroup_limits_bite pause_resume"),
        user=USER,
        around=_DELEGATED,
    ),
    Part("engines", ("tests/engines",), settings=_SYSTEMD),
    Part("engines-cgroupfs", _LIMITED),
    Part("podman-rootless", _PODMAN, user=USER, settings=_SYSTEMD),
    Part("podman-rootless-cgroupfs", _LIMITED, user=USER, around=_DELEGATED),
    Part(
        "selinux",
        ("tests/kernel/test_labels.py", *_runtime("labels keyring bundles lifecycle")),
        security="selinux",
        settings=_LABELS,
    ),
)

#: Why a test may be skipped in the guest; a test that gives another reason could have run there, and fails the run.
SKIPS = (
    r"this host has cgroup v2(, which may delegate to ordinary users| only, where these do not exist)?",
    r"this host has cgroup v2, where a frozen process can be killed",
    r"this host (lacks no controller|has systemd|has (no )?AppArmor|has (no )?SELinux|labels processes)",
    r"this host has no real-time budgets of cgroups",
    r"this host's tests run as root, who may do all",
    r"the kernel is older than the newest of these calls",
    r"this host has no cgroup v1",
    r"this host has CAP_SYS_RESOURCE, so no (limit|score) is refused",
)


@dataclass
class Tally:
    """How a part went. `late`: what failed has passed when it was run again."""

    name: str
    status: int
    seconds: float
    tests: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    late: bool = False
    skips: dict[str, list[str]] = field(default_factory=dict)

    def line(self) -> str:
        """For people."""
        skipped = sum(map(len, self.skips.values()))
        passed = self.tests - self.failed - skipped
        word = (
            f"status {self.status}"
            if self.status
            else "ok, the failed ones at the second try"
            if self.late
            else "ok"
        )
        return (
            f"{self.name:18} {passed:5} passed {self.failed:4} failed {skipped:4} skipped"
            f" {self.seconds / 60:5.1f} min  {word}"
        )


def run(
    parts: Sequence[str] | None, lifetime: float, arguments: Sequence[str], *, short: bool = False
) -> int:
    """Run these parts (none: all), with `arguments` for pytest in place of the tests of each; gives the exit status.

    `short`: without what is alike on every kind of host.
    """
    begun = time.monotonic()
    if machine.build():
        say(f"the image took {time.monotonic() - begun:.0f} s")
    deadline = time.monotonic() + lifetime
    chosen = [part for part in PARTS if not parts or part.name in parts]
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    tallies: list[Tally] = []
    for security in SECURITY:
        wanted = [part for part in chosen if part.security == security]
        if wanted and (status := _run_parts(security, wanted, deadline, arguments, tallies, short)):
            return status
    return _verdict(tallies)


def _run_parts(
    security: str,
    parts: Sequence[Part],
    deadline: float,
    arguments: Sequence[str],
    tallies: list[Tally],
    short: bool,
) -> int:
    """Boot a guest for these parts, build there and run them; gives the exit status of the build."""
    begun = time.monotonic()
    lifetime = max(1.0, deadline - begun)
    with machine.started(f"test-{os.getpid()}", lifetime=lifetime, bound=True, security=security) as guest:
        say(f"boot {time.monotonic() - begun:.0f} s ({security})")
        if status := _build(guest):
            return status
        for part in parts:
            command = part.command(arguments, short=short)
            tallies.append(_run_part(guest, part, command, deadline - time.monotonic(), arguments))
    return 0


def _build(guest: Machine) -> int:
    """Bring the tree to the guest and install pyrunc there; gives the exit status."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as archive:
        _pack(archive.fileno())
        unpack = ["tar", "xf", "-", "-C", TREE, "--no-same-owner"]
        status = guest.execute(unpack, stdin=archive.fileno())
    payload = (
        ".venv/bin/python -c 'from tests.support import payload; payload.testify()'"  # for the ordinary user
    )
    make = ["sh", "-c", f"make --silent install && {payload}"]
    status = status or guest.execute(make, folder=TREE, stdin=subprocess.DEVNULL)
    say(f"copy, build and install {time.monotonic() - begun:.0f} s")
    return status


def _pack(archive: int) -> None:
    """Write what git knows or would add, as it is now: a clean copy, with changes that are not committed yet."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    with os.fdopen(os.dup(archive), "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name in sorted(set(filter(None, names.split("\0")))):
            path = REPOSITORY / name
            if os.path.lexists(path):  # else removed, but not yet from the index
                tar.add(path, arcname=name, recursive=False)
    os.lseek(archive, 0, os.SEEK_SET)


def _run_part(
    guest: Machine, part: Part, command: list[str], remaining: float, arguments: Sequence[str]
) -> Tally:
    say(f"{part.name}: as {part.user}, {' '.join(arguments or part.tests)} {part.settings or ''}")
    begun = time.monotonic()
    limit = max(1.0, remaining - 30)  # the rest is for telling what was found
    status = guest.execute(command, part.user, folder=TREE, timeout=limit, stdin=subprocess.DEVNULL)
    kept = RESULTS / f"{part.name}.xml"
    with open(kept, "wb") as file:
        guest.execute(["cat", part.result()], part.user, folder="/", stdin=subprocess.DEVNULL, stdout=file)
    tally = Tally(part.name, status, time.monotonic() - begun)
    _count(tally, kept)
    if status == 1 and 0 < tally.failed <= AGAIN_MAX:
        # An emulated machine stands still now and then for longer than a test allows for. What is wrong stays so.
        say(f"{part.name}: the failed ones once more, alone")
        command = part.command(arguments, again=True)
        limit = max(1.0, limit - (time.monotonic() - begun))
        tally.status = guest.execute(command, part.user, folder=TREE, timeout=limit, stdin=subprocess.DEVNULL)
        tally.late = tally.status == 0
        tally.seconds = time.monotonic() - begun
    return tally


def _count(tally: Tally, result: Path) -> None:
    try:
        cases = list(ET.parse(result).iter("testcase"))
    except ET.ParseError:
        return  # pytest did not come to its end; its status says so
    for case in cases:
        tally.tests += 1
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
            tally.failures.append(name)
        skip = case.find("skipped")
        if skip is not None:
            tally.skips.setdefault(skip.get("message", ""), []).append(name)


def _verdict(tallies: Sequence[Tally]) -> int:
    """Say how each part went and what was skipped; gives the exit status."""
    print("\nskipped in the guest, and why:")
    unwanted: list[str] = []
    for tally in tallies:
        for reason, names in sorted(tally.skips.items()):
            print(f"  {tally.name}: {len(names)} × {reason}")
            if not any(re.fullmatch(allowed, reason) for allowed in SKIPS):
                unwanted += [f"{name}: {reason}" for name in names]
    print("\nthe guest: cgroup v2, systemd, AppArmor or SELinux")
    for tally in tallies:
        print(f"  {tally.line()}")
    for tally in tallies:
        if tally.late:
            print(f"\n{tally.name}: failed among the others, passed alone:")
            print("\n".join(f"  {name}" for name in tally.failures))
    if unwanted:
        print(
            "\nskipped, though the guest could run them (or SKIPS of tests/vm/suite.py must know the reason):"
        )
        print("\n".join(f"  {line}" for line in unwanted))
    return max((tally.status for tally in tallies), default=0) or bool(unwanted)
