"""How long tests wait before they give up: time limits are written for an idle host, and stretched on a slow one."""

from __future__ import annotations

import os

#: PYRUNC_TEST_PATIENCE, 1 if it is not set: by how much all limits of the tests themselves are stretched.
FACTOR = float(os.environ.get("PYRUNC_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """The limit on this host for what takes so many seconds on an idle one. Not for limits that pyrunc is given."""
    return seconds * FACTOR
