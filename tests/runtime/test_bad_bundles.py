"""Bad bundles: no directory, names that nobody knows, places and limits that the host refuses."""

from __future__ import annotations

import pytest

from tests.support.bad_input import Case

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("verb", ["create", "run"])
def test_no_bundle(case: Case, verb: str) -> None:
    case.before()  # type: ignore[attr-defined]
    runtime = case.runtime
    outcome = runtime.verb(verb, "--bundle", "/no/such/bundle", runtime.new_id())
    assert outcome.fails("/no/such/bundle", "no such file or directory").status == 1


def test_bundle_is_a_file(case: Case) -> None:
    (case.folder / "plain").write_text("")
    case.before()  # type: ignore[attr-defined]
    case.runtime.verb("create", "--bundle", str(case.folder / "plain"), case.runtime.new_id()).fails(
        "plain", "not a directory"
    )


@pytest.mark.parametrize("kind", ["bounding", "effective", "permitted", "inheritable", "ambient"])
@pytest.mark.parametrize("name", ["CAP_NOSUCH", "chown", "CAP_CHOWN "])
def test_unknown_capability(case: Case, kind: str, name: str) -> None:
    """Stricter than config.md, which wants a warning: a misspelt name is a mistake of the configuration."""
    case.bundle.process["capabilities"][kind] = ["CAP_KILL", name]
    case.before()  # type: ignore[attr-defined]
    case.create().fails(f"process.capabilities.{kind}[1]", name)


def test_unknown_system_call(case: Case) -> None:
    """A name that no Linux has is a misspelt one; those of newer kernels are tested in test_seccomp.py."""
    case.bundle.seccomp("SCMP_ACT_ALLOW", {"names": ["keyctl", "nosuchcall"], "action": "SCMP_ACT_ERRNO"})
    case.before()  # type: ignore[attr-defined]
    case.create().fails("linux.seccomp.syscalls[0].names[1]", "nosuchcall")


def test_missing_cwd_is_made(case: Case) -> None:
    """As runc and crun do: a missing working directory is made, mode 0755, owned by root."""
    case.bundle.process["cwd"] = "/no/such/place"
    case.before()  # type: ignore[attr-defined]
    assert case.runtime.ask(case.bundle, "cwd")["cwd"] == "/no/such/place"


def test_missing_cwd_that_cannot_be_made(case: Case) -> None:
    case.bundle.process["cwd"] = "/no/such/place"
    (case.folder / "source").mkdir()
    case.bundle.bind(case.folder / "source", "/no", "bind", "ro")
    case.before()  # type: ignore[attr-defined]
    case.create().fails("/no/such", "read-only file system")


@pytest.mark.parametrize("target", ["absolute", "dots"])
def test_destination_through_a_link_out(case: Case, target: str) -> None:
    """A link of the image is the image's: it is followed below its root, and the host is not touched."""
    victim = case.folder / "victim"
    victim.mkdir()
    (case.rootfs / "evil").symlink_to(str(victim) if target == "absolute" else "../" * 30 + str(victim))
    case.bundle.mount("/evil/made", "tmpfs", "tmpfs")
    case.before()  # type: ignore[attr-defined]
    said = case.runtime.ask(case.bundle, "mounts")["mounts"]
    assert f" {victim}/made " in said
    assert list(victim.iterdir()) == []


@pytest.mark.needs_root
def test_cgroup_path_is_not_writable(case: Case) -> None:
    """The cgroup file systems are read-only here (a nested container, say)."""
    script = (
        "for m in $(grep -o '/sys/fs/cgroup/[a-z_,]*' /proc/self/mounts); do mount -o remount,bind,ro $m; done; "
        'mount -o remount,bind,ro /sys/fs/cgroup 2>/dev/null; exec "$@"'
    )
    twin = case.runtime.like()
    twin.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    case.before()  # type: ignore[attr-defined]
    id = case.runtime.new_id()
    outcome = twin.verb("create", "--bundle", twin.put(case.bundle, id), id)
    outcome.fails("cgroup", "read-only file system")


@pytest.mark.parametrize("limit", [4, 16, 64, 128])
def test_memory_limit_too_low_to_start(case: Case, limit: int) -> None:
    """The message says what the reason is; `limit` in KiB."""
    case.config["linux"]["resources"] = {"memory": {"limit": limit << 10}}
    case.before()  # type: ignore[attr-defined]
    case.runtime.run(case.bundle).fails("memory limit", "too low")
