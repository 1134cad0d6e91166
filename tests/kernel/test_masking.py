"""Masked and read-only paths, made for real."""

from __future__ import annotations

import os
from errno import ENODEV
from pathlib import Path

from tests.kernel.test_mounts import MOUNTS, USER, options, own, table
from tests.support.interpreter import DEV, PROC, SYS, config_of, host_of, problems, run


def test_files_and_directories_are_hidden(bundle: Path) -> None:
    secret = bundle / "rootfs/secret"
    secret.mkdir()
    (secret / "inner").write_text("secret")
    (bundle / "rootfs/file").write_text("secret")
    masked = ["/secret", "/file", "/proc/keys", "/proc/acpi", "/sys/firmware", "/no/such/path", "/file/below"]
    script = (
        f"{MOUNTS}; /bin/busybox cat /file /proc/keys; ls -A /secret /proc/acpi; "
        "echo x > /secret/new 2>/dev/null || echo refused; /bin/busybox stat -c %t:%T /file"
    )
    outcome = run(config_of(PROC, DEV, SYS, maskedPaths=masked), bundle, script)
    assert outcome.failure == ""
    mounts = [line for line in outcome.lines if " - " in line]
    found = table(mounts)
    assert [line for line in outcome.lines if " - " not in line] == [
        "/proc/acpi:",
        "",
        "/secret:",
        "refused",
        "1:3",
    ]
    assert found["/secret"][2:4] == ["tmpfs", "tmpfs"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= options(mounts, "/secret")
    shared = {
        line.split()[2] for line in mounts if line.split()[4] in ("/secret", "/proc/acpi", "/sys/firmware")
    }
    assert len(shared) == 1, "one instance for all"
    assert "/no/such/path" not in found
    assert sum(1 for line in mounts if line.split()[4] == "/") == 1, "nothing stays on top of the root"
    assert (secret / "inner").read_text() == "secret"


def test_slashes_at_the_end_of_files(bundle: Path) -> None:
    (bundle / "rootfs/secret").write_text("secret")
    (bundle / "rootfs/fixed").write_text("fixed")
    config = config_of(PROC, DEV, maskedPaths=["/secret//"], readonlyPaths=["/fixed/"])
    outcome = run(config, bundle, f"/bin/busybox cat /secret; {MOUNTS}")
    assert outcome.failure == ""
    assert "ro" in options(outcome.lines, "/fixed")
    assert table(outcome.lines)["/secret"][2] == "tmpfs", "the container's /dev/null"


def test_read_only_paths_with_what_is_below(bundle: Path) -> None:
    inner = {"destination": "/data/inner", "type": "tmpfs", "source": "t"}
    (bundle / "rootfs/file").touch()
    readonly = ["/proc/sys", "/data", "/file", "/missing"]
    script = (
        f"{MOUNTS}; echo x > /proc/sys/kernel/hostname 2>/dev/null || echo one; "
        "echo x > /data/x 2>/dev/null || echo two; echo x > /file 2>/dev/null || echo three"
    )
    outcome = run(config_of(PROC, inner, readonlyPaths=readonly), bundle, script)
    assert outcome.failure == ""
    mounts = [line for line in outcome.lines if " - " in line]
    for path in ("/proc/sys", "/data", "/data/inner", "/file"):
        assert "ro" in options(mounts, path), path
    assert "rw" in options(mounts, "/proc")
    assert [line for line in outcome.lines if " - " not in line] == ["one", "two", "three"]


def test_masks_lie_on_top_of_read_only_paths(bundle: Path) -> None:
    config = config_of(PROC, DEV, maskedPaths=["/proc/sys/kernel"], readonlyPaths=["/proc/sys"])
    outcome = run(config, bundle, f"ls -A /proc/sys/kernel; {MOUNTS}")
    assert outcome.failure == ""
    assert len(outcome.lines) == len([line for line in outcome.lines if " - " in line])
    assert sum(1 for line in outcome.lines if line.split()[4] == "/proc/sys/kernel") == 1


def test_in_a_user_namespace(bundle: Path) -> None:
    own(bundle)
    config = config_of(
        PROC,
        DEV,
        SYS,
        maskedPaths=["/proc/keys", "/proc/acpi", "/sys/firmware", "/sys/kernel"],
        readonlyPaths=["/proc/sys"],
        **USER,
    )
    outcome = run(config, bundle, MOUNTS)
    assert outcome.failure == ""
    assert {"/proc/keys", "/proc/acpi", "/sys/firmware", "/sys/kernel", "/proc/sys"} <= set(
        table(outcome.lines)
    )


def test_a_null_device_that_is_none_hides_nothing(bundle: Path) -> None:
    """An image's own /dev/null, exchanged for a link, must not become a way to bind anything (CVE-2025-31133)."""
    (bundle / "mydev").mkdir()
    mount = {"destination": "/dev", "source": "mydev", "options": ["bind"]}
    for make in (
        lambda path: path.symlink_to("/proc/sysrq-trigger"),
        lambda path: path.touch(),
        os.mkfifo,
        lambda path: path.mkdir(),
    ):
        null = bundle / "mydev/null"
        make(null)
        outcome = run(config_of(PROC, mount, maskedPaths=["/proc/keys"]), bundle)
        assert outcome.number == ENODEV
        assert "/dev/null of the container is not the null device" in outcome.failure
        assert run(config_of(PROC, maskedPaths=["/proc/acpi"]), bundle).failure == "", "directories need none"
        null.rmdir() if null.is_dir() else null.unlink()
    outcome = run(config_of(PROC, mount, maskedPaths=["/proc/keys"]), bundle)
    assert outcome.number == ENODEV


def test_links_are_followed_inside_only(bundle: Path) -> None:
    (bundle / "rootfs/link").symlink_to("../../../../../../../etc")
    (bundle / "rootfs/magic").symlink_to("/proc/self/root")
    outcome = run(config_of(PROC, DEV, maskedPaths=["/link"]), bundle, MOUNTS)
    assert outcome.failure == ""
    assert "/etc" in table(outcome.lines)
    outcome = run(config_of(PROC, DEV, maskedPaths=["/magic"]), bundle, MOUNTS)
    assert outcome.failure == "hide /magic"


def test_many_paths(bundle: Path) -> None:
    paths = [f"/d/{index}" for index in range(450)]
    for path in paths:
        (bundle / f"rootfs{path}").mkdir(parents=True)
    outcome = run(config_of(PROC, maskedPaths=paths), bundle, MOUNTS)
    assert outcome.failure == ""
    assert set(paths) <= set(table(outcome.lines))


def test_rules(bundle: Path) -> None:
    config = config_of(namespaces=("pid",), maskedPaths=["/a"], readonlyPaths=["relative", "/x\0y"])
    found = problems(config, host_of(config, bundle))
    assert [problem.split(":")[0] for problem in found] == [
        "linux.maskedPaths",
        "linux.readonlyPaths",
        "linux.readonlyPaths[0]",
        "linux.readonlyPaths[1]",
    ]
