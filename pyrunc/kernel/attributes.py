"""Attributes of the runtime's own process (prctl(2)), through python-prctl.

Its C extension is imported by itself: the Python module around it costs 3 ms.
"""

from __future__ import annotations

from _prctl import PR_SET_CHILD_SUBREAPER, prctl


def become_subreaper() -> None:
    """Get the orphans of this process's descendants as children (PR_SET_CHILD_SUBREAPER)."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
