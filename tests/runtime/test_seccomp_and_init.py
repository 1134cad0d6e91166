"""What init still has to call under the container's own filter, and where a container starts at all."""

from __future__ import annotations

import subprocess

import pytest

from tests.runtime.test_seccomp import rule
from tests.support.runtime import Runtime

#: Loaded before init gives up CAP_SYS_ADMIN, a filter is over these calls of the rest of its way; runc needs
#: none of them there.
SPARED = (
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "close_range",
    "statx",
    "faccessat2",
    "openat2",
    "clone3",
)


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
@pytest.mark.parametrize("name", SPARED)
def test_a_profile_that_refuses_one_call(runtime: Runtime, name: str, errno: int) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", name, errnoRet=errno))
    bundle.process["noNewPrivileges"] = False
    bundle.ask("seccomp")
    container = runtime.container(bundle)
    container.create().ok()
    container.start().ok()
    assert runtime.ask(bundle, "seccomp")["seccomp"] == 2


def test_a_program_that_is_not_there_is_missed_without_statx_too(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "statx"))
    bundle.process.update(noNewPrivileges=False, args=["no-such-program"])
    runtime.run(bundle).fails('exec: "no-such-program": executable file not found in $PATH')


def test_what_start_needs_is_missed_at_create(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "accept4"))
    bundle.process["noNewPrivileges"] = False
    container = runtime.container(bundle.sleeper())
    container.create().fails("seccomp filter allows accept4")


def test_a_start_container_hook_is_under_the_filter(runtime: Runtime) -> None:
    bundle = runtime.bundle().seccomp("SCMP_ACT_ALLOW", rule("ERRNO", "keyctl"))
    bundle.process["noNewPrivileges"] = True
    bundle.hook(
        "startContainer",
        "grep -q '^Seccomp:.*2' /proc/self/status || { grep Seccomp /proc/self/status; exit 1; }",
    )
    runtime.run(bundle.ask("seccomp")).ok()


@pytest.mark.needs_root
@pytest.mark.parametrize("value", ["0", "1"])
def test_where_memfds_are_not_executable(runtime: Runtime, value: str) -> None:
    """vm.memfd_noexec belongs to the PID namespace (memfd_create(2))."""
    bundle = runtime.bundle().ask("pid")
    bundle.write()
    script = f'echo {value} > /proc/sys/vm/memfd_noexec && exec "$@"'
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"]
    container = runtime.container(bundle)
    done = subprocess.run(
        [
            *words,
            *runtime.command,
            "--root",
            str(runtime.root),
            "run",
            "--bundle",
            str(bundle.path),
            container.id,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
