"""Control groups: a container's place, limits and processes (config-linux.md "Control groups").

`manager` chooses between `v1` and `v2` by the `layout` of the host; `resources` refuses what cannot be
carried out; `devices` turns device rules into what each version of cgroups holds.
"""

from __future__ import annotations

from pyrunc.linux.cgroups.resources import check

__all__ = ["check"]
