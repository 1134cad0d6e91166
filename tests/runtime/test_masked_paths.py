"""`linux.maskedPaths` and `linux.readonlyPaths`: what of the root is hidden or read-only (config-linux.md)."""

from __future__ import annotations

import pytest

from tests.support.runtime import Runtime


def test_masked_paths(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "dir").mkdir()
    (bundle.rootfs / "area" / "dir" / "secret").write_text("x")
    (bundle.rootfs / "area" / "file").write_text("secret")
    bundle.linux["maskedPaths"] = ["/area/dir", "/area/file", "/area/missing", "/proc/interrupts"]
    said = runtime.ask(
        bundle,
        "ls /area/dir",
        "write /area/dir/x y",
        "read /area/file",
        "stat /area/file",
        "read /proc/interrupts",
    )
    assert said["ls /area/dir"] == []
    assert said["write /area/dir/x y"]["errno"] in ("EROFS", "EACCES")
    assert said["read /area/file"] == "" and said["read /proc/interrupts"] == ""
    assert said["stat /area/file"]["rdev"] == [1, 3]


def test_readonly_paths(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "area" / "file").write_text("x")
    bundle.linux["readonlyPaths"] = ["/area/file", "/proc/sys", "/missing", "/tmp"]
    said = runtime.ask(
        bundle,
        "append /area/file y",
        "write /area/other y",
        "write /proc/sys/kernel/hostname z",
        "write /tmp/x y",
    )
    assert said["append /area/file y"] == {"errno": "EROFS"}
    assert said["write /area/other y"] == 1
    assert said["write /proc/sys/kernel/hostname z"] == {"errno": "EROFS"}
    assert said["write /tmp/x y"] == {"errno": "EROFS"}


@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_relative_path_is_refused(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle()
    bundle.linux[name] = ["area"]
    runtime.run(bundle).fails(name)
