"""Rules for the default devices: allowed unless the configuration denies them by name (v1 list files, v2 eBPF)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.limits import limited
from tests.support.runtime import Runtime
from tests.support.updating import answers, waiting, with_json

NOTHING = {"allow": False, "access": "rwm"}
EVERYTHING = {"allow": True, "access": "rwm"}
NO_ZERO = {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "rw"}
REFUSED = {"errno": "EPERM"}
QUESTIONS = ("open /dev/zero r", "open /dev/zero w", "open /dev/null rw", "open /dev/urandom r")


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("rules", "zero"),
    [
        pytest.param([EVERYTHING, NO_ZERO], REFUSED, id="all but one"),
        pytest.param([NOTHING, NO_ZERO], REFUSED, id="denied after nothing"),
        pytest.param([NO_ZERO], REFUSED, id="denied alone"),
        pytest.param([NO_ZERO, NOTHING], 0, id="nothing after it"),
        pytest.param([NO_ZERO, {**NO_ZERO, "allow": True}], 0, id="allowed again"),
    ],
)
def test_denied_by_name(runtime: Runtime, rules: list[Any], zero: Any) -> None:
    """config-linux.md "Allowed Device list": entries are applied in the listed order."""
    said = runtime.ask(limited(runtime, devices=rules), *QUESTIONS)
    assert [said[question] for question in QUESTIONS] == [zero, zero, 0, 0]


@pytest.mark.needs_root
def test_denied_by_name_while_it_runs(runtime: Runtime) -> None:
    bundle = limited(runtime, devices=[NOTHING])
    with runtime.running(waiting(bundle, "open /dev/zero r", "open /dev/null rw")) as container:
        container.says("first")
        with_json(container, {"devices": [NOTHING, NO_ZERO]}).ok()
        assert answers(container) == [0, 0, REFUSED, 0]
