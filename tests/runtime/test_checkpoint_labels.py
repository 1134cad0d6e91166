"""restore: the label of a security module instead of that of the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrunc.linux.lsm import enabled
from tests.support.checkpointed import counting, goes_on
from tests.support.runtime import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("criu")]


@pytest.mark.parametrize("kind", ["apparmor", "selinux"])
def test_a_label_that_cannot_be_had(runtime: Runtime, images: Path, kind: str) -> None:
    """That it is asked for is seen from criu's refusal; without it the same images are restored."""
    bundle = runtime.bundle()
    container = counting(runtime, bundle)
    container.checkpoint(images).ok()
    before = runtime.footprint(bundle)
    container.restore(images, "--lsm-profile", f"{kind}:pyrunc-test-none")
    assert "criu failed: type RESTORE" in container.err
    if kind not in enabled():
        assert f"{kind} LSM specified but {kind} not supported by kernel" in container.err
    before.assert_unchanged(patience=10)
    container.truncate()
    container.restore(images).ok()
    goes_on(container)
