"""What `prune` says."""

from __future__ import annotations

import json
from typing import Any

from tests.support.runtime import Runtime


def prune(runtime: Runtime, *flags: str) -> list[dict[str, Any]]:
    """What `prune` says, as JSON."""
    found: list[dict[str, Any]] = json.loads(runtime.verb("prune", "--format", "json", *flags).ok().out)
    return found


def actions(found: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """What kind of thing of which container is, or would be, treated how."""
    return {(entry["kind"], entry["id"], entry["action"]) for entry in found}
